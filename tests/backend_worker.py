# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Short runs whose result does not depend on the number of processes, for `backends.py`: one process of them is the
reference, and a launcher starts this file with two ranks.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from transformers import TrainingArguments

from given import lora_config
from tiny import tiny_dataset
from trl_latro import LaTROTrainer
from trl_latro.cli.train import ScriptConfig
from trl_latro.rollout.engine import RolloutEngine, Sampled


NUM_GENERATIONS = 4
MAX_COMPLETION_LENGTH = 24

# The text of a sample, from its row among those of all ranks, the number of rows, and a number that its prompt has
Completion = Callable[[int, int, int], str]


def mixed(row: int, num_rows: int, number: int) -> str:
    """Of a prompt's samples one reaches the stop string at once, one later, one an EOS token, one the length limit."""
    return ("The answer is 1.", f"It is {number}. The answer is", f"{number}!", f"{number}" * 99)[
        row % NUM_GENERATIONS
    ]


def unfinished(row: int, num_rows: int, number: int) -> str:
    return f"{number + row}" * 99


def empty(row: int, num_rows: int, number: int) -> str:
    return ("", "The answer is 1.")[row % 2]


def on_rank_1(completion: Completion) -> Completion:
    """Those of the second of two ranks; of the first they are mixed."""
    return lambda row, num_rows, number: (completion if row >= num_rows // 2 else mixed)(row, num_rows, number)


@dataclass(frozen=True)
class Feature:
    """
    A run: settings, where `per_device_train_batch_size` is that of each of two ranks, and what is sampled.

    `finished_ratio` is what the first step has to log. `generates` samples greedily beside, and keeps what was sampled.
    """

    per_device_train_batch_size: int
    settings: dict[str, Any]
    completion: Completion = mixed
    finished_ratio: float = 0.75
    lora: bool = False
    generates: bool = False
    num_eval_prompts: int = 4
    several_answers: bool = False
    reward_funcs: Sequence[Callable] = ()


def length(completions: list[str], **columns: Any) -> list[float]:
    return [len(text) / 10 for text in completions]


async def digits(completions: list[str], **columns: Any) -> list[float | None]:
    """Not of every sample."""
    return [None if "!" in text else float(sum(map(str.isdigit, text))) for text in completions]


ACCUMULATED: dict[str, Any] = {"gradient_accumulation_steps": 3, "reward_type": "jepo"}
# The first generation batch makes four steps, three of them off-policy; the fifth samples anew
REUSED: dict[str, Any] = {
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "num_iterations": 2,
    "max_steps": 5,
}


def sampled(*stop_strings: str, gather: bool) -> dict[str, Any]:
    """Stop strings at which one rank has few tokens, while the other goes on."""
    return {"rationale_stop_strings": ["The answer is", *stop_strings], "ds3_gather_for_generation": gather}


FEATURES: dict[str, Feature] = {
    "whole groups": Feature(4, {}),
    "split groups": Feature(2, {}),
    # The last batch of the evaluation is not full
    "accumulation, jepo": Feature(2, ACCUMULATED, num_eval_prompts=3),
    "reused samples": Feature(2, REUSED),
    # A rank has other rows for the model than the other rank
    "several answers": Feature(2, {}, several_answers=True),
    "several answers, reused samples": Feature(2, REUSED, several_answers=True),
    "rewards from outside": Feature(
        2, {"self_reward_weight": 0.5, "reward_weights": [0.3, 0.1]}, reward_funcs=[length, digits]
    ),
    "LoRA": Feature(2, {}, lora=True),
    "one rank unfinished": Feature(4, {}, on_rank_1(unfinished), finished_ratio=0.375),
    "one rank masked": Feature(4, {"mask_truncated_completions": True}, on_rank_1(unfinished), finished_ratio=0.375),
    "one rank empty": Feature(4, {}, on_rank_1(empty), finished_ratio=0.875),
    "both ranks empty": Feature(4, {}, empty, finished_ratio=1.0),
    "generation": Feature(4, sampled("7", gather=True), generates=True),
    "sharded generation": Feature(4, sampled("7", gather=False), generates=True),
    "LoRA, generation": Feature(4, sampled("at", "er", gather=True), lora=True, generates=True),
    "LoRA, sharded generation": Feature(4, sampled("at", "er", gather=False), lora=True, generates=True),
}


def rows_of_rank(num_local: int) -> range:
    start = PartialState().process_index * num_local
    return range(start, start + num_local)


class FixedCompletions(RolloutEngine):
    """Sampling is drawn per rank. Here completions depend on the row among those of all ranks."""

    def __init__(self, trainer: LaTROTrainer, feature: Feature):
        super().__init__(trainer.truncator, trainer.max_completion_length)
        self.sampling = trainer.engine
        self.feature = feature
        self.generated: list[list[list[int]]] = []  # of each call, all ranks

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        if self.feature.generates:
            completions = self.sampling.roll_out(prompt_ids, num_generations, answer_budget)
            self.generated.append(gather_object([completion.ids for completion in completions]))
        tokenizer = self.truncator.tokenizer
        num_rows = len(prompt_ids) * PartialState().num_processes
        fixed = []
        for row, ids in zip(rows_of_rank(len(prompt_ids)), prompt_ids, strict=True):
            text = self.feature.completion(row, num_rows, len(ids) + sum(ids) % 10)
            sampled = tokenizer(text, add_special_tokens=False)["input_ids"]
            unfinished = len(sampled) > MAX_COMPLETION_LENGTH
            fixed.append(
                Sampled(sampled[:MAX_COMPLETION_LENGTH] if unfinished else [*sampled, tokenizer.eos_token_id])
            )
        return fixed


class FixedSamples(LaTROTrainer):
    """Which samples share a step is drawn per rank. Here forwards have the samples that they have with two ranks."""

    engine: FixedCompletions

    def __init__(self, feature: Feature, **kwargs: Any):
        super().__init__(**kwargs)
        self.engine = FixedCompletions(self, feature)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {**super()._generate_and_score_completions(inputs), "row": torch.tensor(rows_of_rank(len(inputs)))}

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or self._scores_in_loss:  # there the prompts decide, nothing is drawn
            return inputs
        # The parent has shuffled the rows of this rank: the forward that each belongs to, with two ranks
        batch = {name: torch.cat([part[name] for part in self._buffered_inputs]) for name in inputs}
        num_forwards = len(self._buffered_inputs)
        num_rows_of_rank = len(batch["row"]) * self.accelerator.num_processes // 2
        forward = batch["row"] % num_rows_of_rank * num_forwards // num_rows_of_rank
        order = sorted(range(len(forward)), key=lambda index: (forward[index].item(), batch["row"][index].item()))
        parts = {name: tensor[order].chunk(num_forwards) for name, tensor in batch.items()}
        self._buffered_inputs = [{name: parts[name][index] for name in parts} for index in range(num_forwards)]
        return self._buffered_inputs[0]


@torch.no_grad()
def fill_adapter(model: nn.Module) -> None:
    """The same numbers whatever has been drawn before, and an adapter that is not zero: the reference is without it."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def allow_fsdp_on_cpu(args: TrainingArguments) -> None:
    """accelerate 1.15 turns FSDP on for types of GPUs alone, and on CPU runs DDP. Torch's FSDP2 runs on both."""
    assert args.distributed_state.distributed_type == DistributedType.MULTI_CPU
    args.distributed_state.distributed_type = DistributedType.MULTI_GPU


def train(name: str, model: str, output_dir: Path, num_processes: int, deepspeed: str | None = None) -> None:
    """
    Train, evaluate and save. The main process writes the weights and what was logged, sampled and used; a single
    process writes the weights that training begins with to `before`.
    """
    feature = FEATURES[name]
    settings = {
        "num_generations": NUM_GENERATIONS,
        "per_device_train_batch_size": feature.per_device_train_batch_size * 2 // num_processes,
        "gradient_accumulation_steps": 1,
        "per_device_eval_batch_size": 8 // num_processes,
        "max_completion_length": MAX_COMPLETION_LENGTH,
        "max_steps": 2,
        "beta": 0.5,
        "learning_rate": 1e-2,
        "adam_epsilon": 1e-3,  # small gradients then make small steps, and rounding errors stay small
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    args = ScriptConfig(output_dir=str(output_dir), deepspeed=deepspeed, **{**settings, **feature.settings})
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        allow_fsdp_on_cpu(args)
    trainer = FixedSamples(
        feature,
        model=model,
        args=args,
        train_dataset=tiny_dataset(several_answers=feature.several_answers),
        eval_dataset=tiny_dataset(num_rows=feature.num_eval_prompts, several_answers=feature.several_answers),
        reward_funcs=list(feature.reward_funcs),
        peft_config=lora_config() if feature.lora else None,
    )
    assert trainer.accelerator.num_processes == num_processes
    trainer.generation_config.do_sample = False
    if feature.lora:
        fill_adapter(trainer.model)
    if num_processes == 1:
        trainer.save_model(str(output_dir / "before"))
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        (output_dir / "log_history.json").write_text(json.dumps(trainer.state.log_history))
        (output_dir / "generated.json").write_text(json.dumps(trainer.engine.generated))
        kind = {"wrapper": type(trainer.model_wrapped).__name__, "zero_stage": trainer._dist.zero_stage}
        (output_dir / "backend.json").write_text(json.dumps(kind))


if __name__ == "__main__":
    # The launcher of DeepSpeed puts --local_rank in front; the rank is read from the environment.
    *_, model_path, output_path, deepspeed_path, names = sys.argv
    for feature_name in names.split(";"):
        train(feature_name, model_path, Path(output_path) / feature_name, 2, deepspeed_path or None)
