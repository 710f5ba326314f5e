# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""SmolLM2-135M-Instruct on GSM8K, after a warm start on half of its training rationales: for a GPU."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

from trl_latro.tasks.registry import get_task
from word_problems import warm_start
from word_problems.base_model import NAME, base_model
from word_problems.cache import make_once

from .task import StudyTask, draw_questions


VALIDATION_QUESTIONS = 200
TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "constant",
    "bf16": True,  # products in bfloat16, weights in float32
    "gradient_checkpointing": False,  # memory is not short here
}


@dataclass(frozen=True, kw_only=True)
class GSM8KTask(StudyTask):
    """
    GSM8K. Nothing of this task has been tuned or run.

    Args:
        dataset_path (`str`, *optional*): Folder with `train.jsonl` and `test.jsonl`; the Hub's data if not given.
        warm_start_steps (`int`): Steps of 16 rows of the warm start; 234 are once over its half.
    """

    title: str = "GSM8K"
    prompts: int = 32
    samples: int = 8
    steps: int = 100
    training: dict[str, Any] = field(default_factory=lambda: TRAINING)
    beta: float = 0.02
    max_completion_length: int = 256
    test_questions: int = 1319
    test_samples: int = 4
    curve_every: int = 20
    curve_samples: int = 1
    dataset_path: str | None = None
    warm_start_steps: int = 468

    def _load(self, split: str) -> Dataset:
        return get_task("gsm8k").load(split, conversational=True, dataset_path=self.dataset_path)

    def _halves(self) -> tuple[Dataset, Dataset]:
        """The rows of the warm start, and those that the methods train and validate on."""
        rows = self._load("train").shuffle(seed=0)
        half = len(rows) // 2
        return rows.select(range(half)), rows.select(range(half, len(rows)))

    def find_base(self) -> Path:
        base, (rows, _) = base_model(), self._halves()
        settings = warm_start.SETTINGS | {"max_steps": self.warm_start_steps}
        made_of = json.dumps([settings, rows.to_list()])
        name = f"{NAME}-gsm8k-{sha256(made_of.encode()).hexdigest()[:8]}"
        return make_once(name, lambda folder: warm_start.train(base, rows, folder, TrainerCallback(), settings))

    def draw_training(self, seed: int, count: int) -> Dataset:
        _, rows = self._halves()
        return draw_questions(rows.select(range(VALIDATION_QUESTIONS, len(rows))), seed, count)

    def draw_held_out(self) -> tuple[Dataset, Dataset]:
        _, rows = self._halves()
        return self._load("test"), rows.select(range(VALIDATION_QUESTIONS))
