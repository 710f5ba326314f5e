# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""All that a probe finds, from its samples."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.intervals import Metric
from ..evaluation.metrics import summarize
from ..objective import REWARDS
from .favour import Favoured, favour, find_short
from .samples import Probed, ScoredAnswer


SURE = 0.95  # of the resampled sets of questions


@dataclass
class Findings:
    """
    What a probe finds.

    Args:
        metrics (`dict[str, Metric]`):
            Those of an evaluation.
        endings (`dict[str, float]`):
            Shares of the sampled rationales by what ended them.
        limits (`dict[int, int | None]`):
            The `max_completion_length` that holds 95 and 99 % of the sampled rationales; `None` if it is above the probe's.
        answer_logps (`dict[str, dict[str, float]]`):
            After sampled, no and gold rationales: mean log-prob of the filled template (`"all"`), and of its tokens before
            the answer itself (`"template"`).
        short (`float`):
            Share of the samples with a short rationale.
        right (`float`):
            Share of right answers among the samples that reason.
        rewards (`dict[str, Favoured]`):
            What each reward favours.
    """

    metrics: dict[str, Metric]
    endings: dict[str, float]
    limits: dict[int, int | None]
    answer_logps: dict[str, dict[str, float]]
    short: float
    right: float
    rewards: dict[str, Favoured]

    @property
    def recommended(self) -> str | None:
        """
        The first reward of the table with which reasoning surely wins; else the one with which it wins most often, if that
        is more than half of the time.
        """
        shares = {name: one.reasoning_share for name, one in self.rewards.items()}
        surest = max(shares, key=lambda name: shares[name])
        return next((name for name in shares if shares[name] >= SURE), surest if shares[surest] > 0.5 else None)

    def as_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "metrics": {name: metric._asdict() for name, metric in self.metrics.items()},
            "rewards": {name: one.as_json() for name, one in self.rewards.items()},
            "recommended_reward": self.recommended,
        }


def find(probed: list[Probed], references: list[str], max_completion_length: int, seed: int) -> Findings:
    """
    All findings.

    Args:
        probed (`list[Probed]`):
            Samples of the questions.
        references (`list[str]`):
            Reference answers: those of the questions in their order, then others of the same kind.
        max_completion_length (`int`):
            L, the longest rationale that they were made with.
        seed (`int`):
            Seed of the bootstrap.

    Raises:
        `ValueError`: no sample has a rationale.
    """
    samples = [one for of in probed for one in of.samples]
    lengths = np.array([[one.rationale_tokens for one in of.samples] for of in probed])  # (Q, K)
    if not lengths.any():
        raise ValueError(
            f"None of the {lengths.size} samples has a rationale, not even of one token: the model answers at once, and there "
            "is no reasoning to reward. Prompt for it (--prompt_template, --num_shots), or train on gold rationales first "
            "(examples/baselines/sft_gold.py)."
        )
    is_short = find_short(lengths)
    endings = [ending for of in probed for ending in of.endings]
    answers = {
        "sampled": [answer for of in probed for answer in of.answers],
        "none": [of.answer_none for of in probed],
        "gold": [of.answer_gold for of in probed if of.answer_gold is not None],
    }
    generations = [*(of.greedy for of in probed), *samples]
    return Findings(
        summarize(generations, max_completion_length, seed),
        {name: endings.count(name) / len(endings) for name in ("template", "EOS", "limit")},
        {percent: holding(percent, [one.tokens_to_end for one in samples]) for percent in (95, 99)},
        {name: _mean_logps(of) for name, of in answers.items() if of},
        float(is_short.mean()),
        float(np.array([one.correct for one in samples])[~is_short.ravel()].mean()),
        {name: favour(reward, probed, references, seed) for name, reward in REWARDS.items()},
    )


def holding(percent: int, tokens_to_end: list[int | None]) -> int | None:
    """The smallest limit within which `percent` of the rationales end; `None` if fewer end at all."""
    ended = sorted(tokens for tokens in tokens_to_end if tokens is not None)
    needed = math.ceil(percent * len(tokens_to_end) / 100)
    return ended[needed - 1] if len(ended) >= needed else None


def _mean_logps(answers: list[ScoredAnswer]) -> dict[str, float]:
    parts = {
        "all": [answer.logps for answer in answers],
        "template": [answer.logps[: answer.start] for answer in answers],
    }
    return {name: sum(float(logps.sum()) for logps in of) / len(of) for name, of in parts.items()}
