# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the two contenders that are TRL trainers share: settings, and a meter around a training step."""

from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback

from meter import Meter
from models import LEARNING_RATE, LORA, Case, build_model, save_for_reference


def settings(case: Case) -> dict[str, Any]:
    """Arguments of `RLOOConfig` or of a subclass: a step takes all groups once."""
    samples = len(case.groups) * case.num_generations
    if samples % case.micro_batch != 0:
        raise ValueError(f"{samples} samples per step are not a multiple of the micro-batch, {case.micro_batch}.")
    return {
        "output_dir": str(case.folder),
        "num_generations": case.num_generations,
        "per_device_train_batch_size": case.micro_batch,
        "gradient_accumulation_steps": samples // case.micro_batch,
        "max_completion_length": case.longest_rationale,
        "beta": case.beta,
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": 0.0,  # the plain contenders do not clip either
        "gradient_checkpointing": case.shape.gradient_checkpointing,
        "bf16": case.shape.dtype == torch.bfloat16,
        "use_cpu": case.device.type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def trainer_arguments(case: Case) -> dict[str, Any]:
    """The other arguments of a trainer."""
    model = build_model(case)
    save_for_reference(model, case)
    rows = [{"prompt": group.prompt, "answer": group.answer} for group in case.groups]
    return {
        "model": model,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": case.tokenizer,
        "peft_config": LORA if case.lora else None,
    }


class Borders(TrainerCallback):
    """A training step for a meter or a profiler: from before its data are prepared until the parameters have changed."""

    def __init__(self, meter: Meter | torch.profiler.profile):
        self.meter = meter

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.meter.stop()


def watch(trainer: Trainer, meter: Meter) -> None:
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Borders(meter))
    meter.watch(trainer, "_generate_and_score_completions", "scoring")


def run(trainer: Trainer, steps: int) -> None:
    trainer.args.max_steps = steps
    trainer.train()


def given_rationales(case: Case, prompt_ids: list[list[int]], end: list[int]) -> list[list[int]]:
    """The completions of prompts that come K times each, one after the other, with `end` behind each rationale."""
    of_prompt = {tuple(group.prompt_ids): group.rationales for group in case.groups}
    return [[*rationale, *end] for ids in prompt_ids[:: case.num_generations] for rationale in of_prompt[tuple(ids)]]
