# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Sees while it starts that training teaches the model to stop reasoning.

It has three faces. Where a wrong rationale costs more than a guess, short rationales have the better log-prob and the worse
probability, and the policy shortens them (the KL and penalties may favour short rationales without harm). Where the answer
is raised after wrong rationales too, it stops following from them (hedging), and the model is less sure of the answers that
it gets right. In both, what training raises goes up while the answer's probability does not. And where the template is
raised wherever a sample stopped, rationales stop before they are done: log-prob and probability fall with their length.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .durability.checkpoints import STATE_FILE, is_whole, list_checkpoints
from .latro_config import LaTROConfig
from .rationale_gain import EVERY


logger = logging.getLogger(__name__)

# Of all tests, the same for all models and tasks: standard errors, and prompts that a mean rests on at least
_SURE, _PROMPTS = 3.0, 32
# The first test needs no change, so it can come after the first prompts
_FIRST_PROMPTS = 16
# Standard errors from which on the probability seems to rise with the log-prob
_RISEN = 1.0
# Of how sure the model is where it is right: a model that was too sure may become a little less so
_LESS = 0.9
# Of a fall from the best prompts so far, which are the best by chance too
_SURE_OF_FALL = 4.0

# What the warning tells of, as it is logged
WATCHED = (
    "latro/answer_logp",
    "latro/multi_sample_bound",
    "latro/answer_prob",
    "latro/answer_prob_if_right",
    "latro/rationale_gain",
    "completions/mean_length",
    "latro/length_reward_corr",
    "latro/distinct_ratio",
)


class PromptColumns(NamedTuple):
    """Of the samples of each prompt, `(G,)`."""

    answer_logps: Tensor  # mean log-prob of the answer
    answer_probs: Tensor  # mean probability of the answer
    square_probs: Tensor  # mean of its square
    lengths: Tensor  # mean tokens of the rationales
    length_credit: Tensor  # covariance of rationale length and advantage, in standard deviations of both
    length_self_credit: Tensor  # covariance of rationale length and advantage by the self-reward alone, likewise
    length_prob: Tensor  # covariance of rationale length and answer probability, likewise


class Seen(NamedTuple):
    """The samples of a rollout, and what was logged of them and last before."""

    columns: PromptColumns
    metrics: dict[str, float]


class Diagnosis(NamedTuple):
    """What goes wrong, and the rollouts in which it is seen, beside others: the first ones, or the best."""

    reason: str
    now: list[Seen]
    other: list[Seen]
    which: str


def prompt_columns(
    lengths: Tensor, advantages: Tensor, self_advantages: Tensor, answer_logps: Tensor, num_generations: int
) -> PromptColumns:
    """
    What the monitor looks at, of the samples of each prompt.

    Args:
        lengths (`torch.Tensor` of shape `(N,)`):
            Tokens of the rationales, the `num_generations` rows of a prompt adjacent.
        advantages (`torch.Tensor` of shape `(N,)`):
            Advantages.
        self_advantages (`torch.Tensor` of shape `(N,)`):
            Advantages by the self-reward alone.
        answer_logps (`torch.Tensor` of shape `(N,)`):
            Log-probs of the answers, without the template.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    logps = answer_logps.double().view(-1, num_generations)  # (G, K)
    probs = logps.exp()
    lengths, advantages, self_advantages = (
        column.double().view_as(logps) for column in (lengths, advantages, self_advantages)
    )
    means = (logps.mean(1), probs.mean(1), probs.square().mean(1), lengths.mean(1))
    return PromptColumns(*means, *(_covariance(lengths, other) for other in (advantages, self_advantages, probs)))


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


def ratio_of_means(numerators: Tensor, denominators: Tensor) -> tuple[Tensor, Tensor]:
    """A ratio of two means over the same prompts, and its variance by the delta method."""
    ratio = numerators.mean() / denominators.mean()
    return ratio, ((numerators - ratio * denominators) / denominators.mean()).var() / len(numerators)


class CollapseMonitor(TrainerCallback):
    """
    Warns once when training begins to teach the model to stop reasoning, and says why, which metrics moved and what to
    change.

    Args:
        stop (`bool`):
            Whether to end the training then. No checkpoint is written any more, so that none before it is deleted.

    Attributes:
        collapsed_at (`int`, *optional*): The step at which it was seen.
        stopped (`bool`): Whether this training was ended for it.
    """

    def __init__(self, stop: bool):
        self.stop = stop
        self.collapsed_at: int | None = None
        self.stopped = False
        self._rollouts = 0
        self._metrics: dict[str, float] = {}  # the last of each name
        self._first: list[Seen] = []  # the first prompts, as many as a mean needs
        self._best: list[Seen] = []  # as many, with the most probable answers
        self._last: list[Seen] = []  # the last ones, not among the first

    @property
    def wants_rationale_gain(self) -> bool:
        """Whether the next rollout is one of those in which the answer is also scored without a rationale."""
        return self._rollouts % EVERY == 0

    def observe(
        self,
        lengths: Tensor,
        advantages: Tensor,
        self_advantages: Tensor,
        answer_logps: Tensor,
        num_generations: int,
        metrics: dict[str, float],
    ) -> None:
        """
        Take in the samples of a rollout, see [`prompt_columns`], and what is logged of them; those of all processes, so
        that all come to the same verdict.
        """
        self._rollouts += 1
        self._metrics |= {name: metrics[name] for name in WATCHED if name in metrics}
        columns = prompt_columns(lengths, advantages, self_advantages, answer_logps, num_generations)
        seen = Seen(columns, dict(self._metrics))
        if _count(self._first) < _PROMPTS:
            self._first.append(seen)
            self._best = [*self._first]
            return
        self._last.append(seen)
        while _count(self._last[1:]) >= _PROMPTS:
            self._last.pop(0)
        if _count(self._last) >= _PROMPTS and _mean_prob(self._last) > _mean_prob(self._best):
            self._best = [*self._last]

    def diagnosis(self) -> Diagnosis | None:
        """What goes wrong, `None` if nothing does or too few prompts were seen."""
        if _count(self._first) < _FIRST_PROMPTS:
            return None
        now = self._last if _count(self._last) >= _PROMPTS else self._first
        first_columns, best_columns, columns = map(_together, (self._first, self._best, now))
        favours_shorter = (
            standard_errors(credit) < -_SURE for credit in (columns.length_credit, columns.length_self_credit)
        )
        if all(favours_shorter) and standard_errors(columns.length_prob) > _SURE:
            reason = (
                "longer rationales have the more probable answers, but training favours the shorter ones: a wrong rationale "
                "costs more log-prob than a guess, so the model learns to stop reasoning"
            )
            return Diagnosis(reason, now, self._first, "first")
        prob_change = standard_errors(columns.answer_probs, first_columns.answer_probs)
        # The probability varies much between prompts of a real task; how sure the model is where it is right, little
        before, if_right = (ratio_of_means(of.square_probs, of.answer_probs) for of in (first_columns, columns))
        error = (before[1] + if_right[1]).sqrt()
        is_less_sure = if_right[0] < _LESS * before[0] and if_right[0] < before[0] - _SURE * error
        if standard_errors(columns.answer_logps, first_columns.answer_logps) > _SURE and (
            prob_change < -_SURE or (prob_change < _RISEN and is_less_sure)
        ):
            reason = (
                "the answer's mean log-prob has risen but its mean probability has not: the model learns to hedge, or to "
                "guess, and reasons less"
            )
            return Diagnosis(reason, now, self._first, "first")
        if (
            standard_errors(columns.answer_probs, best_columns.answer_probs) < -_SURE_OF_FALL
            and standard_errors(columns.answer_logps, best_columns.answer_logps) < -_SURE_OF_FALL
            and standard_errors(columns.lengths, best_columns.lengths) < -_SURE
        ):
            reason = (
                "log-prob and probability of the answer have fallen, and the length of the rationales with them: the model "
                "learns to stop before it has come to the answer"
            )
            return Diagnosis(reason, now, self._best, "best")
        return None

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to come to the same verdicts."""
        windows = {"first": self._first, "best": self._best, "last": self._last}
        plain = {name: [(tuple(one.columns), one.metrics) for one in seen] for name, seen in windows.items()}
        return plain | {"rollouts": self._rollouts, "metrics": self._metrics, "collapsed_at": self.collapsed_at}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what [`state`] has saved."""
        self._first, self._best, self._last = (
            [Seen(PromptColumns(*columns), metrics) for columns, metrics in state[name]]
            for name in ("first", "best", "last")
        )
        self._rollouts, self._metrics, self.collapsed_at = (
            state[name] for name in ("rollouts", "metrics", "collapsed_at")
        )

    def on_step_end(self, args: LaTROConfig, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.collapsed_at is not None:
            return
        diagnosis = self.diagnosis()
        if diagnosis is None:
            return
        self.collapsed_at = state.global_step
        if state.is_world_process_zero:
            logger.warning(
                "Collapse at step %d: %s. %s %s; `trl-latro probe` compares the rewards. %s%s",
                state.global_step,
                diagnosis.reason,
                say_what_moved(diagnosis),
                advise(args),
                say_last_checkpoint(find_last_checkpoint(args, state.global_step)),
                " Training ends here." if self.stop else "",
            )
        if self.stop:
            self.stopped = control.should_training_stop = True
            # A checkpoint of this step would be the collapsed model's, and with `save_total_limit` take the place of another
            control.should_evaluate = control.should_save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.stopped:
            control.should_evaluate = control.should_save = False


def say_what_moved(diagnosis: Diagnosis) -> str:
    """The watched metrics, means over the rollouts."""
    now, other = _means(diagnosis.now), _means(diagnosis.other)
    count = _count(diagnosis.other)
    if diagnosis.now is diagnosis.other:
        return f"In the first {count} prompts: {', '.join(f'{name} {value:.3g}' for name, value in now.items())}."
    # What was not measured since is what it was
    moved = [f"{name} {other[name]:.3g} -> {now[name]:.3g}" for name in other if now[name] != other[name]]
    return f"From the {diagnosis.which} {count} prompts to the last {_count(diagnosis.now)}: {', '.join(moved)}."


def _means(rollouts: list[Seen]) -> dict[str, float]:
    values = {name: [one.metrics[name] for one in rollouts if name in one.metrics] for name in WATCHED}
    return {name: sum(of_name) / len(of_name) for name, of_name in values.items() if of_name}


def advise(args: LaTROConfig) -> str:
    """What to change, by the reward that the training had."""
    of_prob = "a lower `learning_rate`"
    is_prob_throughout = args.reward_power == 1 and args.reward_power_end in (None, 1)
    rewards = {
        "prob": of_prob,
        "jepo": "`reward_type` 'prob'",
        "power": of_prob if is_prob_throughout else "a `reward_power` (and `reward_power_end`) closer to 1",
    }
    other = rewards.get(str(args.reward_type), "`reward_type` 'prob', 'jepo' or 'power'")
    return f"Train with {other}, or from a model that is right more often"


def find_last_checkpoint(args: TrainingArguments, step: int) -> Path | None:
    """The last whole checkpoint before a step, also if it is the one that was resumed from; `None` if there is none."""
    resumed_from = [Path(args.resume_from_checkpoint)] if args.resume_from_checkpoint else []
    whole = filter(is_whole, [*resumed_from, *list_checkpoints(str(args.output_dir))])
    steps = {path: TrainerState.load_from_json(str(path / STATE_FILE)).global_step for path in whole}
    return max((path for path in steps if steps[path] < step), key=steps.__getitem__, default=None)


def say_last_checkpoint(checkpoint: Path | None) -> str:
    """Which checkpoint there is to go back to."""
    if checkpoint is None:
        return "There is no checkpoint before it."
    return f"The last checkpoint before it is {checkpoint}."


def _count(rollouts: Iterable[Seen]) -> int:
    return sum(len(one.columns.answer_logps) for one in rollouts)


def _mean_prob(rollouts: list[Seen]) -> float:
    return float(_together(rollouts).answer_probs.mean())


def _together(rollouts: list[Seen]) -> PromptColumns:
    columns = [one.columns for one in rollouts]
    return PromptColumns(*(torch.cat(tensors) for tensors in zip(*columns, strict=True)))
