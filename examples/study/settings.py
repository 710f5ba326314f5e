# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The tasks of the study, with their budgets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from puzzles.common import Puzzle, make_puzzles
from puzzles.dial import DialPuzzle
from puzzles.house import HousePuzzle
from word_problems import settings as of_word_problems

from .task import StudyTask
from .word_problem_task import WordProblemTask


PUZZLES = Path(__file__).parents[1] / "puzzles"
PROMPTS, SAMPLES = 16, 16  # of a puzzle task per step
LEARNING_RATE = 3e-4
BETA = 0.02
VALIDATION_PUZZLES = 100

PUZZLE_TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": PROMPTS * SAMPLES,
    "gradient_accumulation_steps": 1,
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "gradient_checkpointing": False,  # memory is not short here
}


@dataclass(frozen=True, kw_only=True)
class PuzzleTask(StudyTask):
    """A kind of puzzle, with a base model of 0.36M parameters."""

    kind: type[Puzzle]
    base_model: Path
    prompts: int = PROMPTS
    samples: int = SAMPLES
    steps: int = 40
    training: dict[str, Any] = field(default_factory=lambda: PUZZLE_TRAINING)
    beta: float = BETA
    test_questions: int = 500
    test_samples: int = 8
    curve_every: int = 5
    curve_samples: int = 2

    def find_base(self) -> Path:
        return self.base_model

    def draw_training(self, seed: int, count: int) -> Dataset:
        return to_dataset(make_puzzles(self.kind, count, seed, held_out=False))

    def draw_held_out(self) -> tuple[Dataset, Dataset]:
        # Not among those that the quickstart's settings were chosen with and the base models were watched on
        seen = set(make_puzzles(self.kind, 500, seed=0, held_out=True))
        drawn = [p for p in make_puzzles(self.kind, 1500, seed=2026, held_out=True) if p not in seen]
        validation = drawn[self.test_questions : self.test_questions + VALIDATION_PUZZLES]
        return to_dataset(drawn[: self.test_questions]), to_dataset(validation)


def to_dataset(puzzles: list[Puzzle]) -> Dataset:
    """The columns that a task's data have."""
    return Dataset.from_list(
        [{"prompt": p.prompt, "answer": p.answer, "rationale": f" {p.rationale}"} for p in puzzles]
    )


# The limits of the puzzles hold four steps and the three tokens of "The answer is"
TASKS: dict[str, StudyTask] = {
    "dial": PuzzleTask(
        title="The dial", kind=DialPuzzle, base_model=PUZZLES / "dial_base_model", max_completion_length=34
    ),
    "house": PuzzleTask(
        title="The house", kind=HousePuzzle, base_model=PUZZLES / "house_base_model", max_completion_length=36
    ),
    "weak_house": PuzzleTask(
        title="The weak house",
        kind=HousePuzzle,
        base_model=PUZZLES / "weak_house_base_model",
        max_completion_length=36,
    ),
    "word_problems": WordProblemTask(
        title="Word problems",
        prompts=of_word_problems.PROMPTS,
        samples=of_word_problems.SAMPLES,
        steps=of_word_problems.STEPS,
        training=of_word_problems.TRAINING,
        beta=of_word_problems.ROLLOUT["beta"],
        max_completion_length=of_word_problems.MAX_TOKENS,
        test_questions=100,
        test_samples=4,
        curve_every=6,
        curve_samples=1,
    ),
}


def training_questions(task: StudyTask, seed: int, steps: int) -> Dataset:
    """The same questions for every method: as many as LaTRO sees."""
    return task.draw_training(seed, task.prompts * steps)


def held_out_questions(task: StudyTask, test_questions: int) -> tuple[Dataset, Dataset]:
    """The first of the questions of the metrics, and those of the curves."""
    test, validation = task.draw_held_out()
    return test.select(range(test_questions)), validation
