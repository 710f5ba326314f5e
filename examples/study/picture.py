# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The study's picture: for each task accuracies with intervals, and what training does to accuracy and length."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from .measures import Runs, over_seeds, question_values
from .methods import METHODS
from .settings import TASKS


matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D


MARKERS = {"greedy": "o", "samples": "s", "maj@k": "^"}
NAMES = {"greedy": "greedy", "samples": "samples, T=1", "maj@k": "maj@k, k = all samples"}
COLOURS = dict(zip(METHODS, plt.get_cmap("tab20").colors, strict=False)) | {"base": "black"}


def plain(method: str) -> str:
    return METHODS[method].title.replace("`", "")


def draw(runs: dict[str, Runs], path: Path) -> None:
    """A row for each task."""
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11})
    heights = [1.2 + 0.32 * max(8, len(of_task)) for of_task in runs.values()]
    figure, rows = plt.subplots(
        len(runs),
        3,
        figsize=(15, sum(heights) + 1.2),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for (accuracies, accuracy, length), (task, of_task) in zip(rows, runs.items(), strict=True):
        draw_accuracies(accuracies, of_task)
        accuracies.set_title(f"{TASKS[task].title}: accuracy on test questions (%)")
        draw_curves(accuracy, of_task, "sample_accuracy", scale=100)
        accuracy.set(title="Validation: accuracy of samples (%)", ylim=(0, None))
        draw_curves(length, of_task, "sample_rationale_tokens", scale=1)
        length.set(title="Validation: tokens per sampled rationale", ylim=(0, None))
    methods = [method for method in METHODS if any(method in of_task for of_task in runs.values())]
    lines = [Line2D([], [], color=COLOURS[method], linewidth=2, label=plain(method)) for method in methods]
    points = [Line2D([], [], color="black", marker=MARKERS[name], linestyle="", label=NAMES[name]) for name in MARKERS]
    figure.legend(handles=[*lines, *points], loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_accuracies(axes: Any, runs: Runs) -> None:
    """Over seeds, with intervals; behind them each seed, small."""
    for position, (method, seeds) in enumerate(runs.items()):
        for offset, (name, marker) in zip((-0.22, 0, 0.22), MARKERS.items(), strict=True):
            style: dict[str, Any] = {"color": COLOURS[method], "marker": marker, "linestyle": "", "clip_on": False}
            value, low, high = (100 * number for number in over_seeds(seeds, name))
            axes.errorbar(value, position + offset, xerr=[[value - low], [high - value]], markersize=5, **style)
            each = [100 * question_values(run, name).mean() for run in seeds]
            axes.plot(each, [position + offset] * len(seeds), markersize=3, alpha=0.4, **style)
    axes.set(yticks=range(len(runs)), yticklabels=[plain(method) for method in runs], xlim=(0, 101))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def draw_curves(axes: Any, runs: Runs, name: str, scale: float) -> None:
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
