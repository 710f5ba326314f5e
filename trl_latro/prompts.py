# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What training, evaluation and planning ask of prompts and models alike."""

from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from trl import is_conversational


def tokenize_prompts(tokenizer: PreTrainedTokenizerBase, prompts: list[Any]) -> list[list[int]]:
    """Tokens of prompts, text or messages, as the trainer makes them."""
    if is_conversational({"prompt": prompts[0]}):
        ids: list[list[int]] = tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
    else:
        ids = tokenizer(prompts)["input_ids"]
    return ids


def find_max_positions(config: PreTrainedConfig) -> int | None:
    """Longest row of a model; `None` for one without a limit (state space models, ALiBi)."""
    config = config.get_text_config()
    name = config.attribute_map.get("max_position_embeddings", "max_position_embeddings")  # GPT-2 calls it otherwise
    limit: int | None = config.to_dict().get(name)
    return limit
