# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Numbers of the tables, from the files of the runs. S seeds, Q test questions. What a file does not have is `None`."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trl_latro.evaluation.intervals import Metric, bootstrap_sums, percentile_interval

from .methods import METHODS
from .pool import read_files
from .settings import TASKS


Runs = dict[str, list[dict[str, Any]]]  # method -> its runs by seed, of one task
# Quantiles of Student's t by degrees of freedom, for 2 to 20 seeds
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
T_975 += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)
MAX_GRAD_NORM = 1.0  # of transformers


def runs_of(task: str, output_dir: Path, methods: Iterable[str] = METHODS) -> Runs:
    """The runs of a task in a folder, by method in the order of `methods`."""
    files = read_files(output_dir, task)
    by_method = {method: [run for run in files if run["method"] == method] for method in methods}
    return {method: seeds for method, seeds in by_method.items() if seeds}


def read_runs(output_dir: Path) -> dict[str, Runs]:
    """The runs in a folder by task."""
    found = {task: runs_of(task, output_dir) for task in TASKS}
    return {task: runs for task, runs in found.items() if runs}


def num_samples(run: dict[str, Any]) -> int:
    return int(run["settings"]["samples_per_test_question"])


def question_values(run: dict[str, Any], name: str) -> NDArray[np.float64]:
    """`"greedy"`, `"samples"`, `"maj@k"` or `"pass@k"` on each test question, with k all samples of it, `(Q,)`."""
    verdicts, k = run["per_question"], num_samples(run)
    if name == "maj@k":
        return np.array(verdicts[f"maj@{k}"], dtype=float)
    column = np.array([float(digit) for digit in verdicts["greedy" if name == "greedy" else "right_samples"]])
    if name == "pass@k":
        return (column > 0).astype(float)
    return column / k if name == "samples" else column


@functools.cache
def resamples(questions: int) -> NDArray[np.float64]:
    """How often each question is drawn, `(R, Q)`: the same draws for all tables."""
    return bootstrap_sums(np.eye(questions), seed=0)


def question_mean(values: NDArray[np.float64]) -> Metric:
    """As [`~trl_latro.evaluation.intervals.mean_metric`], with draws that are made once."""
    return Metric(float(values.mean()), *percentile_interval(resamples(len(values)) @ values / len(values)))


def over_seeds(runs: list[dict[str, Any]], name: str) -> Metric:
    """Bootstrap over questions; a question's value is its mean over the seeds."""
    return question_mean(np.mean([question_values(run, name) for run in runs], axis=0))


def with_seeds_of(others: list[dict[str, Any]], runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs whose seed one of the others has too."""
    seeds = {run["seed"] for run in others}
    return [run for run in runs if run["seed"] in seeds]


class Paired(NamedTuple):
    """
    A method less another one on the same questions, with the seeds that both have.

    Args:
        over_questions ([`Metric`]): With the interval of a bootstrap over questions.
        over_seeds ([`Metric`], *optional*): With that of Student's t over the seeds' differences, from two seeds on.
    """

    over_questions: Metric
    over_seeds: Metric | None


def paired(runs: list[dict[str, Any]], others: list[dict[str, Any]], name: str) -> Paired | None:
    """`None` where no seed is common."""
    by_seed = {run["seed"]: question_values(run, name) for run in runs}
    of_others = {run["seed"]: question_values(run, name) for run in others}
    common = [seed for seed in by_seed if seed in of_others]
    if not common:
        return None
    differences = np.array([by_seed[seed] - of_others[seed] for seed in common])  # (S, Q)
    return Paired(question_mean(differences.mean(0)), t_interval(differences.mean(1)))


def t_interval(values: NDArray[np.float64]) -> Metric | None:
    """Mean of the seeds' values `(S,)` with its 95 % interval by Student's t; `None` of a single seed."""
    if len(values) < 2:
        return None
    half = T_975[len(values) - 2] * values.std(ddof=1) / np.sqrt(len(values))
    return Metric(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def collapsed(run: dict[str, Any], base: list[dict[str, Any]]) -> bool:
    """Whether its samples are less accurate than the base model's interval, or shorter than a third of the base's."""
    tokens, of_base = (np.mean([tokens_of(one) for one in ones]) for ones in ([run], base))
    accuracy = question_values(run, "samples").mean()
    return bool(accuracy < over_seeds(base, "samples").low or tokens < of_base / 3)


def tokens_of(run: dict[str, Any]) -> float:
    return float(run["metrics"]["sample_rationale_tokens"][0])


def mean_of(runs: list[dict[str, Any]], name: str) -> float | None:
    """Mean over the seeds of a number of [`MEASURES`]; `None` where no file has it."""
    values = [value for value in map(MEASURES[name], runs) if value is not None]
    return float(np.mean(values)) if values else None


def _metric(name: str) -> Any:
    return lambda run: run["metrics"][name][0] if name in run["metrics"] else None


def _correlation(name: str) -> Any:
    return lambda run: run.get("correlations", {}).get(name)


def _grad_norms(run: dict[str, Any]) -> list[float]:
    return [norm for norm in run.get("updates", {}).get("grad_norm", []) if norm is not None]


# Name in the table -> number of a run
MEASURES: dict[str, Any] = {
    "perplexity, own rationale": _metric("answer_perplexity_sample_rationale"),
    "gold": _metric("answer_perplexity_gold_rationale"),
    "none": _metric("answer_perplexity_no_rationale"),
    "r(reward, right)": _correlation("reward_and_correctness"),
    "r(reward, length)": _correlation("reward_and_length"),
    "grad norm": lambda run: float(np.median(_grad_norms(run))) if _grad_norms(run) else None,
    "clipped (%)": lambda run: (
        100 * float(np.mean(np.array(_grad_norms(run)) > MAX_GRAD_NORM)) if _grad_norms(run) else None
    ),
    "s per step": lambda run: float(np.mean(run["update_seconds"])) if run.get("update_seconds") else None,
    "tokens sampled": lambda run: run.get("sampled_tokens"),
}


def chosen(run: dict[str, Any]) -> dict[str, Any] | None:
    """The run with the verdicts of the checkpoint that the validation questions choose, `None` in files without."""
    if "best" not in run:
        return None
    return run | {name: run["best"][name] for name in ("metrics", "per_question") if name in run["best"]}
