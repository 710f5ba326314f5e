# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the answer gets right after the prompt: the rationales are worth what it gets beyond that."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .rollout.engine import Completion
from .several_answers import logp_of_any_answer
from .truncation import Truncator


EVERY = 10  # rollouts
PROMPTS = 8  # of each process, at most


def logps_without_rationale(
    prompts: list,
    answers: list,
    prompt_ids: list[list[int]],
    size: int,
    truncator: Truncator,
    pack: Callable[[list, list, list[list[int]], list[Completion]], dict[str, Tensor]],
    score: Callable[[dict[str, Tensor]], Tensor],
) -> Tensor:
    """
    Log-probs of the answers' own tokens without a rationale, `(B,)`, for the samples of the first prompts of this process;
    NaN for the others.

    Args:
        prompts (`list`), answers (`list`), prompt_ids (`list[list[int]]`):
            Of each sample of this process, those of a prompt adjacent.
        size (`int`):
            Rows of a forward. There is one in each process, as many as in the others.
        truncator ([`~trl_latro.truncation.Truncator`]):
            How a rationale without tokens is written.
        pack (`Callable`), score (`Callable`):
            The trainer's: from prompts, answers and completions to rows, and to their log-probs `(B, L)`.
    """
    of_prompt: list[Any] = [*zip(prompt_ids, answers, strict=True)]
    starts = [row for row, this in enumerate(of_prompt) if row == 0 or this != of_prompt[row - 1]]
    ends = [*starts[1:], len(answers)]
    starts = starts[: min(size, PROMPTS)]
    rationales = [truncator.no_rationale(truncator.is_open_after(prompt_ids[row])) for row in starts]
    batch = pack(
        [prompts[row] for row in starts],
        [answers[row] for row in starts],
        [prompt_ids[row] for row in starts],
        [Completion([], [], rationale, text="", graded_text="", logps=None) for rationale in rationales],
    )
    logps = logp_of_any_answer(score(batch), batch["own_mask"], batch["answer_index"])  # (S,)
    of_rows = logps.new_full((len(answers),), math.nan)  # (B,)
    for start, end, logp in zip(starts, ends, logps, strict=False):
        of_rows[start:end] = logp
    return of_rows
