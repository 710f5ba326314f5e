# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a training leaves at its end: the first numbers beside the last, curves, and the command that evaluates the model."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..latro_config import LaTROConfig
from ..tasks.sources import FileSource
from ..text_table import text_table
from .console import COLUMNS, write_number
from .task_arguments import TaskArguments


if TYPE_CHECKING:
    from matplotlib.figure import Figure


CURVES_FILE = "training.png"
CURVES = {
    "reward": "Reward",
    "answer_prob": "Probability of the answer",
    "tokens": "Tokens of a rationale",
    "accuracy": "Accuracy",
}

History = Sequence[dict[str, Any]]  # what a trainer has logged, as its state keeps it


def find_points(history: History, metric: str) -> list[tuple[int, float]]:
    """Steps and values of a metric, where it is a number. The evaluation after the training is that of its last step."""
    points = {
        entry["step"]: entry[metric]
        for entry in history
        if metric in entry and entry[metric] is not None and math.isfinite(entry[metric])
    }
    return list(points.items())


def first_and_last(history: History) -> str:
    """A table of the first log of the training beside the last, and of the accuracy in the first evaluation and the last."""
    training = [entry for entry in history if "reward" in entry]
    rows = [("", *(f"step {entry['step']}" for entry in (training[0], training[-1])))] if training else []
    for column in COLUMNS:
        cells = [write_number(entry[column.training], column) for entry in training if column.training in entry]
        if cells:
            rows.append((column.title, cells[0], cells[-1]))
    evaluations = find_points(history, "eval_accuracy")
    if len(evaluations) == 1:
        ((step, value),) = evaluations
        rows.append((f"accuracy (evaluation of step {step})", "", f"{value:.3f}"))
    elif evaluations:
        (first, before), (last, after) = evaluations[0], evaluations[-1]
        rows.append((f"accuracy (evaluations of steps {first} and {last})", f"{before:.3f}", f"{after:.3f}"))
    return text_table(rows)


def draw_curves(history: History) -> "Figure":
    """A panel for each of `CURVES` that has been logged: the training as a line, evaluations as dots."""
    from matplotlib.figure import Figure

    panels = []
    for column in COLUMNS:
        training, evaluation = (find_points(history, metric) for metric in (column.training, column.evaluation))
        if column.title in CURVES and (training or evaluation):
            panels.append((CURVES[column.title], training, evaluation))
    figure = Figure(figsize=(3.6 * len(panels), 3.2), layout="constrained")
    for axes, (title, training, evaluation) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        if training:
            axes.plot(*zip(*training, strict=True), ".-", color="C0", label="training")
        if evaluation:
            axes.plot(*zip(*evaluation, strict=True), "o:", color="C1", label="evaluation")
        axes.set(title=title, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def save_curves(history: History, folder: str | Path) -> Path | None:
    """Write `training.png` into the folder; `None` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return None
    path = Path(folder) / CURVES_FILE
    draw_curves(history).savefig(path, dpi=120)
    return path


def evaluation_command(task_args: TaskArguments, training_args: LaTROConfig, model: str | Path) -> str:
    """
    The command that evaluates the `model` of a training, or a checkpoint: with the options that say where the questions
    are. How they are put, and how answers are written, the model remembers (`trl_latro/prompting.py`).

    The questions are those of the test split. Where there is none, and where all are in one file that was trained on, they
    are those of the validation set.
    """
    source = task_args.get_task().find_source(task_args.dataset_path)
    holds_out = task_args.validation_size > 0
    split = "validation" if holds_out else "train"
    if "test" in source.splits() and not (isinstance(source, FileSource) and holds_out):
        split = "test"
    left_out = {"prompt_template", *task_args.prompting()}
    if split == "test":
        left_out |= {"validation_size", "validation_seed"}
    values = {field.name: (getattr(task_args, field.name), field.default) for field in fields(TaskArguments)}
    options: dict[str, Any] = {"model_name_or_path": model}
    options |= {name: value for name, (value, unset) in values.items() if name not in left_out and value != unset}
    if split != "test":
        options["split"] = split
    options["max_completion_length"] = training_args.max_completion_length
    if training_args.trust_remote_code:
        options["trust_remote_code"] = True
    options["output_dir"] = f"{training_args.output_dir}-evaluation"
    return shlex.join(
        ["trl-latro", "evaluate", *(text for name, value in options.items() for text in (f"--{name}", str(value)))]
    )
