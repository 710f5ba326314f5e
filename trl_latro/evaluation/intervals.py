# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A metric's 95 % interval: a bootstrap over questions. Pure functions on arrays. Q questions, R resamples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


RESAMPLES = 10_000
_CHUNK = 500  # resamples at a time: memory stays at 500 x Q numbers

Floats = NDArray[np.float64]


class Metric(NamedTuple):
    """
    A metric's value and its 95 % interval.

    Args:
        value (`float`): The value.
        low (`float`): Lower end of the interval.
        high (`float`): Upper end of the interval.
    """

    value: float
    low: float
    high: float


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
    """The middle 95 % of resampled values."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def mean_metric(values: Floats, seed: int = 0) -> Metric:
    """Mean of the questions' values `(Q,)` with its interval."""
    resampled = bootstrap_sums(values[:, None].astype(float), seed)[:, 0] / len(values)
    return Metric(float(values.mean()), *percentile_interval(resampled))
