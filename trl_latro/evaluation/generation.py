# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One completion with its verdict, as an evaluation keeps it."""

from typing import Literal, NamedTuple

from ..grading import Grade


class Generation(NamedTuple):
    """
    One completion with its verdict: a line of the generations file.

    Args:
        batch (`int`):
            Number of the batch that it was made in.
        question (`int`):
            Row of the dataset.
        kind (`"greedy"` or `"sample"`):
            How it was decoded.
        sample (`int`):
            Number of the sample.
        prompt (`str` or `list[dict[str, str]]`):
            Prompt, text or messages.
        answer (`str` or `list[str]`):
            Reference answer, or a list where several are right.
        completion (`str`):
            What the model wrote, up to its EOS token.
        extracted (`str`, *optional*):
            Answer found in the completion. `None` where there is none or the rationale did not end.
        correct (`bool`):
            Whether it is the reference answer.
        vote (`str`, *optional*):
            What a majority vote counts.
        finished (`bool`):
            Whether the rationale ended within the length limit.
        rationale_tokens (`int`):
            Tokens of the rationale.
        tokens_to_end (`int`, *optional*):
            Sampled tokens up to where the rationale's end shows: with its EOS token, or the whole stop string. `None`
            if it did not end.
        answer_logp (`float`):
            Log-prob of the reference answer after the rationale; of several, the log of the sum of their probabilities.
        answer_tokens (`int`):
            Tokens of that answer; of several, of the likeliest.
        answer_logp_none (`float`, *optional*):
            The same right after the prompt. This and the following are in greedy lines only.
        answer_tokens_none (`int`, *optional*):
            Tokens of that answer.
        answer_logp_gold (`float`, *optional*):
            The same after the gold rationale, where the dataset has one.
        answer_tokens_gold (`int`, *optional*):
            Tokens of that answer.
        flexible_extracted (`str`, *optional*):
            Answer for the flexible accuracy: `extracted`, and where that is `None` the last number, option or formula.
        flexible_correct (`bool`, *optional*):
            Whether that is the reference answer. `None` in files of versions without the flexible accuracy.
    """

    batch: int
    question: int
    kind: Literal["greedy", "sample"]
    sample: int
    prompt: str | list[dict[str, str]]
    answer: str | list[str]
    completion: str
    extracted: str | None
    correct: bool
    vote: str | None
    finished: bool
    rationale_tokens: int
    tokens_to_end: int | None
    answer_logp: float
    answer_tokens: int
    answer_logp_none: float | None = None
    answer_tokens_none: int | None = None
    answer_logp_gold: float | None = None
    answer_tokens_gold: int | None = None
    flexible_extracted: str | None = None
    flexible_correct: bool | None = None

    def grade(self) -> Grade:
        return Grade(self.extracted, self.correct, self.vote)
