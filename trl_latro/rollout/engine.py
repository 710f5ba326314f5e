# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The interface of engines that sample completions."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from ..truncation import Rationale, Truncator


class Sampled(NamedTuple):
    """
    Tokens that an engine has sampled after a prompt.

    Args:
        ids (`list[int]`):
            Tokens, with the EOS token if there was one. Padding and any other tokens may follow.
        logps (`list[float | None]`, *optional*):
            Log-probs of these tokens under the distribution that they were drawn from, `None` where the engine does not
            give them. One that is `None` was NaN.
    """

    ids: list[int]
    logps: list[float | None] | None = None


class Completion(NamedTuple):
    """
    A sampled completion.

    Args:
        ids (`list[int]`):
            All tokens: to the EOS token, or to the stop string and the answer behind it.
        sampled_ids (`list[int]`):
            The beginning of `ids` that sampling without an answer budget gives: to the EOS token, the end of the stop
            string or the length limit.
        rationale ([`~trl_latro.truncation.Rationale`]):
            `sampled_ids` truncated where the rationale ends.
        text (`str`):
            Text of `ids`, without the EOS token.
        graded_text (`str`):
            The same without a block of thinking: where the completion's own answer stands.
        logps (`list[float | None]`, *optional*):
            The engine's log-probs of `ids`.
    """

    ids: list[int]
    sampled_ids: list[int]
    rationale: Rationale
    text: str
    graded_text: str
    logps: list[float | None] | None

    def as_one(self) -> "Completion":
        """
        The same with all of it as the rationale, with the EOS token: what is trained on where no reference answer follows.
        One that ran into the length limit ends there.
        """
        ids = self.ids if self.rationale.finished else self.sampled_ids
        return self._replace(sampled_ids=ids, rationale=Rationale(ids, "", self.rationale.finished))


class RolloutEngine(ABC):
    """
    Samples completions from the policy.

    A subclass implements [`generate`]. It need not stop at a stop string: [`roll_out`] truncates.

    Args:
        truncator ([`~trl_latro.truncation.Truncator`]):
            Where a rationale ends.
        max_tokens (`int`):
            Longest rationale.
    """

    def __init__(self, truncator: Truncator, max_tokens: int):
        self.truncator = truncator
        self.max_tokens = max_tokens

    @abstractmethod
    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        """
        Sample one completion for each prompt.

        Args:
            prompt_ids (`list[list[int]]`):
                Tokens of the prompts. The `num_generations` times that a prompt is sampled for stand next to each other.
            num_generations (`int`):
                Samples per prompt.
            answer_budget (`int`):
                Tokens that a completion goes on for after the beginning of its answer, and after `max_tokens`. 0: it ends with
                its rationale.
        """

    def roll_out(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int = 0) -> list[Completion]:
        """Sample one completion for each prompt and truncate it; the arguments are those of [`generate`]."""
        completions = []
        sampled = self.generate(prompt_ids, num_generations, answer_budget)
        for prompt, (ids, logps) in zip(prompt_ids, sampled, strict=True):
            is_open = self.truncator.is_open_after(prompt)
            ids = self.truncator.without_padding(ids, is_open)
            sampled_ids = self.truncator.until_end(ids[: self.max_tokens] if answer_budget > 0 else ids, is_open)
            rationale = self.truncator.truncate(sampled_ids, is_open)
            text = self.truncator.decode(self.truncator.until_eos(ids))
            graded_text = self.truncator.behind_thinking(text, is_open)
            logps = None if logps is None else logps[: len(ids)]
            completions.append(Completion(ids, sampled_ids, rationale, text, graded_text, logps))
        return completions
