# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Samples that were drawn together, and what the log says of them."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .objective import group_correlation


class SampleColumns(NamedTuple):
    """Quantities of the samples, one number each: of this process `(B,)`, gathered from all of them `(N,)`."""

    rows: Tensor  # places of the samples among those that were drawn together, on all processes
    rewards: Tensor
    kl: Tensor
    answer_logps: Tensor
    finished: Tensor
    lengths: Tensor
    sampled_lengths: Tensor


@dataclass
class Rollout:
    """Samples that were drawn together, and their rewards, which may come in several parts."""

    num_samples: int  # over all processes
    table: dict[str, list]  # of this process
    scored: list[tuple[SampleColumns, Tensor]] = field(default_factory=list)  # with their advantages

    def scores(self) -> tuple[SampleColumns, Tensor] | None:
        """Columns and advantages of all samples in the order that they were drawn in, once they are there `(N,)`."""
        rows = torch.cat([columns.rows for columns, _ in self.scored]).long()
        if len(rows) < self.num_samples:
            return None
        order = rows.argsort()
        columns = zip(*(columns for columns, _ in self.scored), strict=True)
        advantages = torch.cat([advantages for _, advantages in self.scored])
        return SampleColumns(*(torch.cat(column)[order] for column in columns)), advantages[order]


def completion_metrics(columns: SampleColumns) -> dict[str, float]:
    """TRL's metrics of lengths, where a stop string ends a completion as an end token does, from `(N,)` samples."""
    finished = columns.finished
    terminated = columns.sampled_lengths[finished.bool()] if finished.any() else torch.zeros(1)
    return {
        "completions/clipped_ratio": 1.0 - finished.mean().item(),
        "completions/mean_terminated_length": terminated.mean().item(),
        "completions/min_terminated_length": terminated.min().item(),
        "completions/max_terminated_length": terminated.max().item(),
    }


def rollout_metrics(columns: SampleColumns, advantages: Tensor, num_generations: int, beta: float) -> dict[str, float]:
    """
    Metrics of the rewards.

    Args:
        columns ([`SampleColumns`]):
            Samples, `(N,)` each, the `num_generations` of a prompt adjacent.
        advantages (`torch.Tensor` of shape `(N,)`):
            Their advantages.
        num_generations (`int`):
            Rationales per prompt, K.
        beta (`float`):
            Weight of the KL.
    """
    rewards, kl, answer_logps, lengths = columns.rewards, columns.kl, columns.answer_logps, columns.lengths
    group_std = (rewards - beta * kl).view(-1, num_generations).std(1, correction=0)  # (N / K,)
    metrics = {
        "reward": rewards.mean(),  # without the KL, as in RLOO
        "reward_std": rewards.std(),
        "frac_reward_zero_std": (group_std < 1e-8).float().mean(),
        "latro/answer_logp": answer_logps.mean(),
        "latro/answer_prob": answer_logps.exp().mean(),
        "latro/finished_ratio": columns.finished.mean(),
    }
    if beta != 0.0:
        metrics["kl"] = kl.sum() / lengths.sum().clamp(min=1.0)  # per token, as in RLOO
    # Within a prompt the advantage is the reward r_k, shifted and scaled
    correlation = group_correlation(lengths, advantages, num_generations)
    if not correlation.isnan():  # every prompt's rationales may be of one length
        metrics["latro/length_reward_corr"] = correlation
    return {name: value.item() for name, value in metrics.items()}
