# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Which completions are generated together, fixed before anything is generated."""

from typing import Literal, NamedTuple

import numpy as np


class Batch(NamedTuple):
    """
    Completions that are generated together.

    Args:
        number (`int`): Its position in the plan.
        kind (`"greedy"` or `"sample"`): How it is decoded.
        questions (`list[int]`): Question of each completion.
        samples (`list[int]`): Number of each completion among its question's.
    """

    number: int
    kind: Literal["greedy", "sample"]
    questions: list[int]
    samples: list[int]

    def seed(self, seed: int) -> int:
        """Seed of this batch: the same in every process, and after any stop."""
        return int(np.random.SeedSequence((seed, self.number)).generate_state(1)[0])


def plan_batches(prompt_lengths: list[int], num_samples: int, batch_size: int) -> list[Batch]:
    """
    All batches, before anything is generated: prompts of like length together, the longest first, so that what does not fit
    into memory shows at once.

    Args:
        prompt_lengths (`list[int]`):
            Tokens of each question's prompt.
        num_samples (`int`):
            Samples per question, besides the greedy completion.
        batch_size (`int`):
            Completions that are generated together.
    """
    order = sorted(range(len(prompt_lengths)), key=lambda question: -prompt_lengths[question])
    kinds: dict[Literal["greedy", "sample"], list[tuple[int, int]]] = {
        "greedy": [(question, 0) for question in order],
        "sample": [(question, sample) for question in order for sample in range(num_samples)],
    }
    batches: list[Batch] = []
    for kind, rows in kinds.items():
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            batches.append(Batch(len(batches), kind, [row[0] for row in chunk], [row[1] for row in chunk]))
    return batches
