# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What training, evaluation and planning ask of prompts and models alike."""

from typing import Any

import torch
from accelerate.utils import gather
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


def fit_answer_budget(
    budget: int,
    prompt_ids: list[list[int]],
    max_completion_length: int,
    max_positions: int | None,
    device: torch.device,
) -> int:
    """
    Tokens that completions can go on for after their rationales, at most the largest `budget` of all processes. It is the same
    on all, so that a completion does not depend on which of them samples it.
    """
    own = torch.tensor([[budget, max(map(len, prompt_ids))]], device=device)
    budget, longest_prompt = gather(own).amax(0).tolist()
    return budget if max_positions is None else min(budget, max_positions - longest_prompt - max_completion_length)


def find_max_positions(config: PreTrainedConfig) -> int | None:
    """Longest row of a model; `None` for one without a limit (state space models, ALiBi)."""
    config = config.get_text_config()
    name = config.attribute_map.get("max_position_embeddings", "max_position_embeddings")  # GPT-2 calls it otherwise
    limit: int | None = config.to_dict().get(name)
    return limit
