# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Metrics and intervals against slow and plain computations."""

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest

from trl_latro.evaluation.generation import Generation
from trl_latro.evaluation.intervals import bootstrap_sums, mean_metric
from trl_latro.evaluation.metrics import majority_at_k, pass_at_k, powers_of_two_up_to, question_metrics, summarize
from trl_latro.grading import Grade


def generation(question: int, kind: str, sample: int, vote: str | None, end: int | None, logp: float) -> Generation:
    """A completion for a question whose answer is "7"."""
    greedy = kind == "greedy"
    return Generation(
        batch=0,
        question=question,
        kind=kind,
        sample=sample,
        prompt="?",
        answer="7",
        completion="",
        extracted=vote,
        correct=vote == "7",
        vote=vote,
        finished=end is not None,
        rationale_tokens=10 if end is None else end - 3,
        tokens_to_end=end,
        answer_logp=logp,
        answer_tokens=2 + question,
        answer_logp_none=-9.0 if greedy else None,
        answer_tokens_none=3 if greedy else None,
        answer_logp_gold=-1.0 - question if greedy else None,
        answer_tokens_gold=3 if greedy else None,
        flexible_extracted=vote or "7",
        flexible_correct=vote in ("7", None),
    )


GENERATIONS = [
    generation(0, "greedy", 0, "7", 5, -1.0),
    generation(0, "sample", 0, "7", 4, -1.0),
    generation(0, "sample", 1, "8", 4, -2.0),
    generation(0, "sample", 2, "7", 9, -3.0),
    generation(0, "sample", 3, None, None, -4.0),
    generation(1, "greedy", 0, "3", 5, -2.0),
    generation(1, "sample", 0, None, None, -6.0),
    generation(1, "sample", 1, "8", 5, -6.0),
    generation(1, "sample", 2, "8", 6, -6.0),
    generation(1, "sample", 3, "7", 8, -6.0),
]


def test_every_metric_is_what_one_computes_by_hand() -> None:
    shuffled = [GENERATIONS[index] for index in np.random.default_rng(0).permutation(len(GENERATIONS))]
    found = {name: metric.value for name, metric in summarize(shuffled, max_completion_length=10, seed=0).items()}
    expected = {
        "greedy_accuracy": 1 / 2,
        "sample_accuracy": (2 / 4 + 1 / 4) / 2,
        "greedy_flexible_accuracy": 1 / 2,
        "sample_flexible_accuracy": (3 / 4 + 2 / 4) / 2,
        # question 0: (7, 8) is a tie, (7, -) is right; question 1: (-, 8) is wrong, (8, 7) is a tie
        "maj@2": ((1 / 2 + 1) / 2 + (0 + 1 / 2) / 2) / 2,
        "maj@4": (1 + 0) / 2,
        # 2 and 1 right ones of 4: no pair without one of them in 1 and 3 of 6
        "pass@2": ((1 - 1 / 6) + (1 - 3 / 6)) / 2,
        "pass@4": 1.0,
        "greedy_finished": 1.0,
        "sample_finished": 6 / 8,
        "greedy_rationale_tokens": 2.0,
        "sample_rationale_tokens": (1 + 1 + 6 + 10 + 10 + 2 + 3 + 5) / 8,
        "answer_logp_greedy_rationale": -1.5,
        "answer_logp_sample_rationale": (-10 / 4 - 24 / 4) / 2,
        "answer_logp_gold_rationale": -1.5,
        "answer_logp_no_rationale": -9.0,
        "answer_perplexity_greedy_rationale": np.exp(3 / (2 + 3)),
        "answer_perplexity_sample_rationale": np.exp(34 / (4 * 2 + 4 * 3)),
        "answer_perplexity_gold_rationale": np.exp(3 / 6),
        "answer_perplexity_no_rationale": np.exp(18 / 6),
        "greedy_accuracy_within_2_tokens": 0.0,
        "greedy_accuracy_within_4_tokens": 0.0,
        "greedy_accuracy_within_8_tokens": 1 / 2,
        "greedy_accuracy_within_10_tokens": 1 / 2,
        "sample_accuracy_within_2_tokens": 0.0,
        "sample_accuracy_within_4_tokens": 1 / 8,
        "sample_accuracy_within_8_tokens": 2 / 8,
        "sample_accuracy_within_10_tokens": 3 / 8,
    }
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)


def test_without_samples_or_gold_rationales_their_metrics_are_left_out() -> None:
    greedy = [one for one in GENERATIONS if one.kind == "greedy"]
    greedy[0] = greedy[0]._replace(answer_logp_gold=None)
    found = question_metrics(greedy, max_completion_length=4)
    assert "greedy_accuracy" in found and "answer_logp_no_rationale" in found
    assert not any("sample" in name or "@" in name or "gold" in name for name in found)


def test_lines_of_versions_without_the_lenient_reading_have_the_other_metrics() -> None:
    old = [one._replace(flexible_extracted=None, flexible_correct=None) for one in GENERATIONS]
    found, expected = question_metrics(old, 10), question_metrics(GENERATIONS, 10)
    assert set(expected) - set(found) == {"greedy_flexible_accuracy", "sample_flexible_accuracy"}
    mixed = question_metrics([old[0], *GENERATIONS[1:]], 10)
    assert "greedy_flexible_accuracy" not in mixed and "sample_flexible_accuracy" in mixed


def test_pass_at_k_is_the_share_of_k_samples_with_a_right_one() -> None:
    correct = np.random.default_rng(0).random((6, 7)) < 0.3
    for k in range(1, 8):
        shares = [np.mean([any(row[list(chosen)]) for chosen in combinations(range(7), k)]) for row in correct]
        assert pass_at_k(correct, k) == pytest.approx(np.array(shares))


def test_majority_leaves_out_the_samples_that_fill_no_group() -> None:
    right, wrong, none = Grade("7", True, "7"), Grade("8", False, "8"), Grade(None, False, None)
    grades = [[right, right, wrong, wrong, wrong, right, wrong], [none, none, none, none, none, right, right]]
    assert majority_at_k(grades, 3).tolist() == [0.5, 0.5]
    assert majority_at_k(grades, 7).tolist() == [0.0, 1.0]


def test_the_interval_of_a_mean_is_the_normal_one_for_many_questions() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=2000)
    value, low, high = mean_metric(values, seed=1)
    half = NormalDist().inv_cdf(0.975) * values.std() / len(values) ** 0.5
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.05 * half)


def test_the_interval_of_a_ratio_resamples_questions_with_all_their_tokens() -> None:
    generations = []
    rng = np.random.default_rng(0)
    for question in range(40):
        one = generation(question, "greedy", 0, "7", 5, float(-rng.gamma(2.0)))
        generations.append(one._replace(answer_tokens=int(rng.integers(1, 20))))
    _, low, high = summarize(generations, max_completion_length=8, seed=5)["answer_perplexity_greedy_rationale"]

    logps = np.array([one.answer_logp for one in generations])
    tokens = np.array([one.answer_tokens for one in generations])
    drawn = [rng.integers(40, size=40) for _ in range(10_000)]
    slow = np.quantile([np.exp(-logps[rows].sum() / tokens[rows].sum()) for rows in drawn], [0.025, 0.975])
    assert np.log([low, high]) == pytest.approx(np.log(slow), rel=0.02)


def test_resamples_have_as_many_questions_and_depend_on_the_seed_only() -> None:
    sums = bootstrap_sums(np.ones((7, 1)), seed=0, resamples=1001)  # no multiple of a chunk
    assert sums.shape == (1001, 1) and (sums == 7).all()
    values = np.arange(7.0)[:, None]
    assert (bootstrap_sums(values, seed=3) == bootstrap_sums(values, seed=3)).all()
    assert (bootstrap_sums(values, seed=3) != bootstrap_sums(values, seed=4)).any()


def test_limits_and_sizes_are_powers_of_two_and_the_largest() -> None:
    assert powers_of_two_up_to(8) == [2, 4, 8]
    assert powers_of_two_up_to(12) == [2, 4, 8, 12]
    assert powers_of_two_up_to(1) == powers_of_two_up_to(0) == []
