# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
What each reward favours: pure functions on samples. Q questions, K samples of each.

The rule: training will favour what has the largest mean reward for a model as it is now: reasoning as it does, writing
short rationales or none, or hedging (an answer from the spread of the references, whatever the rationale says).

Only the answer itself is compared. Template, end of the turn and the like count as known (log-prob 0) in all of them,
because training teaches them whatever it favours.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluation.intervals import Floats, Metric, bootstrap_sums, percentile_interval
from ..objective import Reward, assign_credit, logprob
from .samples import Probed, ScoredAnswer, reward_values
from .spread import log_spread, share_of_commonest


FEWEST_SHORT = 0.05  # of the samples, or nothing is said of short rationales


@dataclass
class Favoured:
    """
    What a reward makes of a model.

    Args:
        gives (`dict[str, float]`): Mean rewards of the samples that reason (`"reasoning"`), of those with a short rationale
            (`"short"`, unless there are too few), right after the prompt (`"none"`), and of the best answer that ignores the
            rationale (`"hedging"`).
        best (`str`): Which of them is largest.
        margin (`float`): Reasoning less the best of the others.
        reasoning_share (`float`): Share of the resampled sets of questions in which reasoning is largest.
        distrust (`float`): Share of the spread in the best mixture of the answer as it follows from the rationale and the
            spread of the references, see [`find_distrust`].
        in_nats (`bool`): Whether the reward is a log-prob.
        rank_correlation ([`Metric`], *optional*): Of reward and correctness within questions; `None` where all samples of
            each question are right, or all wrong.
        spread (`float`): Standard deviation of the advantages within questions, mean.
        no_spread (`float`): Share of the questions whose samples all get the same.
    """

    gives: dict[str, float]
    best: str
    margin: float
    reasoning_share: float
    distrust: float
    in_nats: bool
    rank_correlation: Metric | None
    spread: float
    no_spread: float

    def as_json(self) -> dict[str, object]:
        correlation = self.rank_correlation
        return {**asdict(self), "rank_correlation": None if correlation is None else correlation._asdict()}


def find_short(lengths: NDArray[np.int_]) -> NDArray[np.bool_]:
    """
    Which rationales are short: at most a third as long as the rationale that a token is in on average,
    `sum(n^2) / sum(n)`, which does not fall with the number of very short ones. Tokens of the samples in and out, `(Q, K)`.
    """
    return lengths <= np.square(lengths).sum() / max(lengths.sum(), 1) / 3


def favour(reward: Reward, probed: list[Probed], references: list[str], seed: int) -> Favoured:
    """
    What a reward favours.

    Args:
        reward ([`~trl_latro.objective.Reward`]):
            The reward.
        probed (`list[Probed]`):
            Samples of the questions, K each.
        references (`list[str]`):
            Reference answers: those of the questions in their order, then others of the same kind.
        seed (`int`):
            Seed of the bootstrap over questions.
    """
    short = find_short(np.array([[one.rationale_tokens for one in of.samples] for of in probed]))  # (Q, K)
    has_short = short.mean() >= FEWEST_SHORT
    reasons = ~short if has_short else np.ones_like(short)
    known = [answer.with_known_form() for of in probed for answer in of.answers]
    values = reward_values(reward, known).view(short.shape)
    columns = {
        "reasoning": _of_some(reward, values, reasons),
        "none": reward_values(reward, [of.answer_none.with_known_form() for of in probed]).numpy(),
        "hedging": _hedging(reward, [of.answer_none for of in probed], references),
    }
    if has_short:
        # A question with short rationales may be an easy one: they are compared with the others of the same question
        columns["short_less_reasoning"] = _of_some(reward, values, short) - columns["reasoning"]
    means, resampled = _means(columns, seed)
    if has_short:
        for table in (means, resampled):
            table["short"] = table["reasoning"] + table.pop("short_less_reasoning")
    others = [name for name in ("short", "none", "hedging") if name in means]
    wins = resampled["reasoning"] > np.max([resampled[name] for name in others], axis=0)
    spread = _spread(reward, probed)
    return Favoured(
        gives={name: float(mean[0]) for name, mean in means.items()},
        best=max(("reasoning", *others), key=lambda name: means[name][0]),
        margin=float(means["reasoning"][0] - max(means[name][0] for name in others)),
        reasoning_share=float(wins.mean()),
        distrust=find_distrust(reward, probed, log_spread(references, len(probed))),
        in_nats=reward.of_row is logprob,
        rank_correlation=_rank_correlation(reward, probed, seed),
        spread=float(spread.mean()),
        no_spread=float((spread < 1e-8).mean()),
    )


def _of_some(reward: Reward, values: torch.Tensor, chosen: NDArray[np.bool_]) -> Floats:
    """
    What some of each question's samples get, `(Q,)`: their mean, or what they get as a group; NaN where there are none.
    """
    of_group = reward.of_group or (lambda groups: groups.mean(1))
    return np.array(
        [
            float(of_group(row[torch.from_numpy(mask)][None])) if mask.any() else np.nan
            for row, mask in zip(values, chosen, strict=True)
        ]
    )


def _hedging(reward: Reward, answers: list[ScoredAnswer], references: list[str]) -> Floats:
    """
    What an answer gets that ignores the rationale, `(Q,)`: one spread as the references are, or always the most frequent
    one, whichever gets more. The first is best for a log-prob, the second for a probability.
    """

    def rewards(logps: list[float]) -> Floats:
        given = [answer.with_answer(logp) for answer, logp in zip(answers, logps, strict=True)]
        return reward_values(reward, given).numpy()

    right, wrong = rewards([0.0] * len(answers)), rewards([-np.inf] * len(answers))
    share = share_of_commonest(references)
    commonest = share * right + (1 - share) * wrong
    return max(rewards(log_spread(references, len(answers))), commonest, key=np.mean)


def find_distrust(reward: Reward, probed: list[Probed], log_spreads: list[float]) -> float:
    """
    How far the reward would have the answer hedge, with rationales as they are: the `e` (in steps of 0.05) for which
    `(1 - e) * p(y|x,z) + e * p_h(y)` gets most, over the samples of each question, in groups for a reward of groups.

    Args:
        reward ([`~trl_latro.objective.Reward`]):
            The reward.
        probed (`list[Probed]`):
            Samples of the questions.
        log_spreads (`list[float]`):
            `log p_h(y)` of each question, see [`~trl_latro.probing.spread.log_spread`].
    """
    answers = [answer for of in probed for answer in of.answers]
    logps = np.array([float(answer.logps[answer.start : answer.end].sum()) for answer in answers])  # (Q * K,)
    hedged = np.repeat(log_spreads, len(probed[0].answers))  # (Q * K,)
    everyone = np.ones((len(probed), len(probed[0].answers)), dtype=bool)

    def mean_reward(share: float) -> float:
        with np.errstate(divide="ignore"):
            mixed = np.logaddexp(np.log(1 - share) + logps, np.log(share) + hedged)
        given = [answer.with_answer(logp) for answer, logp in zip(answers, mixed, strict=True)]
        return float(_of_some(reward, reward_values(reward, given).view(everyone.shape), everyone).mean())

    return max((step / 20 for step in range(21)), key=mean_reward)


def _means(columns: dict[str, Floats], seed: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Means over the questions that have a value, and the same over resampled questions, `(R,)`."""
    table = np.stack([part for one in columns.values() for part in (np.nan_to_num(one), ~np.isnan(one))], axis=1)
    sums = [table.sum(0, keepdims=True), bootstrap_sums(table, seed)]  # (1, 2M), (R, 2M)
    with np.errstate(invalid="ignore"):
        means, resampled = ({name: of[:, 2 * i] / of[:, 2 * i + 1] for i, name in enumerate(columns)} for of in sums)
    return means, resampled


def _rank_correlation(reward: Reward, probed: list[Probed], seed: int) -> Metric | None:
    """Spearman's, of the reward as training gives it to each rationale and correctness, over the questions that have one."""
    values = np.array([reward_values(reward, of.answers).numpy() for of in probed])  # (Q, K)
    correct = np.array([[one.correct for one in of.samples] for of in probed], dtype=float)
    x, y = (ranks - ranks.mean(1, keepdims=True) for ranks in (_ranks(values), _ranks(correct)))
    scale = np.sqrt(np.square(x).sum(1) * np.square(y).sum(1))  # (Q,)
    if not (scale > 0).any():
        return None
    correlations = (x * y).sum(1) / np.where(scale > 0, scale, np.nan)
    means, resampled = _means({"correlation": correlations}, seed)
    return Metric(float(means["correlation"][0]), *percentile_interval(resampled["correlation"]))


def _ranks(values: Floats) -> Floats:
    """Ranks within each row, equal values sharing theirs."""
    below = (values[:, :, None] > values[:, None, :]).sum(2)
    equal = (values[:, :, None] == values[:, None, :]).sum(2)
    return below + (equal - 1) / 2


def _spread(reward: Reward, probed: list[Probed]) -> Floats:
    """Standard deviation of the advantages that the reward gives the samples of each question, `(Q,)`."""
    number = len(probed[0].samples)
    values = torch.cat([reward_values(reward, of.answers) for of in probed])  # (N,)
    nothing, all_finished = torch.zeros_like(values), torch.ones_like(values)
    credit = assign_credit(
        values, nothing, all_finished, number, of_group=reward.of_group, beta=0.0, unfinished_penalty=0.0
    )
    return credit.advantages.view(-1, number).std(1, correction=0).numpy()
