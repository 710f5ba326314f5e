# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The metrics of an evaluation, question by question: pure functions on generations and arrays. Q questions, n samples.

Another metric is one more entry of [`question_metrics`]; its interval comes with it.
"""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..grading import Grade, majority_accuracy
from .generation import Generation
from .intervals import Floats, Metric, bootstrap_sums, percentile_interval


class QuestionMetric(NamedTuple):
    """
    A metric of each question, before its interval: `sum(numerator) / sum(denominator)` over questions, or its exponential.

    Args:
        numerator (`NDArray`): One value per question, `(Q,)`.
        denominator (`NDArray`): One value per question, `(Q,)`; ones for a mean.
        exponential (`bool`, *optional*, defaults to `False`): Whether it is a perplexity.
    """

    numerator: Floats
    denominator: Floats
    exponential: bool = False

    @property
    def value(self) -> float:
        """The metric over all questions."""
        return float(self.of_sums(self.numerator.sum(), self.denominator.sum()))

    def of_sums(self, numerators: Floats, denominators: Floats) -> Floats:
        """The metric of sums over questions, of any shape."""
        ratio = numerators / denominators
        return np.exp(ratio) if self.exponential else ratio


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


def powers_of_two_up_to(largest: int) -> list[int]:
    """2, 4, 8, ... and `largest`."""
    powers = [2**exponent for exponent in range(1, largest.bit_length()) if 2**exponent < largest]
    return [*powers, largest] if largest > 1 else []


def question_metrics(generations: list[Generation], max_completion_length: int) -> dict[str, QuestionMetric]:
    """
    Every metric by its name, in the order of a report.

    Args:
        generations (`list[Generation]`):
            One greedy completion of each question and equally many samples of each, in any order.
        max_completion_length (`int`):
            L, the longest rationale that they were made with.
    """
    generations = sorted(generations, key=lambda one: (one.question, one.sample))
    greedy = [one for one in generations if one.kind == "greedy"]
    samples = [one for one in generations if one.kind == "sample"]
    questions = len(greedy)
    num_samples = len(samples) // questions
    kinds = {"greedy": greedy} | ({"sample": samples} if samples else {})

    def mean(values: Sequence[float] | Floats) -> QuestionMetric:
        per_question = np.reshape(np.asarray(values, dtype=float), (questions, -1)).mean(1)
        return QuestionMetric(per_question, np.ones(questions))

    found = {f"{kind}_accuracy": mean([one.correct for one in ones]) for kind, ones in kinds.items()}
    found |= {
        f"{kind}_flexible_accuracy": mean([bool(one.flexible_correct) for one in ones])
        for kind, ones in kinds.items()
        if all(one.flexible_correct is not None for one in ones)  # lines of older versions have no such reading
    }
    correct = np.array([one.correct for one in samples], dtype=bool).reshape(questions, num_samples)
    grades = [[one.grade() for one in samples[q * num_samples : (q + 1) * num_samples]] for q in range(questions)]
    for k in powers_of_two_up_to(num_samples):
        found[f"maj@{k}"] = mean(majority_at_k(grades, k))
    for k in powers_of_two_up_to(num_samples):
        found[f"pass@{k}"] = mean(pass_at_k(correct, k))
    found |= {f"{kind}_finished": mean([one.finished for one in ones]) for kind, ones in kinds.items()}
    found |= {f"{kind}_rationale_tokens": mean([one.rationale_tokens for one in ones]) for kind, ones in kinds.items()}

    # (log-prob, tokens) of the answer after each kind of rationale, (Q, n)
    likelihoods: dict[str, list[tuple[float | None, int | None]]] = {
        f"{kind}_rationale": [(one.answer_logp, one.answer_tokens) for one in ones] for kind, ones in kinds.items()
    }
    if all(one.answer_logp_gold is not None for one in greedy):
        likelihoods["gold_rationale"] = [(one.answer_logp_gold, one.answer_tokens_gold) for one in greedy]
    likelihoods["no_rationale"] = [(one.answer_logp_none, one.answer_tokens_none) for one in greedy]
    for name, pairs in likelihoods.items():
        found[f"answer_logp_{name}"] = mean(np.array(pairs, dtype=float)[:, 0])
    for name, pairs in likelihoods.items():
        # perplexity = exp(- sum of log-probs / number of tokens), over all questions and samples
        logps, tokens = np.array(pairs, dtype=float).reshape(questions, -1, 2).sum(1).T  # (Q,) each
        found[f"answer_perplexity_{name}"] = QuestionMetric(-logps, tokens, exponential=True)

    # What generation with a shorter limit would have given: the same tokens, truncated
    for kind, ones in kinds.items():
        for limit in powers_of_two_up_to(max_completion_length):
            within = [one.correct and one.tokens_to_end is not None and one.tokens_to_end <= limit for one in ones]
            found[f"{kind}_accuracy_within_{limit}_tokens"] = mean(within)
    return found


def resample(found: dict[str, QuestionMetric], seed: int) -> dict[str, Floats]:
    """Each metric over resampled questions, `(R,)`. With the same seed and questions, two runs' resamples are paired."""
    columns = np.stack([column for one in found.values() for column in (one.numerator, one.denominator)], axis=1)
    sums = bootstrap_sums(columns, seed)  # (R, 2M)
    return {
        name: one.of_sums(sums[:, 2 * index], sums[:, 2 * index + 1])
        for index, (name, one) in enumerate(found.items())
    }


def summarize(generations: list[Generation], max_completion_length: int, seed: int) -> dict[str, Metric]:
    """Metrics with their 95 % intervals, see [`question_metrics`]."""
    found = question_metrics(generations, max_completion_length)
    resampled = resample(found, seed)
    return {name: Metric(one.value, *percentile_interval(resampled[name])) for name, one in found.items()}
