# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What training, evaluation and planning ask of prompts and models alike."""

from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from trl import is_conversational


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: list[Any], chat_template_kwargs: dict[str, Any] | None = None
) -> list[list[int]]:
    """
    Tokens of prompts, text or messages. Messages that end with one of the assistant are continued: a completion is the rest
    of that message. After any other the assistant's turn begins.
    """
    if not is_conversational({"prompt": prompts[0]}):
        ids: list[list[int]] = tokenizer(prompts)["input_ids"]
        return ids
    continues = [prompt[-1]["role"] == "assistant" for prompt in prompts]
    tokenized: dict[int, list[int]] = {}
    for continue_final in set(continues):
        rows = [row for row, continued in enumerate(continues) if continued == continue_final]
        encoded = tokenizer.apply_chat_template(
            [prompts[row] for row in rows],
            add_generation_prompt=not continue_final,
            continue_final_message=continue_final,
            tokenize=True,
            return_dict=True,
            **(chat_template_kwargs or {}),
        )
        tokenized |= dict(zip(rows, encoded["input_ids"], strict=True))
    return [tokenized[row] for row in range(len(prompts))]


def find_max_positions(config: PreTrainedConfig) -> int | None:
    """Longest row of a model; `None` for one without a limit (state space models, ALiBi)."""
    config = config.get_text_config()
    name = config.attribute_map.get("max_position_embeddings", "max_position_embeddings")  # GPT-2 calls it otherwise
    limit: int | None = config.to_dict().get(name)
    return limit
