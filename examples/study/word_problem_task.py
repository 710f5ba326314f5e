# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""SmolLM2-135M-Instruct, after a warm start, on word problems in plain language."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback

from trl_latro.tasks.registry import get_task
from word_problems.problems import WordProblem, make_problems, write_problems
from word_problems.warm_start import warm_start

from .task import StudyTask


VALIDATION_PROBLEMS = 50


@dataclass(frozen=True, kw_only=True)
class WordProblemTask(StudyTask):
    """The word problems of `make smollm2`. Its model is fetched and made at the first call, and kept."""

    def find_base(self) -> Path:
        return warm_start(TrainerCallback())

    def draw_training(self, seed: int, count: int) -> Dataset:
        return to_dataset(make_problems(count, seed, "train"))

    def draw_held_out(self) -> tuple[Dataset, Dataset]:
        seen = set(make_problems(100, 0, "test"))  # by those who chose the settings of `make smollm2`
        drawn = [problem for problem in make_problems(self.test_questions + 100, 2026, "test") if problem not in seen]
        validation = make_problems(VALIDATION_PROBLEMS, 2026, "validation")
        return to_dataset(drawn[: self.test_questions]), to_dataset(validation)


def to_dataset(problems: list[WordProblem]) -> Dataset:
    """The rows that `trl-latro` makes of their file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.jsonl"
        write_problems(path, problems)
        return get_task(str(path), rationale_column="rationale").load("train", conversational=True)
