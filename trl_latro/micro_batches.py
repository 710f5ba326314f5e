# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Which samples share a forward. It changes no result, only its price."""

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor
from trl.trainer.utils import split_tensor_dict

from .latro_config import LaTROConfig


def scores_in_loss(args: LaTROConfig, shares_prompts: bool, training: bool) -> bool:
    """
    Whether the forward that is trained with scores the samples too: the policy is still the one that drew them, and all
    samples of a prompt are in one forward, that of each process counted in.
    """
    if not shares_prompts or args.normalize_advantages:
        return False
    return not training or (
        args.num_iterations == 1
        and args.gradient_accumulation_steps % args.steps_per_generation == 0
        and args.per_device_train_batch_size * args.world_size % args.num_generations == 0
    )


def form_micro_batches(
    batches: list[dict[str, Tensor]], together: int, by_prompt: bool, deal: bool
) -> list[dict[str, Tensor]]:
    """
    Other micro-batches of the same rows, as many and of the same sizes.

    Args:
        batches (`list[dict[str, torch.Tensor]]`):
            Micro-batches of this process, with `rows` and `attention_mask`.
        together (`int`):
            Micro-batches that may exchange rows: so many following ones, between which there is no step.
        by_prompt (`bool`):
            Whether a forward gets samples of one prompt, which share it, or of equal lengths, which need no padding.
        deal (`bool`):
            Whether to deal the samples of a prompt out over all processes, so that they are in one forward together. They
            are on one process when they have been drawn.
    """
    formed = []
    for start in range(0, len(batches), together):
        parts = batches[start : start + together]
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        key = rows["rows"] if by_prompt else rows["attention_mask"].sum(1)
        order = key.argsort()
        rows = {name: tensor[order] for name, tensor in rows.items()}
        formed += split_tensor_dict(_deal_out(rows, len(parts)) if deal else rows, len(parts))
    return formed


def _deal_out(rows: dict[str, Tensor], num_forwards: int) -> dict[str, Tensor]:
    """Rows of this process, such that each forward of all processes has rows that follow each other."""
    state, size = PartialState(), len(rows["rows"]) // num_forwards
    rows = gather(pad_across_processes(rows, dim=1))  # (N, L)
    first, together = state.process_index * size, state.num_processes * size
    mine = [slice(start + first, start + first + size) for start in range(0, len(rows["rows"]), together)]
    return {name: torch.cat([tensor[part] for part in mine]) for name, tensor in rows.items()}
