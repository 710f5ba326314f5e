# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Steps and epochs that are promised at the start, against those of the trainer."""

from pathlib import Path
from typing import Any

import pytest

from given import cpu_config
from tiny import byte_level_tokenizer, save_model, tiny_dataset
from trl_latro import LaTROTrainer
from trl_latro.cli.budget import budget, count_steps
from trl_latro.cli.plan import PlanConfig


def paper(tmp_path: Path, **settings: Any) -> PlanConfig:
    return PlanConfig(output_dir=str(tmp_path), num_gpus=8, report_to="none", **settings)


@pytest.mark.parametrize(
    ("settings", "num_questions", "line"),
    [
        (
            {"max_steps": 117},
            7473,
            "24 prompts x 16 samples per step, 117 steps, 0.38 of an epoch (7,473 questions)",
        ),
        (
            {"max_steps": 117},
            1019,
            "24 prompts x 16 samples per step, 117 steps, 2.76 epochs (1,019 questions)",
        ),
        ({"max_steps": 117}, None, "24 prompts x 16 samples per step, 117 steps"),
        ({"num_train_epochs": 2}, None, "24 prompts x 16 samples per step, 2 epochs"),
        # 7217 // 24 = 300 batches; the last 17 questions are left out
        (
            {"num_train_epochs": 2},
            7217,
            "24 prompts x 16 samples per step, 600 steps, 2.00 epochs (7,217 questions)",
        ),
        # Every batch serves for two steps
        (
            {"num_train_epochs": 1, "num_iterations": 2},
            240,
            "24 prompts x 16 samples per step, 20 steps, 1.00 epochs (240 questions)",
        ),
        # Generated for two steps at a time
        (
            {"max_steps": 10, "steps_per_generation": 24},
            480,
            "24 prompts x 16 samples per step, 10 steps, 0.5 of an epoch (480 questions)",
        ),
    ],
)
def test_the_line(tmp_path: Path, settings: dict[str, Any], num_questions: int | None, line: str) -> None:
    assert budget(paper(tmp_path, **settings), num_questions) == line


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_epochs": 1.5},
        {"num_train_epochs": 1, "num_iterations": 2},
        {"num_train_epochs": 1, "steps_per_generation": 4},
        {"num_train_epochs": 1, "steps_per_generation": 1},
    ],
    ids=lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()),
)
def test_the_trainer_makes_as_many_steps(tmp_path: Path, settings: dict[str, Any]) -> None:
    args = cpu_config(
        str(tmp_path),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_completion_length=2,
        **settings,
    )
    dataset = tiny_dataset(num_rows=11)
    trainer = LaTROTrainer(
        model=save_model(byte_level_tokenizer(), tmp_path / "model"), args=args, train_dataset=dataset
    )
    trainer.train()
    assert trainer.state.global_step == count_steps(args, len(dataset))
