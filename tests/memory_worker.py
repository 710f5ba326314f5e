# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""500 steps with all that a long run does, for `test_memory.py`: writes what the process holds on the way."""

import ctypes
import gc
import json
import platform
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import tiny
from given import cpu_config
from trl_latro import LaTROTrainer


STEPS, EVERY = 500, 50


class Measure(TrainerCallback):
    """Memory in MiB, tensors, all objects that Python tracks, and the size of the log, after every 50 steps."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % EVERY == 0:
            gc.collect()
            if platform.libc_ver()[0] == "glibc":
                ctypes.CDLL(None).malloc_trim(0)  # pages that are free but kept, a few KiB per step, are not held
            objects = gc.get_objects()
            self.found.append(
                {
                    "step": state.global_step,
                    "memory": psutil.Process().memory_info().rss / 2**20,
                    "tensors": sum(type(value) in (torch.Tensor, torch.nn.Parameter) for value in objects),
                    "objects": len(objects),
                    "log": len(json.dumps(state.log_history)) / 2**20,
                }
            )


def main(folder: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=60)
    measure = Measure()
    args = cpu_config(
        str(folder / "run"),
        max_completion_length=4,
        num_generations=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        max_steps=STEPS,
        logging_steps=5,
        learning_rate=1e-3,
        eval_strategy="steps",
        eval_steps=25,
        save_strategy="steps",
        save_steps=25,
        save_total_limit=2,
        log_completions=True,
        disable_tqdm=True,
    )
    trainer = LaTROTrainer(
        tiny.save_model(tokenizer, folder / "model"),
        args,
        tiny.tiny_dataset(8),
        tiny.tiny_dataset(2),
        processing_class=tokenizer,
        callbacks=[measure],
    )
    trainer.train()
    (folder / "memory.json").write_text(json.dumps(measure.found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
