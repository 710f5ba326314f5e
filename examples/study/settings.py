# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the study compares: the tasks, the methods, the questions and the budget."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from puzzles.common import Puzzle, make_puzzles
from puzzles.dial import DialPuzzle
from puzzles.house import HousePuzzle


PUZZLES = Path(__file__).parents[1] / "puzzles"
PROMPTS, SAMPLES = 16, 16  # of LaTRO per step; the other methods train on PROMPTS * SAMPLES rows per step
STEPS = 40
LEARNING_RATE = 3e-4
BETA = 0.02
TEST_PUZZLES, VALIDATION_PUZZLES = 500, 100
TEST_SAMPLES = 8  # per puzzle, at temperature 1
CURVE_EVERY, CURVE_SAMPLES = 5, 2  # steps; samples per puzzle


@dataclass(frozen=True)
class StudyTask:
    """A kind of puzzle, and the base model that every method starts from."""

    kind: type[Puzzle]
    base_model: Path
    max_completion_length: int  # four steps and the three tokens of "The answer is"


TASKS = {
    "dial": StudyTask(DialPuzzle, PUZZLES / "dial_base_model", max_completion_length=34),
    "house": StudyTask(HousePuzzle, PUZZLES / "house_base_model", max_completion_length=36),
    "weak_house": StudyTask(HousePuzzle, PUZZLES / "weak_house_base_model", max_completion_length=36),
}

# Method -> its name in the table. Those of LaTRO are named by their reward.
METHODS = {
    "base": "base model",
    "sft_answer": "SFT, answers only",
    "sft_gold": "SFT, gold rationales",
    "rejection": "rejection sampling",
    "logprob": "LaTRO, logprob",
    "prob": "LaTRO, prob",
    "mean_prob": "LaTRO, mean_prob",
    "jepo": "LaTRO, jepo",
}
REWARDS = ("logprob", "prob", "mean_prob", "jepo")


def to_dataset(puzzles: list[Puzzle]) -> Dataset:
    """The columns that a task's data have."""
    return Dataset.from_list(
        [{"prompt": p.prompt, "answer": p.answer, "rationale": f" {p.rationale}"} for p in puzzles]
    )


def training_questions(task: StudyTask, seed: int, steps: int) -> Dataset:
    """The same questions for every method: as many as LaTRO sees."""
    return to_dataset(make_puzzles(task.kind, PROMPTS * steps, seed, held_out=False))


def held_out_questions(task: StudyTask, test_puzzles: int) -> tuple[Dataset, Dataset]:
    """
    The puzzles of the metrics, at most 500, and those of the curves, the same for every method and seed.

    Neither are among the 500 that the quickstart's settings were chosen with and the base models were watched on.
    """
    seen = set(make_puzzles(task.kind, 500, seed=0, held_out=True))
    drawn = [p for p in make_puzzles(task.kind, 1500, seed=2026, held_out=True) if p not in seen]
    validation = drawn[TEST_PUZZLES : TEST_PUZZLES + VALIDATION_PUZZLES]
    return to_dataset(drawn[:test_puzzles]), to_dataset(validation)
