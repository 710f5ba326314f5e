# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Which samples share a forward. It changes no result, only its price."""

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor
from trl.trainer.utils import split_tensor_dict


def form_micro_batches(
    batches: list[dict[str, Tensor]], by_prompt: bool, prompts_whole: bool
) -> list[dict[str, Tensor]]:
    """
    Other micro-batches of the same rows.

    Args:
        batches (`list[dict[str, torch.Tensor]]`):
            Micro-batches of this process between which there is no step, with `rows` and `attention_mask`.
        by_prompt (`bool`):
            Whether a forward gets samples of one prompt, which share it, or of equal lengths, which need no padding.
        prompts_whole (`bool`):
            Whether all processes together get all samples of a prompt in one forward. They are on one process when they
            have been drawn, and are dealt out over all of them.

    Returns:
        `list[dict[str, torch.Tensor]]`: as many micro-batches, of the same sizes.
    """
    rows = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    key = rows["rows"] if by_prompt else rows["attention_mask"].sum(1)
    order = key.argsort()
    rows = {name: tensor[order] for name, tensor in rows.items()}
    if prompts_whole:
        state, size = PartialState(), len(batches[0]["rows"])
        rows = gather(pad_across_processes(rows, dim=1))  # (N, L)
        first, together = state.process_index * size, state.num_processes * size
        mine = [slice(start + first, start + first + size) for start in range(0, len(rows["rows"]), together)]
        rows = {name: torch.cat([tensor[part] for part in mine]) for name, tensor in rows.items()}
    return split_tensor_dict(rows, len(batches))
