# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Models of a shape with random weights, the same at every call."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from rows import Group
from shapes import Shape


@dataclass(frozen=True)
class Case:
    """
    What is measured, the same for every contender.

    Args:
        shape (`Shape`): Sizes of the model.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): See `build_tokenizer`.
        groups (`list[Group]`): The rows of a training step.
        longest_rationale (`int`): Tokens after which sampling ends.
        micro_batch (`int`): Samples per forward; a step accumulates gradients over its micro-batches.
        beta (`float`): Weight of the KL. With 0 there is no reference model.
        lora (`bool`): Train a LoRA adapter of rank 16 on all linear layers instead of all weights.
        device (`torch.device`): Where.
        folder (`Path`): For files that a trainer needs.
    """

    shape: Shape
    tokenizer: PreTrainedTokenizerFast
    groups: list[Group]
    longest_rationale: int
    micro_batch: int
    beta: float
    lora: bool
    device: torch.device
    folder: Path

    @property
    def num_generations(self) -> int:
        return len(self.groups[0].rationales)


LORA = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
LEARNING_RATE = 5e-7


def build_model(case: Case) -> PreTrainedModel:
    """The base model, made on the device itself."""
    config = case.shape.config(case.tokenizer.eos_token_id, case.tokenizer.pad_token_id)
    with torch.random.fork_rng(devices=[case.device] if case.device.type == "cuda" else []), case.device:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=case.shape.dtype, attn_implementation="sdpa")


def save_for_reference(model: PreTrainedModel, case: Case) -> None:
    """TRL loads the reference model from the path that the model came from; an adapter needs none."""
    if case.beta != 0.0 and not case.lora:
        model.save_pretrained(case.folder)
        model.config._name_or_path = str(case.folder)


class Policy:
    """
    The model that plain contenders train, with its frozen reference and its optimizer, as TRL's trainers have them.

    Args:
        case (`Case`): What is measured.
    """

    def __init__(self, case: Case):
        base = build_model(case)
        self.reference: nn.Module | None = None
        if case.lora:
            self.model: PreTrainedModel | PeftModel = get_peft_model(base, LORA)
            if case.shape.gradient_checkpointing:
                self.model.enable_input_require_grads()
        else:
            self.model = base
            if case.beta != 0.0:
                self.reference = copy.deepcopy(base).eval().requires_grad_(False)
        if case.shape.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    @contextmanager
    def as_reference(self) -> Iterator[nn.Module]:
        if self.reference is not None:
            yield self.reference
            return
        assert isinstance(self.model, PeftModel)
        with self.model.disable_adapter():
            yield self.model

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def autocast(case: Case) -> AbstractContextManager:
    return torch.autocast(case.device.type, torch.bfloat16) if case.shape.dtype == torch.bfloat16 else nullcontext()
