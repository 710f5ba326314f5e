# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A run of two steps on eight questions in GSM8K's form: its data, its arguments, and the state that it ends with."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerState


GSM8K_ROWS = [
    {"question": f"Ann has {n} apples and buys {n} more. How many has she?", "answer": f"{n}+{n}.\n#### {2 * n}"}
    for n in range(8)
]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def arguments(tmp_path: Path, model: str, *more: str) -> list[str]:
    """A run of two steps, with a checkpoint after each."""
    args = {
        "model_name_or_path": model,
        "dataset_path": str(tmp_path),
        "output_dir": str(tmp_path / "run"),
        "validation_size": 2,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 8,
        "max_steps": 2,
        "save_steps": 1,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
    }
    return [text for name, value in args.items() for text in (f"--{name}", str(value))] + list(more)


def last_state(output_dir: Path) -> TrainerState:
    last = max(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return TrainerState.load_from_json(last / "trainer_state.json")
