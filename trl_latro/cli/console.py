# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a training shows while it runs: one line for each log, with the numbers that matter, under one another."""

import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .noise import hide_bars


ROWS_PER_HEADER = 40


class Column(NamedTuple):
    """
    A number of the console.

    Args:
        title (`str`): What it is called there.
        width (`int`): Characters.
        decimals (`int`): Decimals, where they fit.
        training (`str`): The metric that it is in the logs of the training.
        evaluation (`str`): The metric that it is in those of an evaluation.
    """

    title: str
    width: int
    decimals: int
    training: str
    evaluation: str


COLUMNS = (
    Column("reward", 8, 3, "reward", "eval_reward"),
    Column("answer_prob", 11, 3, "latro/answer_prob", "eval_latro/answer_prob"),
    Column("kl", 7, 4, "kl", "eval_kl"),
    Column("tokens", 6, 1, "completions/mean_length", "eval_completions/mean_length"),
    Column("finished", 8, 3, "latro/finished_ratio", "eval_latro/finished_ratio"),
    Column("seconds", 7, 1, "step_time", "eval_runtime"),
    Column("accuracy", 8, 3, "rewards/accuracy/mean", "eval_accuracy"),  # in training where it is a reward
)
LEFT_WIDTH = 7  # of a time, as in 1:02:03
LEFT_OUT_FIRST = ("finished", "kl", "seconds", "tokens", "answer_prob")  # on a narrow terminal


def is_evaluation(logs: Mapping[str, Any]) -> bool:
    """Whether these logs are an evaluation's."""
    return "eval_reward" in logs


def choose_columns(width: int | None, label_width: int) -> list[Column]:
    """
    The columns that stand beside one another on a terminal.

    Args:
        width (`int`, *optional*):
            Characters of a line, `None` for as many as it takes.
        label_width (`int`):
            Characters of the label in front.
    """
    columns = list(COLUMNS)
    for title in LEFT_OUT_FIRST:
        if width is None or label_width + sum(1 + column.width for column in columns) + 1 + LEFT_WIDTH <= width:
            break
        columns = [column for column in columns if column.title != title]
    return columns


def header(columns: Sequence[Column], label_width: int) -> str:
    """The line above the numbers."""
    titles = [f"{column.title:>{column.width}}" for column in columns]
    return " ".join([f"{'step':>{label_width}}", *titles, f"{'left':>{LEFT_WIDTH}}"])


def row(columns: Sequence[Column], label: str, logs: Mapping[str, Any], left: str) -> str:
    """
    The numbers of a log. A metric that it does not have stays blank.

    Args:
        columns (`Sequence[Column]`):
            Columns.
        label (`str`):
            What stands in front, as wide as in the header.
        logs (`Mapping[str, Any]`):
            Metrics of the training or of an evaluation.
        left (`str`):
            The remaining time.
    """
    names = [column.evaluation if is_evaluation(logs) else column.training for column in columns]
    cells = [
        f"{write_number(logs[name], column) if name in logs else '':>{column.width}}"
        for column, name in zip(columns, names, strict=True)
    ]
    return " ".join([label, *cells, f"{left:>{LEFT_WIDTH}}"]).rstrip()


def write_number(value: float | None, column: Column) -> str:
    """A value with as many decimals as there is room for. TRL's logs have `None` for NaN."""
    if value is None or math.isnan(value):
        return "nan"
    texts = (f"{value:z.{decimals}f}" for decimals in range(column.decimals, -1, -1))
    return next((text for text in texts if len(text) <= column.width), f"{value:.0e}")


class Console(TrainerCallback):
    """Prints a line for each log of the training and of its evaluations."""

    def __init__(self) -> None:
        self._rows = 0
        self._columns: list[Column] = []
        self._label_width = 0
        # Where this process began: the remaining time is reckoned from its own steps
        self._start_time = 0.0
        self._start_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        hide_bars()  # of the checkpoints, between the lines
        self._label_width = len(f"eval {state.max_steps}")
        self._start_time, self._start_step = time.perf_counter(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # At its end a training logs its duration, with the metrics of steps that no log has had so far, if there are any
        if not state.is_world_process_zero or logs is None or not (is_evaluation(logs) or "reward" in logs):
            return
        if self._rows % ROWS_PER_HEADER == 0:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            self._columns = choose_columns(width, self._label_width)
            self._print(header(self._columns, self._label_width))
        self._rows += 1
        label = f"eval {state.global_step}" if is_evaluation(logs) else str(state.global_step)
        left = "" if is_evaluation(logs) else self._estimate_left(state)
        self._print(row(self._columns, f"{label:>{self._label_width}}", logs, left))

    def _estimate_left(self, state: TrainerState) -> str:
        per_step = (time.perf_counter() - self._start_time) / (state.global_step - self._start_step)
        return tqdm.format_interval(per_step * (state.max_steps - state.global_step))

    def _print(self, line: str) -> None:
        with tqdm.external_write_mode():  # above a progress bar
            print(line, flush=True)


class Bars(ProgressCallback):
    """The progress bars of [`~transformers.Trainer`] without the logs. They are gone when they are done."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self.prediction_bar is not None:
            self.prediction_bar.leave = False
        super().on_evaluate(*args, **kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if self.training_bar is not None:
            self.training_bar.leave = False
        super().on_train_end(*args, **kwargs)
