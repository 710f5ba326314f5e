# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The tables and the picture of the study of collapse, from the files of its runs."""

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from study.measures import Runs, runs_of
from study.report import percent, table_head, table_row, write_sections
from study.settings import SAMPLES
from trl_latro.evaluation.intervals import Metric, mean_metric

from .settings import GUESS, OBJECTIVES, TASK, TEST_SAMPLES


matplotlib.use("Agg")
from matplotlib import pyplot as plt


HUES = {"logprob": "Blues_r", "jepo": "Reds_r", "prob": "copper_r", "power": "Greens_r"}


def find_colours() -> dict[str, Any]:
    """A hue for each reward, a shade of it for each of its methods."""
    colours = {}
    for reward, hue in HUES.items():
        methods = [method for method in OBJECTIVES if method.split("_")[0] == reward]
        colours |= {
            method: matplotlib.colormaps[hue](0.1 + 0.6 * i / len(methods)) for i, method in enumerate(methods)
        }
    return colours


def read_runs(output_dir: Path) -> Runs:
    return runs_of(TASK, output_dir, OBJECTIVES)


def accuracy(runs: list[dict[str, Any]], look: int, name: str) -> Metric:
    """Bootstrap over puzzles; a puzzle's value is its mean over the seeds. `name` is "samples" or "greedy"."""
    size = TEST_SAMPLES if name == "samples" else 1
    verdicts = [[int(digit) for digit in run["looks"][look][f"right_{name}"]] for run in runs]
    return mean_metric(np.mean(verdicts, axis=0) / size)


def write_report(output_dir: Path) -> tuple[Path, Path]:
    """Write `collapse.md` and `collapse_per_seed.md` beside `output_dir`, between their marks, and `collapse.png`."""
    runs = read_runs(output_dir)
    page, seeds_page = output_dir.parent / "collapse.md", output_dir.parent / "collapse_per_seed.md"
    write_sections(page, sections(runs), "examples/collapse")
    write_sections(seeds_page, {"details": details(runs)}, "examples/collapse")
    picture = output_dir.parent / "collapse.png"
    draw(runs, picture)
    return page, picture


def sections(runs: Runs) -> dict[str, str]:
    return {"arithmetic": "\n".join(arithmetic_table(runs)), "samples": "\n".join(accuracy_table(runs, "samples"))}


def details(runs: Runs) -> str:
    parts = [
        ("Greedy right (%), over seeds", accuracy_table(runs, "greedy")),
        ("Each seed", each_seed_table(runs)),
        ("What an answer gets, before training and at the end", kinds_table(runs)),
    ]
    return "\n".join("\n".join([f"## {title}\n", *lines, ""]) for title, lines in parts)


def accuracy_table(runs: Runs, name: str) -> list[str]:
    steps = [look["step"] for look in next(iter(runs.values()))[0]["looks"]]
    lines = table_head("Objective", "Seeds", *(f"step {step}" for step in steps))
    for method, seeds in runs.items():
        cells = [percent(accuracy(seeds, look, name)) for look in range(len(steps))]
        lines.append(table_row(OBJECTIVES[method].name, str(len(seeds)), *cells))
    return lines


def each_seed_table(runs: Runs) -> list[str]:
    """The answer's log-prob and probability are of the first and the last training batch."""
    header = ["Objective", "Seed", "Samples right (%)", "Rationale, tokens", "Answer's log-prob", "Its probability"]
    lines = table_head(*header, "Seconds")
    for method, seeds in runs.items():
        for run in seeds:
            looks, updates = run["looks"], run["updates"]
            right = " / ".join(f"{100 * look['sample_accuracy']:.1f}" for look in looks)
            ends = [
                " -> ".join(f"{value:.{digits}f}" for value in (values[0], values[-1]))
                for values, digits in (
                    ([look["sample_rationale_tokens"] for look in looks], 1),
                    (updates["latro/answer_logp"], 2),
                    (updates["latro/answer_prob"], 3),
                )
            ]
            lines.append(table_row(OBJECTIVES[method].name, str(run["seed"]), right, *ends, f"{run['seconds']:.0f}"))
    return lines


def mean_over(runs: list[dict[str, Any]], look: int, kind: str, name: str) -> float:
    """Mean over the seeds that have rationales of this kind."""
    kinds = [run["looks"][look]["rationales"] for run in runs]
    return float(np.mean([one[kind][name] for one in kinds if kind in one] or [math.nan]))


def share(runs: list[dict[str, Any]], look: int, kind: str) -> float:
    return float(np.mean([run["looks"][look]["rationales"].get(kind, {"share": 0.0})["share"] for run in runs]))


def kinds_table(runs: Runs) -> list[str]:
    """Shares of guesses, right and wrong rationales, and the answer's log-prob after each."""
    kinds = ("guess", "right", "wrong")
    header = ["Model", *(f"{kind} (%)" for kind in kinds), *(f"log-prob, {kind}" for kind in kinds), "gold", "none"]
    lines = table_head(*header)
    everyone = [run for seeds in runs.values() for run in seeds]
    for name, seeds, look in [("base", everyone, 0), *((OBJECTIVES[m].name, seeds, -1) for m, seeds in runs.items())]:
        cells = [f"{100 * share(seeds, look, kind):.1f}" for kind in kinds]
        logps = [mean_over(seeds, look, kind, "answer_logp") for kind in kinds]
        for rationale in ("gold", "no"):
            logps.append(np.mean([run["looks"][look][f"answer_logp_{rationale}_rationale"] for run in seeds]))
        lines.append(table_row(name, *cells, *("-" if math.isnan(value) else f"{value:.2f}" for value in logps)))
    return lines


def bound_of_groups(q: float, right: float, wrong: float, size: int, floor: float = 0.0) -> float:
    """Mean of `log(floor + (1/K) sum p)` where each of the K rationales is right with probability q, by itself."""
    chances = [math.comb(size, n) * q**n * (1 - q) ** (size - n) for n in range(size + 1)]
    sums = [n * math.exp(right) + (size - n) * math.exp(wrong) for n in range(size + 1)]
    return sum(chance * math.log(floor + total / size) for chance, total in zip(chances, sums, strict=True))


def arithmetic_table(runs: Runs) -> list[str]:
    """What reasoning and guessing would give, from the base model's samples: `q R(right) + (1 - q) R(wrong)`."""
    everyone = [run for seeds in runs.values() for run in seeds]
    logp, prob = (
        {kind: mean_over(everyone, 0, kind, name) for kind in ("guess", "right", "wrong")}
        for name in ("answer_logp", "answer_prob")
    )
    q = share(everyone, 0, "right") / (share(everyone, 0, "right") + share(everyone, 0, "wrong"))
    expected = {
        "`logprob`": (q * logp["right"] + (1 - q) * logp["wrong"], logp["guess"]),
        "`prob`": (q * prob["right"] + (1 - q) * prob["wrong"], prob["guess"]),
        **{
            f"`jepo`{with_floor}, K = {SAMPLES}": (
                bound_of_groups(q, logp["right"], logp["wrong"], SAMPLES, floor),
                math.log(floor + math.exp(logp["guess"])),
            )
            for with_floor, floor in (("", 0.0), (", `jepo_floor` 1/16", GUESS))
        },
    }
    lines = table_head("Reward", "all reason", "all guess", "wins")
    for name, (reasoning, guessing) in expected.items():
        winner = "reasoning" if reasoning > guessing else "guessing"
        lines.append(table_row(name, f"{reasoning:.2f}", f"{guessing:.2f}", winner))
    return [f"In the weak house q is {q:.2f}. The mean rewards of its base model:\n", *lines]


def draw(runs: Runs, path: Path) -> None:
    """Over the steps: the answer's log-prob and probability, length, accuracy. Thin lines are seeds."""
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11})
    colours = find_colours()
    figure, grid = plt.subplots(2, 2, figsize=(12, 7.5), layout="constrained")
    panels = {
        "latro/answer_logp": "Training: log-prob of the answer",
        "latro/answer_prob": "Training: probability of the answer",
        "completions/mean_length": "Training: tokens per sample, without the answer",
    }
    for axes, (name, title) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(title)
        for method, seeds in runs.items():
            curves = np.array([run["updates"][name] for run in seeds])
            steps = np.arange(1, curves.shape[1] + 1)
            axes.plot(
                steps,
                curves.mean(0),
                color=colours[method],
                linewidth=2,
                label=OBJECTIVES[method].name.replace("`", ""),
            )
            axes.plot(steps, curves.T, color=colours[method], linewidth=0.6, alpha=0.5)
    axes = grid[1, 1]
    axes.set(title="Test puzzles: samples right (%)", ylim=(0, 101))
    for method, seeds in runs.items():
        steps = [look["step"] for look in seeds[0]["looks"]]
        over_seeds = [accuracy(seeds, look, "samples") for look in range(len(steps))]
        value, low, high = 100 * np.array(over_seeds).T
        axes.errorbar(steps, value, yerr=[value - low, high - value], color=colours[method], linewidth=2, marker="o")
    for axes in grid.flat:
        axes.set(xlabel="step", xlim=(0, None))
        axes.grid(alpha=0.3)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)
