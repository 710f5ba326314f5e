# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a task of the study is: questions, a base model that every method starts from, and every method's budget."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from trl_latro.grading import Grader, grade_answer


@dataclass(frozen=True, kw_only=True)
class StudyTask(ABC):
    """
    A task, with the settings that all methods share.

    Args:
        title (`str`): Its name in tables.
        prompts (`int`), samples (`int`): Questions of a step, and rationales of each, where a method samples them. The
            other methods train on as many rows.
        steps (`int`): Steps of the optimizer.
        training (`dict[str, Any]`): Settings of transformers' `TrainingArguments`.
        beta (`float`): Coefficient of the KL, where a method has one.
        max_completion_length (`int`): Longest rationale in tokens.
        test_questions (`int`), test_samples (`int`): Questions of the metrics, and samples of each.
        curve_every (`int`), curve_samples (`int`): Steps between looks at the validation questions, and samples of each.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]): Compares an extracted
            answer with the row's.
        device (`str`, *optional*, defaults to `"cpu"`): Where it is trained and evaluated.
    """

    title: str
    prompts: int
    samples: int
    steps: int
    training: dict[str, Any]
    beta: float
    max_completion_length: int
    test_questions: int
    test_samples: int
    curve_every: int
    curve_samples: int
    grader: Grader = grade_answer
    device: str = "cpu"

    @abstractmethod
    def find_base(self) -> str | Path:
        """The base model, a folder or a name on the Hub."""

    @abstractmethod
    def draw_training(self, seed: int, count: int) -> Dataset:
        """`count` different questions to train on, with the columns `prompt`, `answer` and `rationale`."""

    @abstractmethod
    def draw_held_out(self) -> tuple[Dataset, Dataset]:
        """Questions of the metrics and of the curves, the same for every method and seed; nobody trains on them."""

    @property
    def rows_per_step(self) -> int:
        return self.prompts * self.samples


def draw_questions(rows: Dataset, seed: int, count: int) -> Dataset:
    """`count` of the rows at random; raises `ValueError` where there are fewer."""
    if count > len(rows):
        raise ValueError(f"{count} questions are asked for, but there are {len(rows)} to train on: take fewer steps.")
    return rows.shuffle(seed=seed).select(range(count))
