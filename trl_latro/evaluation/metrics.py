# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Figures per question and their intervals: pure functions on arrays. Q questions, n samples, R resamples."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..grading import Grade, majority_accuracy


RESAMPLES = 10_000
_CHUNK = 500  # resamples at a time: memory stays at 500 x Q numbers

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """
    A figure and its 95 % interval.

    Args:
        value (`float`): The figure.
        low (`float`): Lower end of the interval.
        high (`float`): Upper end of the interval.
    """

    value: float
    low: float
    high: float


def pass_at_k(correct: NDArray[np.bool_], k: int) -> Floats:
    """
    Probability that one of k samples is right: `1 - C(n - c, k) / C(n, k)` with c right ones of n, which is unbiased.

    Args:
        correct (`NDArray`): Whether each sample is right, `(Q, n)`.
        k (`int`): Samples, at most n.
    """
    n = correct.shape[1]
    at_least_one = np.array([1 - comb(n - c, k) / comb(n, k) for c in range(n + 1)])
    return at_least_one[correct.sum(1)]  # (Q,)


def majority_at_k(grades: Sequence[list[Grade]], k: int) -> Floats:
    """
    Accuracy of the majority of k samples, the mean over the n // k groups of k consecutive samples.

    Args:
        grades (`Sequence[list[Grade]]`): Verdicts on each question's samples, `(Q, n)`.
        k (`int`): Samples, at most n.
    """
    return np.array(
        [
            np.mean([majority_accuracy(row[start : start + k]) for start in range(0, len(row) - k + 1, k)])
            for row in grades
        ]
    )


def bootstrap_sums(columns: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """
    Sums over resampled questions, `(R, M)`. The same seed and Q draw the same questions: differences are paired.

    Args:
        columns (`NDArray`): Values of the questions, `(Q, M)`.
        seed (`int`): Seed of the draw.
        resamples (`int`, *optional*, defaults to `10000`): R.
    """
    questions = len(columns)
    rng = np.random.default_rng(seed)
    sums = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        drawn = rng.integers(questions, size=(size, questions)) + questions * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * questions).reshape(size, questions)  # (chunk, Q)
        sums.append(counts @ columns)
    return np.concatenate(sums)


def percentile_interval(resampled: Floats) -> tuple[float, float]:
    """The middle 95 % of resampled figures."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def mean_estimate(values: Floats, seed: int = 0) -> Estimate:
    """Mean of the questions' values `(Q,)` with its interval."""
    resampled = bootstrap_sums(values[:, None].astype(float), seed)[:, 0] / len(values)
    return Estimate(float(values.mean()), *percentile_interval(resampled))


def paired_difference(first: Floats, second: Floats, seed: int = 0) -> Estimate:
    """Mean of `second - first`, both `(Q,)` over the same questions, with its interval."""
    return mean_estimate(second.astype(float) - first.astype(float), seed)
