# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Samples that were drawn together, and their metrics; pure functions on tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import is_conversational

from .answer_template import AnswerTemplate, list_answers
from .grading import NO_ANSWER, Grade, Grader, grade_completion, majority_accuracy
from .objective import Credit, group_correlation, log_mean_prob
from .rollout.engine import Completion
from .several_answers import logp_of_any_answer
from .truncation import ContinuationDecoder


class SampleColumns(NamedTuple):
    """Quantities of the samples, one number each: of this process `(B,)`, gathered from all of them `(N,)`."""

    values: Tensor  # R, what the answer's log-probs say of the rationale, by the scorer
    policy_values: Tensor  # R by the policy
    kl: Tensor
    answer_logps: Tensor  # of the template too
    own_logps: Tensor  # of the answer's own tokens and what follows
    finished: Tensor
    prompt_lengths: Tensor
    sampled_lengths: Tensor
    rationale_lengths: Tensor
    # Policy less engine, over the rationale's tokens; 0 where the engine gives no log-probs
    sampling_log_ratios: Tensor
    sampling_differences: Tensor  # sum of the absolute ones
    largest_sampling_differences: Tensor

    def not_finite(self, outside: Tensor | None = None) -> list[tuple[str, Tensor]]:
        """What is NaN or infinite, of rewards from outside `(N,)` too, and in which samples, `(N,)` of booleans."""
        quantities = {
            "A reward": torch.stack([self.values, self.policy_values, self.kl, self.answer_logps]),
            # From logits that were not finite: the engine has sampled from something else than the policy
            "A log-prob of a sampled token, as the engine gives it,": self.sampling_log_ratios[None],
        }
        if outside is not None:
            quantities["A reward of `reward_funcs`"] = outside[None]
        found = [(what, ~tensors.isfinite().all(0)) for what, tensors in quantities.items()]
        return [(what, rows) for what, rows in found if rows.any()]


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
        has_logps (`bool`, *optional*, defaults to `False`):
            Whether the engine has given the log-probs of the tokens that it sampled.
        outside (`torch.Tensor` of shape `(N, F)`, *optional*):
            Rewards of the `reward_funcs`, where there are any.
        logps_without_rationale (`torch.Tensor` of shape `(N,)`, *optional*):
            Log-probs of the answers' own tokens right after the prompt, where that was measured; NaN for other samples.
        parts (`list[ScoredSamples]`, *optional*):
            Parts that are scored.
    """

    table: list[dict[str, Any]]
    grades: list[Grade] = field(default_factory=list)
    has_logps: bool = False
    outside: Tensor | None = None
    logps_without_rationale: Tensor | None = None
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


def known_before_scoring(
    prompt_ids: list[list[int]], completions: list[Completion], device: torch.device
) -> dict[str, Tensor]:
    """Whether rationales are finished, tokens of the prompts, and sampled tokens, `(B,)` each."""
    return {
        "finished": torch.tensor([float(one.rationale.finished) for one in completions], device=device),
        "prompt_lengths": torch.tensor([float(len(ids)) for ids in prompt_ids], device=device),
        "sampled_lengths": torch.tensor([float(len(one.sampled_ids)) for one in completions], device=device),
    }


def measure(logps: Tensor, values: Tensor, policy_values: Tensor, batch: dict[str, Tensor]) -> SampleColumns:
    """
    Quantities of samples.

    Args:
        logps (`torch.Tensor` of shape `(B, L)`):
            Log-probs of rationales and answers under the policy.
        values (`torch.Tensor` of shape `(B,)`), policy_values (`torch.Tensor` of shape `(B,)`):
            `R` of each row, by the scorer and by the policy.
        batch (`dict[str, torch.Tensor]`):
            Rows of [`~trl_latro.packing.pack_samples`] with [`known_before_scoring`], and `reference_logps` `(B, L)` where
            there is a reference model.
    """

    def less(name: str) -> Tensor:
        """The policy's log-probs less others of the batch, on rationales `(B, L)`."""
        return (logps - batch[name]) * batch["rationale_mask"] if name in batch else torch.zeros_like(logps)

    differences = less("sampling_logps")  # (B, L)
    return SampleColumns(
        values,
        policy_values,
        less("reference_logps").sum(1),
        logp_of_any_answer(logps, batch["answer_mask"], batch["answer_index"]),  # l(z) = log pi(y|x,z)
        logp_of_any_answer(logps, batch["own_mask"], batch["answer_index"]),
        batch["finished"],
        batch["prompt_lengths"],
        batch["sampled_lengths"],
        batch["rationale_mask"].sum(1).float(),
        differences.sum(1),
        differences.abs().sum(1),
        differences.abs().amax(1),
    )


def completion_rows(
    inputs: list[dict[str, Any]],
    completions: list[Completion],
    decode: ContinuationDecoder,
    grades: Sequence[Grade | None],
) -> list[dict[str, Any]]:
    """
    Rows of the completions table, as far as they are known before scoring.

    Args:
        inputs (`list[dict[str, Any]]`):
            Rows of the dataset, with `"prompt"` and `"answer"`; several right answers are one text in the table.
        completions (`list[Completion]`):
            Completions.
        decode ([`~trl_latro.truncation.ContinuationDecoder`]):
            Text of the model's tokens.
        grades (`Sequence[Grade | None]`):
            Verdicts on the completions' own answers, `None` where they are not graded.
    """
    conversational = is_conversational({"prompt": inputs[0]["prompt"]})
    return [
        {
            "prompt": example["prompt"],
            "completion": [{"role": "assistant", "content": one.text}] if conversational else one.text,
            "rationale": decode(one.rationale.ids),
            "answer": " | ".join(list_answers(example["answer"])),
            "extracted": "" if grade is None else grade.extracted or "",
            "correct": "" if grade is None else "yes" if grade.correct else "no",
        }
        for example, one, grade in zip(inputs, completions, grades, strict=True)
    ]


def extend_logs(
    logs: dict[str, Any], rollout: Rollout, scored: ScoredSamples, functions: Sequence[str], scores_answers: bool
) -> None:
    """
    Add samples to the logs that TRL makes the completions table of.

    Args:
        logs (`dict[str, Any]`):
            Columns of the table, those of rewards and further ones in mappings.
        rollout ([`Rollout`]):
            Samples.
        scored ([`ScoredSamples`]):
            Their scores.
        functions (`Sequence[str]`):
            Names of the reward functions.
        scores_answers (`bool`):
            Whether the rows have reference answers.
    """
    for name in dict.fromkeys(name for row in rollout.table for name in row):
        column = logs[name] if name in ("prompt", "completion") else logs["extra"][name]
        column.extend(row.get(name) for row in rollout.table)
    if scores_answers:
        logs["extra"]["answer_logp"].extend(scored.columns.answer_logps.tolist())
    if rollout.outside is not None:
        for name, rewards in zip(functions, rollout.outside.unbind(1), strict=True):
            logs["rewards"][name].extend(rewards.tolist())
    logs["rewards"]["reward"].extend(scored.credit.rewards.tolist())
    logs["advantages"].extend(scored.credit.advantages.tolist())


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


def reward_metrics(
    columns: SampleColumns, credit: Credit, num_generations: int, beta: float, scores_answers: bool = True
) -> dict[str, float]:
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
        scores_answers (`bool`, *optional*, defaults to `True`):
            Whether the rows have reference answers.
    """
    rewards, kl, answer_logps, lengths = credit.rewards, columns.kl, columns.answer_logps, columns.rationale_lengths
    has_reward = rewards[~rewards.isnan()]  # reward functions can leave a sample without any
    groups = (rewards - beta * kl).view(-1, num_generations)  # (N / K, K)
    largest, smallest = groups.nan_to_num(-torch.inf).amax(1), groups.nan_to_num(torch.inf).amin(1)
    metrics = {
        "reward": has_reward.mean(),  # without the KL, as in RLOO
        "reward_std": has_reward.std() if len(has_reward) > 1 else torch.zeros(()),
        "frac_reward_zero_std": (largest - smallest < 1e-8).float().mean(),
        "latro/finished_ratio": columns.finished.mean(),
    }
    if scores_answers:
        metrics["latro/answer_logp"] = answer_logps.mean()
        metrics["latro/answer_prob"] = columns.own_logps.exp().mean()
        metrics["latro/answer_prob_if_right"] = prob_if_right(columns.own_logps)
        metrics["latro/template_logp"] = (answer_logps - columns.own_logps).mean()
        metrics["latro/multi_sample_bound"] = log_mean_prob(answer_logps.view(-1, num_generations)).mean()
    if beta != 0.0:
        metrics["kl"] = kl.sum() / lengths.sum().clamp(min=1.0)  # per token, as in RLOO
    # Within a prompt the advantage is the reward r_k, shifted and scaled
    correlation = group_correlation(lengths, credit.advantages, num_generations)
    if not correlation.isnan():  # every prompt's rationales may be of one length
        metrics["latro/length_reward_corr"] = correlation
    return {name: value.item() for name, value in metrics.items()}


def prob_if_right(own_logps: Tensor) -> Tensor:
    r"""
    How sure the model is of the answers that it gets right: their mean probability, if the model answered after each
    rationale, over the samples in which it would be right. $\sum p^2 / \sum p$, a scalar.

    Args:
        own_logps (`torch.Tensor`):
            Log-probs of the answers' own tokens after their rationales, of any shape.
    """
    own_logps = own_logps.flatten()
    return ((2 * own_logps).logsumexp(0) - own_logps.logsumexp(0)).exp()  # p may be too small for a float


def rationale_metrics(rollout: Rollout, own_logps: Tensor, num_generations: int) -> dict[str, float]:
    """
    Metrics of the rationales: how many are different, and what the answer's own log-prob `(N,)` gains by them.

    Args:
        rollout ([`Rollout`]):
            Samples, the `num_generations` of a prompt adjacent.
        own_logps (`torch.Tensor` of shape `(N,)`):
            Log-probs of the answers' own tokens after their rationales.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    texts = [row["rationale"] for row in rollout.table]
    distinct = sum(len(set(texts[row : row + num_generations])) for row in range(0, len(texts), num_generations))
    metrics = {"latro/distinct_ratio": distinct / len(texts)}
    if rollout.logps_without_rationale is not None:
        metrics["latro/rationale_gain"] = (own_logps - rollout.logps_without_rationale).nanmean().item()
    return metrics


def sampling_metrics(columns: SampleColumns, ratios: Tensor) -> dict[str, float]:
    """How far the policy is from the engine, by GRPO's names: per token, and the importance ratios `(N,)`."""
    num_tokens = columns.rationale_lengths.sum().clamp(min=1.0)
    return {
        "latro/sampling_logp_difference/mean": (columns.sampling_differences.sum() / num_tokens).item(),
        "latro/sampling_logp_difference/max": columns.largest_sampling_differences.max().item(),
        "latro/importance_sampling_ratio/min": ratios.min().item(),
        "latro/importance_sampling_ratio/mean": ratios.mean().item(),
        "latro/importance_sampling_ratio/max": ratios.max().item(),
    }


def grade_samples(
    inputs: list[dict[str, Any]], completions: list[Completion], template: AnswerTemplate, grader: Grader
) -> list[Grade]:
    """Whether the completions' own answers are right, of rows of the dataset. An unfinished rationale has none."""
    return [
        grade_completion(one.graded_text, row, template, grader) if one.rationale.finished else NO_ANSWER
        for row, one in zip(inputs, completions, strict=True)
    ]


def accuracy_metrics(grades: list[Grade], num_generations: int) -> dict[str, list[float]]:
    """Metrics of graded samples, the `num_generations` of a prompt adjacent: a value for each sample or prompt."""
    groups = [grades[start : start + num_generations] for start in range(0, len(grades), num_generations)]
    return {
        "accuracy": [float(grade.correct) for grade in grades],
        f"maj@{num_generations}": [majority_accuracy(group) for group in groups],
        "no_answer": [float(grade.extracted is None) for grade in grades],
    }
