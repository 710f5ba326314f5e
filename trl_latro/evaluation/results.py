# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""From generations to figures with their intervals."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..grading import Grade
from .metrics import Estimate, Floats, bootstrap_sums, majority_at_k, pass_at_k, percentile_interval


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
        answer (`str`):
            Reference answer.
        completion (`str`):
            What the model wrote, up to its end token.
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
            Sampled tokens up to where the rationale's end shows: with its end token, or the whole stop string. `None`
            if it did not end.
        answer_logp (`float`):
            Log-prob of the reference answer after the rationale.
        answer_tokens (`int`):
            Tokens of that answer.
        answer_logp_none (`float`, *optional*):
            The same right after the prompt. This and the following are in greedy lines only.
        answer_tokens_none (`int`, *optional*):
            Tokens of that answer.
        answer_logp_gold (`float`, *optional*):
            The same after the gold rationale, where the dataset has one.
        answer_tokens_gold (`int`, *optional*):
            Tokens of that answer.
    """

    batch: int
    question: int
    kind: Literal["greedy", "sample"]
    sample: int
    prompt: str | list[dict[str, str]]
    answer: str
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

    def grade(self) -> Grade:
        return Grade(self.extracted, self.correct, self.vote)


class Measure(NamedTuple):
    """
    A figure before its interval: `sum(numerator) / sum(denominator)` over questions, or its exponential.

    Args:
        numerator (`NDArray`): One value per question, `(Q,)`.
        denominator (`NDArray`): One value per question, `(Q,)`; ones for a mean.
        exponential (`bool`, *optional*, defaults to `False`): Whether it is a perplexity.
    """

    numerator: Floats
    denominator: Floats
    exponential: bool = False

    def of_sums(self, numerators: Floats, denominators: Floats) -> Floats:
        ratio = numerators / denominators
        return np.exp(ratio) if self.exponential else ratio


class Estimates(NamedTuple):
    """Figures, and the same over resampled questions `(R,)`."""

    values: dict[str, float]
    resampled: dict[str, Floats]

    def with_intervals(self) -> dict[str, Estimate]:
        return {
            name: Estimate(value, *percentile_interval(self.resampled[name])) for name, value in self.values.items()
        }


def powers_of_two_up_to(largest: int) -> list[int]:
    """2, 4, 8, ... and `largest`."""
    powers = [2**exponent for exponent in range(1, largest.bit_length()) if 2**exponent < largest]
    return [*powers, largest] if largest > 1 else []


def measures(generations: list[Generation], max_completion_length: int) -> dict[str, Measure]:
    """
    Every figure by its name, in the order of a report.

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

    def mean(values: Sequence[float] | Floats) -> Measure:
        per_question = np.reshape(np.asarray(values, dtype=float), (questions, -1)).mean(1)
        return Measure(per_question, np.ones(questions))

    found = {f"{kind}_accuracy": mean([one.correct for one in ones]) for kind, ones in kinds.items()}
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
        found[f"answer_perplexity_{name}"] = Measure(-logps, tokens, exponential=True)

    # What generation with a shorter limit would have given: the same tokens, cut off
    for kind, ones in kinds.items():
        for limit in powers_of_two_up_to(max_completion_length):
            within = [one.correct and one.tokens_to_end is not None and one.tokens_to_end <= limit for one in ones]
            found[f"{kind}_accuracy_within_{limit}_tokens"] = mean(within)
    return found


def estimate(found: dict[str, Measure], seed: int) -> Estimates:
    """Figures and their bootstrap over questions. With the same seed and questions, two runs' resamples are paired."""
    columns = np.stack([column for one in found.values() for column in (one.numerator, one.denominator)], axis=1)
    sums = bootstrap_sums(columns, seed)  # (R, 2M)
    values, resampled = {}, {}
    for index, (name, one) in enumerate(found.items()):
        values[name] = float(one.of_sums(one.numerator.sum(), one.denominator.sum()))
        resampled[name] = one.of_sums(sums[:, 2 * index], sums[:, 2 * index + 1])
    return Estimates(values, resampled)


def summarize(generations: list[Generation], max_completion_length: int, seed: int) -> dict[str, Estimate]:
    """Figures with 95 % intervals, see [`measures`]."""
    return estimate(measures(generations, max_completion_length), seed).with_intervals()
