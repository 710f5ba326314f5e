# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Qwen3-0.6B, which thinks, on GSM8K and MATH together: for a GPU."""

from dataclasses import dataclass, field, replace
from typing import Any

from datasets import Dataset, concatenate_datasets

from trl_latro.grading import Grader, grade_math
from trl_latro.tasks import gsm8k, math
from trl_latro.tasks.task import Example

from .task import StudyTask, draw_questions


INSTRUCTION = 'Think step by step. Then write "The answer is" and only the answer: an exact number or LaTeX, no units.'
VALIDATION_QUESTIONS = 320
TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 32,
    "learning_rate": 3e-6,
    "lr_scheduler_type": "constant",
    "bf16": True,  # products in bfloat16, weights in float32
    "gradient_checkpointing": False,  # memory is not short here
}


def gsm8k_example(row: dict[str, Any]) -> Example:
    return gsm8k.to_example(row)._replace(message=f"{row['question'].strip()}\n\n{INSTRUCTION}")


def math_example(row: dict[str, Any]) -> Example:
    message = f"{row['problem'].strip()}\n\n{INSTRUCTION}"
    return math.to_example(row)._replace(message=message, rationale=row["solution"].strip())


PARTS = {"gsm8k": replace(gsm8k.GSM8K, to_example=gsm8k_example), "math": replace(math.MATH, to_example=math_example)}


@dataclass(frozen=True, kw_only=True)
class MixedMathTask(StudyTask):
    """
    The data, samples, steps and learning rate of a public run with a likelihood reward, without a KL as there
    (https://github.com/ethanewer/teacher-answer-rl). It sampled at temperature 0.6 with top-p 0.95 and top-k 20, here it
    is temperature 1. Nothing of this task has been run.

    Args:
        model_name_or_path (`str`): The model, a folder or a name on the Hub.
        dataset_path (`str`, *optional*): Folder with the folders `gsm8k` and `math`, each with `train.jsonl` and
            `test.jsonl`; the Hub's data if not given.
    """

    title: str = "GSM8K and MATH"
    prompts: int = 32
    samples: int = 8
    steps: int = 250
    training: dict[str, Any] = field(default_factory=lambda: TRAINING)
    beta: float = 0.0
    max_completion_length: int = 512
    test_questions: int = 6319
    test_samples: int = 4
    curve_every: int = 50
    curve_samples: int = 1
    grader: Grader = grade_math
    model_name_or_path: str = "Qwen/Qwen3-0.6B"
    dataset_path: str | None = None

    def _load(self, split: str) -> Dataset:
        return concatenate_datasets(
            [
                part.load(split, conversational=True, dataset_path=self.dataset_path and f"{self.dataset_path}/{name}")
                for name, part in PARTS.items()
            ]
        )

    def _split(self) -> tuple[Dataset, Dataset, Dataset]:
        """Questions to test, to validate and to train on: of the last two each one once, and none that is tested."""
        test, rows = self._load("test"), self._load("train")
        seen = set(map(question_of, test))
        new = []
        for index, row in enumerate(rows):
            question = question_of(row)
            if question not in seen:
                seen.add(question)
                new.append(index)
        rows = rows.select(new).shuffle(seed=0)
        return test, rows.select(range(VALIDATION_QUESTIONS)), rows.select(range(VALIDATION_QUESTIONS, len(rows)))

    def find_base(self) -> str:
        return self.model_name_or_path

    def draw_training(self, seed: int, count: int) -> Dataset:
        _, _, rows = self._split()
        return draw_questions(rows, seed, count)

    def draw_held_out(self) -> tuple[Dataset, Dataset]:
        test, validation, _ = self._split()
        return test, validation


def question_of(row: dict[str, Any]) -> str:
    """What makes two questions the same, in whatever spaces and case they are written."""
    return " ".join(row["prompt"][0]["content"].split()).casefold()
