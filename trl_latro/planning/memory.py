# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Memory of a training per GPU, item by item."""

import math
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from trl import ModelConfig
from trl.trainer.utils import disable_dropout_in_model

from ..latro_config import LaTROConfig
from ..shared_prompt import why_not_shared
from .dry_run import DryRun
from .skeleton import Parameters, count_parameters
from .zero import Zero, model_states


# Bytes of an optimizer's state per parameter: two moments, of 32 or of 8 bits. Not "adamw_torch", which makes temporary
# copies of the weights in its step.
OPTIMIZERS = {
    "adamw_torch_fused": 8,
    "paged_adamw_32bit": 8,
    "adamw_8bit": 2,
    "adamw_bnb_8bit": 2,
    "paged_adamw_8bit": 2,
}


class Rows(NamedTuple):
    """
    The longest row of a batch, in tokens.

    Args:
        prompt (`int`): Prompt.
        rationale (`int`): Longest rationale.
        answer (`int`): Answer with its template.
        answers (`int`, *optional*, defaults to `1`): Right answers of a question at most: so many rows has a sample.
    """

    prompt: int
    rationale: int
    answer: int
    answers: int = 1

    @property
    def length(self) -> int:
        """Tokens of the whole row."""
        return self.prompt + self.rationale + self.answer


class Machine(NamedTuple):
    """
    Where the training runs.

    Args:
        num_gpus (`int`): GPUs per node.
        num_nodes (`int`): Nodes.
        zero ([`Zero`], *optional*): DeepSpeed's stage, `None` without DeepSpeed.
    """

    num_gpus: int
    num_nodes: int
    zero: Zero | None


class Memory(NamedTuple):
    """
    An estimate, in bytes.

    Args:
        states (`dict[str, int]`): What is on each GPU all the time.
        phases (`dict[str, int]`): What comes to it, one phase after the other.
        in_generation (`dict[str, int]`): The large parts of the generation, as far as there is one.
        host (`int`): Memory of the host per node, for DeepSpeed.
    """

    states: dict[str, int]
    phases: dict[str, int]
    in_generation: dict[str, int]
    host: int

    @property
    def total(self) -> int:
        """Bytes per GPU at the fullest moment."""
        return sum(self.states.values()) + max(self.phases.values())


def estimate_memory(
    model: PreTrainedModel | PeftModel, args: LaTROConfig, model_args: ModelConfig, machine: Machine, rows: Rows
) -> Memory:
    """
    Estimate the memory of a training.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The model on the meta device, from [`build_skeleton`]. It is used up.
        args ([`LaTROConfig`]):
            Settings of the training.
        model_args ([`~trl.ModelConfig`]):
            Type of the weights, LoRA and quantization.
        machine ([`Machine`]):
            GPUs and DeepSpeed's stage.
        rows ([`Rows`]):
            The longest row.
    """
    optim = str(args.optim.value)
    if optim not in OPTIMIZERS:
        raise ValueError(f"--optim {optim}: its memory is not known here, only that of {list(OPTIMIZERS)}.")
    if machine.zero is not None and OPTIMIZERS[optim] != 8:
        raise ValueError(
            f"--optim {optim} with DeepSpeed: DeepSpeed's estimate is for Adam in 32 bit. Use --optim adamw_torch_fused."
        )
    parameters = count_parameters(model, model_args)
    needs_reference = args.needs_reference and not isinstance(model, PeftModel)
    if machine.zero is None:
        states, host = plain_states(parameters, optim, needs_reference, machine), 0
    else:
        states, host = sharded_states(parameters, needs_reference, machine, machine.zero)
    phases, in_generation = run_phases(model, args, machine, rows, parameters)
    return Memory(states, phases, in_generation, host)


def plain_states(parameters: Parameters, optim: str, needs_reference: bool, machine: Machine) -> dict[str, int]:
    """Bytes on each GPU without DeepSpeed: nothing is sharded."""
    eight_bit = parameters.trainable - parameters.trained_embeddings if OPTIMIZERS[optim] == 2 else 0
    states = {
        "weights": parameters.frozen_bytes + parameters.trainable_bytes,
        "gradients": parameters.trainable_bytes,
        "optimizer": 2 * eight_bit
        + 2 * parameters.trainable_bytes * (parameters.trainable - eight_bit) // parameters.trainable,
    }
    if machine.num_gpus * machine.num_nodes > 1:
        states["buckets of the gradients (DDP)"] = parameters.trainable_bytes
    if needs_reference:
        states["reference model"] = states["weights"]
    return states


def sharded_states(
    parameters: Parameters, needs_reference: bool, machine: Machine, zero: Zero
) -> tuple[dict[str, int], int]:
    """Bytes on each GPU and on the host of each node with DeepSpeed."""
    gpu, host = model_states(
        zero, parameters.trainable, parameters.largest_module, machine.num_gpus, machine.num_nodes
    )
    states = {"weights, gradients, optimizer": gpu}
    shards = machine.num_gpus * machine.num_nodes if zero.stage == 3 else 1
    # Neither is trained, and DeepSpeed's estimate counts only what is
    others = {"frozen weights": parameters.frozen_bytes}
    if needs_reference:
        others["reference model"] = 2 * parameters.total  # 16 bit
    for name, nbytes in others.items():
        if nbytes and zero.offload_weights:
            host += nbytes // machine.num_nodes
        elif nbytes:
            states[name] = nbytes // shards
    return states, host


def run_phases(
    model: PreTrainedModel | PeftModel, args: LaTROConfig, machine: Machine, rows: Rows, parameters: Parameters
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of activations, KV cache and temporary copies of the weights, per GPU; and what a generation has of them."""
    sixteen_bit = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    if args.disable_dropout:  # dropout, an adapter's too, would keep masks and copies
        disable_dropout_in_model(model)
    shares_prompts = args.share_prompts and why_not_shared(model) is None
    # DeepSpeed casts the weights themselves, mixed precision makes copies of them as it goes
    autocast = sixteen_bit if machine.zero is None else None
    dry_run = DryRun(model, autocast, args.gradient_checkpointing, shares_prompts)
    length, scored = rows.length, rows.rationale + rows.answer
    train_rows, eval_rows = args.per_device_train_batch_size, args.per_device_eval_batch_size
    prompts = most_prompts(train_rows, args.num_generations)
    number = train_rows * rows.answers
    phases = {f"training step, {number} rows": dry_run.training_step(number, prompts, length, scored)}
    if eval_rows > train_rows:
        prompts = most_prompts(eval_rows, args.num_generations_eval or args.num_generations)
        number = eval_rows * rows.answers
        phases[f"scoring in evaluation, {number} rows"] = dry_run.scoring(number, prompts, length, scored)
    in_generation: dict[str, int] = {}
    if not args.use_vllm:
        samples = max(train_rows * args.steps_per_generation, eval_rows)
        # in evaluation completions go on to their answer
        generation, in_generation["KV cache"] = dry_run.generation(samples, rows.prompt, scored)
        if machine.zero is not None and machine.zero.stage == 3 and args.ds3_gather_for_generation:
            gathered = parameters.frozen_bytes + 2 * parameters.trainable
            generation += gathered
            in_generation["weights gathered on each GPU"] = gathered
        phases[f"generation, {samples} samples at once"] = generation
    return phases, in_generation


def most_prompts(rows: int, num_generations: int) -> int:
    """Of how many prompts the rows of a forward can be, which start at a multiple of their number."""
    latest_start = num_generations - math.gcd(rows, num_generations)  # within a prompt's samples
    return -(-(latest_start + rows) // num_generations)
