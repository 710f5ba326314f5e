# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The one piece of the objective that more than one plain contender needs."""

from torch import Tensor


def leave_one_out(rewards: Tensor, num_generations: int) -> Tensor:
    """`A_k = r_k - mean_{j != k} r_j`, `(N,)`, the rows of a prompt adjacent."""
    groups = rewards.view(-1, num_generations)  # (N / K, K)
    return ((groups - groups.mean(1, keepdim=True)) * num_generations / (num_generations - 1)).view(-1)
