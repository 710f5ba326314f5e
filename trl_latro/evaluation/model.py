# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A model as an evaluation sees it: it completes prompts, and says how likely an answer is. Another engine is one more file.

A rationale may have at most L tokens. Each completion goes on for `answer_budget` tokens after the rationale's stop
string, so that there is an answer to grade.
"""

from typing import NamedTuple, Protocol

from transformers import GenerationConfig, PreTrainedTokenizerBase


class ScoredRow(NamedTuple):
    """
    What an answer is scored after, and the answer.

    Args:
        prompt (`list[int]`): Tokens of the prompt.
        rationale (`list[int]`): Tokens of the rationale.
        answer (`list[int]`): Tokens of the answer.
    """

    prompt: list[int]
    rationale: list[int]
    answer: list[int]


class EvaluatedModel(Protocol):
    """What an evaluation needs of a model."""

    eos_token_ids: list[int]

    def generate(
        self, prompt_ids: list[list[int]], num_samples: int, greedy: bool, seed: int
    ) -> list[list[list[int]]]:
        """`num_samples` completions of each prompt, without prompt and padding, with the EOS token if there was one."""
        ...

    def answer_logps(self, rows: list[ScoredRow]) -> list[float]:
        """Log-prob of each answer after its prompt and rationale, summed over tokens."""
        ...


def find_eos_token_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All EOS tokens of a model, as TRL finds them: those of the generation config and the tokenizer's own."""
    declared = generation_config.eos_token_id
    tokens = [declared] if isinstance(declared, int) else list(declared or [])
    return tokens if tokenizer.eos_token_id in tokens else [tokenizer.eos_token_id, *tokens]
