# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Samples that were drawn together, and their metrics; pure functions on tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import is_conversational

from .grading import Grade, majority_accuracy
from .objective import Credit, group_correlation


class SampleColumns(NamedTuple):
    """Quantities of the samples, one number each: of this process `(B,)`, gathered from all of them `(N,)`."""

    values: Tensor  # R, what the answer's log-probs say of the rationale
    kl: Tensor
    answer_logps: Tensor
    finished: Tensor
    prompt_lengths: Tensor
    sampled_lengths: Tensor
    rationale_lengths: Tensor


class ScoredSamples(NamedTuple):
    """Samples of all processes with their credit, `(N,)` each."""

    rows: Tensor  # positions of the samples among those that were drawn together
    columns: SampleColumns
    credit: Credit


class LossColumns(NamedTuple):
    """Parts of the loss of each sample, `(B,)` or `(N,)`."""

    rationale_loss: Tensor
    answer_loss: Tensor
    weighted_aux_loss: Tensor  # of the forward that the sample was in; 0 but for a model of experts
    clipped_low: Tensor  # 1 where the probability ratio to the time of sampling is clipped below, as in RLOO
    clipped_high: Tensor
    entropy: Tensor  # summed over the rationale's tokens

    def metrics(self, num_tokens: Tensor) -> dict[str, float]:
        """Means over the samples, and of the entropy over their `num_tokens` rationale tokens."""
        low, high = self.clipped_low.mean(), self.clipped_high.mean()
        metrics = {
            # On-policy this is near 0 by construction
            "latro/policy_loss": self.rationale_loss.mean(),
            "latro/answer_loss": self.answer_loss.mean(),
            "clip_ratio/low_mean": low,
            "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low + high,
            "entropy": self.entropy.sum() / num_tokens.clamp(min=1.0),
        }
        return {name: value.item() for name, value in metrics.items()}


@dataclass
class Rollout:
    """
    Samples that were drawn together, by all processes.

    They may be scored in several parts, by the forwards that train on them; metrics are those of all of them.

    Args:
        table (`list[dict[str, Any]]`):
            A row of the completions table for each sample, as far as it is known before scoring: `"prompt"` at least.
        grades (`list[Grade]`, *optional*):
            Verdicts on the completions' own answers, in evaluation.
        parts (`list[ScoredSamples]`, *optional*):
            Parts that are scored.
    """

    table: list[dict[str, Any]]
    grades: list[Grade] = field(default_factory=list)
    parts: list[ScoredSamples] = field(default_factory=list)

    def scored(self) -> ScoredSamples | None:
        """All samples in the order in which they were drawn, once they are scored."""
        rows = torch.cat([part.rows for part in self.parts])
        if len(rows) < len(self.table):
            return None
        order = rows.argsort()
        columns, credit = (zip(*parts, strict=True) for parts in zip(*(part[1:] for part in self.parts), strict=True))
        return ScoredSamples(
            rows[order],
            SampleColumns(*(torch.cat(column)[order] for column in columns)),
            Credit(*(torch.cat(column)[order] for column in credit)),
        )

    def prompts(self, rows: Tensor) -> list[str]:
        """Prompts of samples by their positions, as text."""
        return [str(self.table[row]["prompt"]) for row in rows.tolist()]


def completion_rows(
    prompts: list[Any], answers: list[str], texts: list[str], rationales: list[str], grades: Sequence[Grade | None]
) -> list[dict[str, Any]]:
    """
    Rows of the completions table, as far as they are known before scoring.

    Args:
        prompts (`list`):
            Prompts, text or messages.
        answers (`list[str]`):
            Reference answers.
        texts (`list[str]`):
            Completions.
        rationales (`list[str]`):
            Their truncated rationales.
        grades (`Sequence[Grade | None]`):
            Verdicts on the completions' own answers, `None` where they are not graded.
    """
    conversational = is_conversational({"prompt": prompts[0]})
    return [
        {
            "prompt": prompt,
            "completion": [{"role": "assistant", "content": text}] if conversational else text,
            "rationale": rationale,
            "answer": answer,
            "extracted": "" if grade is None else grade.extracted or "",
            "correct": "" if grade is None else "yes" if grade.correct else "no",
        }
        for prompt, answer, text, rationale, grade in zip(prompts, answers, texts, rationales, grades, strict=True)
    ]


def check_groups(table: list[dict[str, Any]], num_generations: int, mode: str) -> None:
    """
    Check that the samples of a prompt are adjacent, in the table of all processes.

    Raises:
        `ValueError`: the batch ends within the samples of a prompt, or mixes those of several.
    """
    if len(table) % num_generations != 0:
        raise ValueError(
            f"A batch of `{mode}_dataset` has {len(table)} samples over all processes, which is not a multiple of the "
            f"{num_generations} generations per prompt. Choose `per_device_{mode}_batch_size` so that it is."
        )
    for first in range(0, len(table), num_generations):
        prompts = [row["prompt"] for row in table[first : first + num_generations]]
        other = next((prompt for prompt in prompts if prompt != prompts[0]), None)
        if other is not None:
            raise ValueError(
                f"A batch of `{mode}_dataset` has samples of {prompts[0]!r} and {other!r} where the {num_generations} "
                "generations of one prompt should be. A stream with several shards is dealt out to the processes shard by "
                "shard: give it one shard, or choose `per_device_"
                f"{mode}_batch_size` so that each process has whole prompts."
            )


def length_metrics(columns: SampleColumns) -> dict[str, float]:
    """TRL's metrics of lengths, where a stop string ends a completion as an EOS token does, from `(N,)` samples."""
    lengths, finished = columns.sampled_lengths, columns.finished
    terminated = lengths[finished.bool()] if finished.any() else torch.zeros(1)
    return {
        "completions/mean_length": lengths.mean().item(),
        "completions/min_length": lengths.min().item(),
        "completions/max_length": lengths.max().item(),
        "completions/clipped_ratio": 1.0 - finished.mean().item(),
        "completions/mean_terminated_length": terminated.mean().item(),
        "completions/min_terminated_length": terminated.min().item(),
        "completions/max_terminated_length": terminated.max().item(),
    }


def reward_metrics(columns: SampleColumns, credit: Credit, num_generations: int, beta: float) -> dict[str, float]:
    """
    Metrics of the rewards.

    Args:
        columns ([`SampleColumns`]):
            Samples, `(N,)` each, the `num_generations` of a prompt adjacent.
        credit ([`~trl_latro.objective.Credit`]):
            Their rewards and advantages, `(N,)` each.
        num_generations (`int`):
            Rationales per prompt, K.
        beta (`float`):
            Coefficient of the KL.
    """
    rewards, kl, answer_logps, lengths = credit.rewards, columns.kl, columns.answer_logps, columns.rationale_lengths
    group_std = (rewards - beta * kl).view(-1, num_generations).std(1, correction=0)  # (N / K,)
    metrics = {
        "reward": rewards.mean(),  # without the KL, as in RLOO
        "reward_std": rewards.std() if len(rewards) > 1 else torch.zeros(()),
        "frac_reward_zero_std": (group_std < 1e-8).float().mean(),
        "latro/answer_logp": answer_logps.mean(),
        "latro/answer_prob": answer_logps.exp().mean(),
        "latro/finished_ratio": columns.finished.mean(),
    }
    if beta != 0.0:
        metrics["kl"] = kl.sum() / lengths.sum().clamp(min=1.0)  # per token, as in RLOO
    # Within a prompt the advantage is the reward r_k, shifted and scaled
    correlation = group_correlation(lengths, credit.advantages, num_generations)
    if not correlation.isnan():  # every prompt's rationales may be of one length
        metrics["latro/length_reward_corr"] = correlation
    return {name: value.item() for name, value in metrics.items()}


def accuracy_metrics(grades: list[Grade], num_generations: int) -> dict[str, list[float]]:
    """Metrics of graded samples, the `num_generations` of a prompt adjacent: a value for each sample or prompt."""
    groups = [grades[start : start + num_generations] for start in range(0, len(grades), num_generations)]
    return {
        "accuracy": [float(grade.correct) for grade in grades],
        f"maj@{num_generations}": [majority_accuracy(group) for group in groups],
        "no_answer": [float(grade.extracted is None) for grade in grades],
    }
