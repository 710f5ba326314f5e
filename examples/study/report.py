# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The study's tables and picture, from the files of its runs."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from trl_latro.evaluation.intervals import Metric, mean_metric

from .pool import read_files
from .settings import METHODS, TASKS, TEST_SAMPLES


matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402


BEGIN, END = "<!-- tables: written by examples/study -->", "<!-- end of tables -->"
METRICS = {"greedy": "greedy", "right_samples": "samples, T=1", "maj@8": "maj@8"}
MARKERS = {"greedy": "o", "right_samples": "s", "maj@8": "^"}
COLOURS = dict(zip(METHODS, ("black", "silver", "tab:brown", "tab:gray", "C0", "C1", "C2", "C3"), strict=True))

Runs = dict[tuple[str, str], list[dict[str, Any]]]  # (task, method) -> its runs by seed


def read_runs(output_dir: Path) -> Runs:
    runs: Runs = {}
    for run in read_files(output_dir):
        runs.setdefault((run["task"], run["method"]), []).append(run)
    order = [(task, method) for task in TASKS for method in METHODS]
    return {key: runs[key] for key in order if key in runs}


def question_values(run: dict[str, Any], name: str) -> np.ndarray:
    """Accuracy on each test puzzle, `(Q,)`."""
    values = np.array([float(value) for value in run["per_question"][name]])
    return values / TEST_SAMPLES if name == "right_samples" else values


def over_seeds(runs: list[dict[str, Any]], name: str) -> Metric:
    """Bootstrap over puzzles; a puzzle's value is its mean over the seeds."""
    return mean_metric(np.mean([question_values(run, name) for run in runs], axis=0))


def write_report(output_dir: Path) -> tuple[Path, Path]:
    """Write the tables into `results.md` beside `output_dir`, between their marks, and `results.png`."""
    runs = read_runs(output_dir)
    page, picture = output_dir.parent / "results.md", output_dir.parent / "results.png"
    put_between(page, BEGIN, END, tables(runs))
    draw(runs, picture)
    return page, picture


def put_between(page: Path, begin: str, end: str, tables: str) -> None:
    """Write tables between two marks of a page, which is made where there is none."""
    text = page.read_text() if page.exists() else f"{begin}\n{end}\n"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} should hold the lines {begin!r} and {end!r} once each: the tables go between them.")
    before, _, rest = text.partition(begin)
    page.write_text(f"{before}{begin}\n\n{tables}\n{end}{rest.partition(end)[2]}")


def tables(runs: Runs) -> str:
    parts = []
    for task in dict.fromkeys(task for task, _ in runs):
        of_task = {method: seeds for (name, method), seeds in runs.items() if name == task}
        parts += [f"### The {task}, over seeds\n", *seeds_table(of_task), f"\n### The {task}, each seed\n"]
        parts += [*each_seed_table(of_task), ""]
    return "\n".join(parts)


def seeds_table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [table_row("Method", "Seeds", *METRICS.values(), "Rationale, tokens"), table_row(*["---"] * 6)]
    for method, seeds in runs.items():
        tokens = np.mean([run["metrics"]["sample_rationale_tokens"][0] for run in seeds])
        metrics = [percent(over_seeds(seeds, name)) for name in METRICS]
        lines.append(table_row(METHODS[method], str(len(seeds)), *metrics, f"{tokens:.1f}"))
    return lines


def each_seed_table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [table_row("Method", "Seed", *METRICS.values(), "Training, s"), table_row(*["---"] * 6)]
    for method, seeds in runs.items():
        for run in seeds:
            metrics = [percent(mean_metric(question_values(run, name))) for name in METRICS]
            seconds = f"{run['training_seconds']:.0f}"
            lines.append(table_row(METHODS[method], str(run["seed"]), *metrics, seconds))
    return lines


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def percent(metric: Metric) -> str:
    return f"{metric.value:.1%} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def draw(runs: Runs, path: Path) -> None:
    """A row for each task: accuracies with intervals, and over the steps the accuracy and the rationales' length."""
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11})
    tasks = list(dict.fromkeys(task for task, _ in runs))
    figure, rows = plt.subplots(len(tasks), 3, figsize=(14, 4 * len(tasks)), squeeze=False, layout="constrained")
    for (accuracies, accuracy, length), task in zip(rows, tasks, strict=True):
        of_task = {method: seeds for (name, method), seeds in runs.items() if name == task}
        draw_accuracies(accuracies, of_task)
        accuracies.set_title(f"The {task}: accuracy on test puzzles (%)")
        draw_curves(accuracy, of_task, "sample_accuracy", scale=100)
        accuracy.set(title="Validation: accuracy of samples (%)", ylim=(0, 101))
        draw_curves(length, of_task, "sample_rationale_tokens", scale=1)
        length.set(title="Validation: tokens per sampled rationale", ylim=(0, None))
    methods = [method for method in METHODS if method in {method for _, method in runs}]
    lines = [Line2D([], [], color=COLOURS[method], linewidth=2, label=METHODS[method]) for method in methods]
    points = [
        Line2D([], [], color="black", marker=MARKERS[name], linestyle="", label=METRICS[name]) for name in MARKERS
    ]
    figure.legend(handles=[*lines, *points], loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_accuracies(axes: Any, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Over seeds, with intervals; behind them each seed, small."""
    for position, (method, seeds) in enumerate(runs.items()):
        for offset, (name, marker) in zip((-0.22, 0, 0.22), MARKERS.items(), strict=True):
            style: dict[str, Any] = {"color": COLOURS[method], "marker": marker, "linestyle": "", "clip_on": False}
            value, low, high = (100 * number for number in over_seeds(seeds, name))
            axes.errorbar(value, position + offset, xerr=[[value - low], [high - value]], markersize=5, **style)
            each = [100 * question_values(run, name).mean() for run in seeds]
            axes.plot(each, [position + offset] * len(seeds), markersize=3, alpha=0.4, **style)
    axes.set(yticks=range(len(runs)), yticklabels=[METHODS[method] for method in runs], xlim=(0, 101))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def draw_curves(axes: Any, runs: dict[str, list[dict[str, Any]]], name: str, scale: float) -> None:
    """Mean over seeds, and each seed as a thin line."""
    for method, seeds in runs.items():
        if method != "base":
            steps = [point["step"] for point in seeds[0]["curve"]]
            curves = np.array([[scale * point[name] for point in run["curve"]] for run in seeds])
            axes.plot(steps, curves.mean(0), color=COLOURS[method], linewidth=2)
            axes.plot(steps, curves.T, color=COLOURS[method], linewidth=0.6, alpha=0.5)
    axes.set_xlabel("optimizer step")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
