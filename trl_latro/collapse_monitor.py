# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Sees while it starts that training teaches the model to stop reasoning.

It has two faces. Where a wrong rationale costs more than a guess, short rationales have the better log-prob and the worse
probability, and the policy shortens them. Where the answer is raised after wrong rationales too, it stops following from
them (hedging). In both, what training raises goes up while the answer's probability goes down.
"""

import logging
from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)

# Of both tests, the same for all models and tasks: standard errors, and prompts that a mean rests on at least
_SURE, _PROMPTS = 3.0, 32
# The first test needs no change, so it can come after the first prompts
_FIRST_PROMPTS = 16


class PromptColumns(NamedTuple):
    """Of the samples of each prompt, `(G,)`."""

    answer_logps: Tensor  # mean log-prob of the answer
    answer_probs: Tensor  # mean probability of the answer
    length_credit: Tensor  # covariance of rationale length and advantage, in standard deviations of both
    length_prob: Tensor  # covariance of rationale length and answer probability, likewise


def prompt_columns(lengths: Tensor, advantages: Tensor, answer_logps: Tensor, num_generations: int) -> PromptColumns:
    """
    What the monitor looks at, of the samples of each prompt.

    Args:
        lengths (`torch.Tensor` of shape `(N,)`):
            Tokens of the rationales, the `num_generations` rows of a prompt adjacent.
        advantages (`torch.Tensor` of shape `(N,)`):
            Advantages.
        answer_logps (`torch.Tensor` of shape `(N,)`):
            Log-probs of the answers, without the template.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    logps = answer_logps.double().view(-1, num_generations)  # (G, K)
    probs, lengths, advantages = logps.exp(), lengths.double().view_as(logps), advantages.double().view_as(logps)
    return PromptColumns(logps.mean(1), probs.mean(1), _covariance(lengths, advantages), _covariance(lengths, probs))


def _covariance(x: Tensor, y: Tensor) -> Tensor:
    """Covariance within each group `(G, K)`, over the standard deviations within all groups, `(G,)`."""
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    scale = (x.square().mean() * y.square().mean()).sqrt()
    return (x * y).mean(1) / scale.clamp(min=1e-12)


def standard_errors(values: Tensor, other: Tensor | None = None) -> float:
    """How many standard errors the mean is above 0, or above the mean of `other`."""
    difference, variance = values.mean(), values.var() / len(values)
    if other is not None:
        difference, variance = difference - other.mean(), variance + other.var() / len(other)
    return float(difference / variance.sqrt().clamp(min=1e-12))


class CollapseMonitor(TrainerCallback):
    """
    Warns once when training begins to teach the model to stop reasoning, and says why and what to change.

    Args:
        stop (`bool`):
            Whether to end the training then.

    Attributes:
        collapsed_at (`int`, *optional*): The step at which it was seen.
    """

    def __init__(self, stop: bool):
        self.stop = stop
        self.collapsed_at: int | None = None
        self._first: list[PromptColumns] = []  # of the first prompts, as many as a mean needs
        self._last: deque[PromptColumns] = deque()  # of the last ones, not among the first

    def observe(self, lengths: Tensor, advantages: Tensor, answer_logps: Tensor, num_generations: int) -> None:
        """
        Take in the samples of a rollout, see [`prompt_columns`]; those of all processes, so that all come to the same
        verdict.
        """
        columns = prompt_columns(lengths, advantages, answer_logps, num_generations)
        if _count(self._first) < _PROMPTS:
            self._first.append(columns)
            return
        self._last.append(columns)
        while _count(self._last) - len(self._last[0].answer_logps) >= _PROMPTS:
            self._last.popleft()

    def diagnosis(self) -> str | None:
        """What goes wrong, `None` if nothing does or too few prompts were seen."""
        if _count(self._first) < _FIRST_PROMPTS:
            return None
        first = _together(self._first)
        now = _together([*self._last]) if _count(self._last) >= _PROMPTS else first
        if standard_errors(now.length_credit) < -_SURE and standard_errors(now.length_prob) > _SURE:
            return (
                "longer rationales have the more probable answers, but training favours the shorter ones: a wrong rationale "
                "costs more log-prob than a guess, so the model learns to stop reasoning"
            )
        if (
            standard_errors(now.answer_logps, first.answer_logps) > _SURE
            and standard_errors(now.answer_probs, first.answer_probs) < -_SURE
        ):
            return (
                f"the answer's mean log-prob has risen from {first.answer_logps.mean():.2f} to "
                f"{now.answer_logps.mean():.2f} while its mean probability has fallen from {first.answer_probs.mean():.3f} "
                f"to {now.answer_probs.mean():.3f}: the model learns to hedge, or to guess, and reasons less"
            )
        return None

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to come to the same verdicts."""
        first, last = ([tuple(one) for one in rollouts] for rollouts in (self._first, self._last))
        return {"first": first, "last": last, "collapsed_at": self.collapsed_at}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what [`state`] has saved."""
        self._first = [PromptColumns(*one) for one in state["first"]]
        self._last = deque(PromptColumns(*one) for one in state["last"])
        self.collapsed_at = state["collapsed_at"]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.collapsed_at is not None:
            return
        diagnosis = self.diagnosis()
        if diagnosis is None:
            return
        self.collapsed_at = state.global_step
        if state.is_world_process_zero:
            logger.warning(
                "Collapse at step %d: %s. Go back to a checkpoint before it and train with `reward_type` 'prob' or 'jepo', "
                "or from a model that is right more often; `trl-latro probe` compares the rewards.%s",
                state.global_step,
                diagnosis,
                " Training ends here." if self.stop else "",
            )
        if self.stop:
            control.should_training_stop = True


def _count(rollouts: Any) -> int:
    return sum(len(one.answer_logps) for one in rollouts)


def _together(rollouts: list[PromptColumns]) -> PromptColumns:
    return PromptColumns(*(torch.cat(tensors) for tensors in zip(*rollouts, strict=True)))
