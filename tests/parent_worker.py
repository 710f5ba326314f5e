# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Two updates of TRL's own `RLOOTrainer`, for `test_backends.py`: what fails here is not LaTRO's."""

import json
import sys
from dataclasses import dataclass

from trl import RLOOConfig, RLOOTrainer

from backend_worker import MAX_COMPLETION_LENGTH, NUM_GENERATIONS
from given import lora_config
from tiny import tiny_dataset
from trl_latro.cli.common import AnyMachine


@dataclass
class ParentConfig(AnyMachine, RLOOConfig):
    """TRL's config for a machine without GPU."""


def length(completions: list[str], **kwargs: list) -> list[float]:
    return [float(len(completion)) for completion in completions]


def main(model: str, output_dir: str, deepspeed: str, gather: str, lora: str) -> None:
    trainer = RLOOTrainer(
        model=model,
        reward_funcs=length,
        args=ParentConfig(
            output_dir=output_dir,
            deepspeed=deepspeed,
            num_generations=NUM_GENERATIONS,
            per_device_train_batch_size=NUM_GENERATIONS,
            gradient_accumulation_steps=1,
            max_completion_length=MAX_COMPLETION_LENGTH,
            max_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            ds3_gather_for_generation=gather == "gathered",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=tiny_dataset(),
        peft_config=lora_config() if lora == "lora" else None,
    )
    trainer.train()
    if trainer.is_world_process_zero():
        logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
        print(f"Learning rates: {json.dumps(logged)}")
        print(f"Wrapper: {type(trainer.model_wrapped).__name__}")


if __name__ == "__main__":
    main(*sys.argv[-5:])
