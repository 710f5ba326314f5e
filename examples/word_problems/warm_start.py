# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The model that LaTRO starts from: SmolLM2 after some steps of SFT on worked solutions, which are not trained on again."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback

from baselines.baseline import BaselineConfig, BaselineTrainer, gold_rows
from trl_latro.answer_template import AnswerTemplate
from trl_latro.tasks.registry import get_task
from word_problems.base_model import NAME, base_model
from word_problems.cache import make_once
from word_problems.problems import make_problems, write_problems
from word_problems.settings import BF16


SETTINGS: dict[str, Any] = {
    "max_steps": 30,
    "per_device_train_batch_size": 4,  # in 4 GB of memory
    "gradient_accumulation_steps": 4,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "bf16": BF16,
    "seed": 0,
}


def warm_start(callback: TrainerCallback) -> Path:
    """
    The folder of the model, in the cache: made at the first call, under the eyes of `callback`.

    Raises:
        `ValueError`, `OutputDirError`: see [`base_model`].
    """
    base = base_model()
    per_step = SETTINGS["per_device_train_batch_size"] * SETTINGS["gradient_accumulation_steps"]
    problems = make_problems(SETTINGS["max_steps"] * per_step, SETTINGS["seed"], "warm_start")

    def make(folder: Path) -> None:
        write_problems(folder / "warm_start.jsonl", problems)
        rows = get_task(str(folder / "warm_start.jsonl"), rationale_column="rationale").load(
            "train", conversational=True
        )
        train(base, rows, folder, callback)

    made_of = json.dumps([SETTINGS, [problem.question + problem.rationale for problem in problems]])
    return make_once(f"{NAME}-word-problems-{sha256(made_of.encode()).hexdigest()[:8]}", make)


def train(
    base: Path,
    questions: Dataset,
    folder: Path,
    callback: TrainerCallback,
    settings: dict[str, Any] = SETTINGS,
) -> None:
    """SFT on the questions' worked solutions; the model is saved to `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = BaselineConfig(
        output_dir=str(folder),
        gradient_checkpointing=False,  # memory is not short here
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        **settings,
    )
    rows = gold_rows(questions, AnswerTemplate())
    trainer = BaselineTrainer(str(base), config, train_dataset=rows, processing_class=tokenizer, callbacks=[callback])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model()
