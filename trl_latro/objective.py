# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
From the answer's per-token log-probs to the two terms of the loss; pure functions on tensors.

Symbols: `x` prompt, `z` rationale, `y` answer, `K` rationales per prompt, `B` rows, `T` tokens. Let `R` be any
differentiable function of the answer's per-token log-probs. Then (LaTRO, https://huggingface.co/papers/2411.04282, Eq.
4, is the case `R = sum_t log pi(y_t|x,z,y_<t)`)

    grad E_z[R] = E_z[ (R - baseline) * grad log pi(z|x) + grad R ],    grad R = sum_t w_t * grad logp_t,

with `w_t = dR / dlogp_t`. So one definition of `R` fixes the reward of the rationale and the weights of the answer's
tokens. To add a reward, write one function here and name it in `REWARDS`. A reward that the K rationales of a prompt have
together is a function of their values, with its derivative as the weights of the rows.

`R` may be about the answer's own tokens alone. The template's tokens before them then have the mean weight of the answer's:
their likelihood is raised as far as the answer after them deserves it. With the weight 1 after every rationale, stopping is
learnt wherever a sample stopped, too early as well, until there are no rationales left.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .several_answers import logps_of_answers, of_each_answer, to_answer_tokens


REWARD_TOKENS = ("template_and_answer", "answer")
"""Tokens that a reward can be about: all that is scored (the paper's), or the answer's own and what follows."""

RowReward = Callable[[Tensor, Tensor], Tensor]
"""`(logps, mask) -> values`: log-probs `(B, T)`, mask of the reward's tokens `(B, T)`, values `(B,)`."""

GroupReward = Callable[[Tensor], Tensor]
"""`values -> bounds`: values of the K rationales of each prompt `(G, K)`, one number for each prompt `(G,)`."""


def logprob(logps: Tensor, mask: Tensor) -> Tensor:
    """Log-likelihood of the answer, `sum_t logp_t` (LaTRO, https://huggingface.co/papers/2411.04282, Eq. 3)."""
    return (logps * mask).sum(1)  # (B,)


def prob(logps: Tensor, mask: Tensor) -> Tensor:
    """Probability of the answer, `exp(sum_t logp_t)` (VeriFree, https://huggingface.co/papers/2505.21493)."""
    return logprob(logps, mask).exp()  # (B,)


def power(logps: Tensor, mask: Tensor, tau: float = 0.5) -> Tensor:
    """
    Power of the answer's probability, `(p^tau - 1) / tau` with `p = exp(sum_t logp_t)`, so `w_t = p^tau`: `prob` less 1
    at `tau = 1`, [`logprob`] in the limit `tau = 0`. A wrong rationale costs at most `1 / tau`.
    """
    logp = logprob(logps, mask)
    return torch.expm1(tau * logp) / tau if tau > 0 else logp  # (B,)


def mean_prob(logps: Tensor, mask: Tensor) -> Tensor:
    """Mean of the token probabilities, `mean_t exp(logp_t)` (RLPR, https://huggingface.co/papers/2506.18254)."""
    return (logps.exp() * mask).sum(1) / mask.sum(1)  # (B,)


def geometric_mean(logps: Tensor, mask: Tensor) -> Tensor:
    """Geometric mean of the token probabilities, `exp(mean_t logp_t)` (https://huggingface.co/papers/2602.11549)."""
    return (logprob(logps, mask) / mask.sum(1)).exp()  # (B,)


def log_mean_prob(values: Tensor, floor: float = 0.0) -> Tensor:
    """
    Multi-sample bound, `B = log(floor + (1/K) sum_k exp(l_k))`, from the answer log-likelihoods `l` `(G, K)` of each
    prompt's rationales to `(G,)` (JEPO, https://huggingface.co/papers/2503.19618, is `floor = 0`).

    With `p_k = exp(l_k)`, `K dB/dl_k = p_k / (floor + mean(p))`. Without a floor these sum to K in every group, also where
    all rationales are wrong: there the answer is raised whatever they say. With one, groups whose mean probability is far
    below it have no weight and no advantage (as groups without success in MaxRL, https://huggingface.co/papers/2602.02710),
    those far above it are as without.
    """
    bound = values.logsumexp(1) - math.log(values.size(1))
    return torch.logaddexp(bound, torch.full_like(bound, math.log(floor))) if floor > 0 else bound


class Reward(NamedTuple):
    """
    What a rationale is rewarded for.

    Args:
        of_row (`Callable`):
            `(logps, mask) -> values`: what the answer's log-probs `(B, T)` say of each rationale, `(B,)`.
        tokens (`str`):
            Which tokens it is about by default, one of `REWARD_TOKENS`. A probability is about the answer: a model that
            does not know the template gives text and answer a probability of 0 in practice.
        of_group (`Callable`, *optional*):
            `values -> bounds`: from the values `(G, K)` of each prompt's rationales to one number that they are rewarded
            for together, `(G,)`; differentiable, symmetric, and defined for any K. If `None`, each is rewarded for its
            own value.
        of_likelihood (`bool`, *optional*, defaults to `False`):
            Whether `of_row` is a function of `sum_t logp_t` alone. Where a question has several right answers, it is then
            taken of the log of the sum of their probabilities, else of each, and the best counts.
    """

    of_row: RowReward
    tokens: str
    of_group: GroupReward | None = None
    of_likelihood: bool = False


REWARDS: dict[str, Reward] = {
    "logprob": Reward(logprob, tokens="template_and_answer", of_likelihood=True),
    "prob": Reward(prob, tokens="answer", of_likelihood=True),
    "mean_prob": Reward(mean_prob, tokens="answer"),
    "geometric_mean": Reward(geometric_mean, tokens="answer"),
    "jepo": Reward(logprob, tokens="template_and_answer", of_group=log_mean_prob, of_likelihood=True),
    "power": Reward(power, tokens="answer", of_likelihood=True),
}


def values_and_weights(of_row: RowReward, logps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """
    Value `R` of each row, and the weights `w_t = dR / dlogp_t` of the tokens that it is about.

    Args:
        of_row (`Callable`):
            `(logps, mask) -> values`, differentiable in `logps`.
        logps (`torch.Tensor` of shape `(B, T)`):
            Per-token log-probs. What stands outside `mask` is not looked at.
        mask (`torch.Tensor` of shape `(B, T)`):
            1 on the tokens that the reward is about.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: values of shape `(B,)` and weights of shape `(B, T)`, both detached.

    Raises:
        `ValueError`: the function does not return one differentiable reward per row.
    """
    if not mask.any():  # rows without an answer
        return logps.new_zeros(len(logps)), torch.zeros_like(logps)
    mask = mask.to(logps.dtype)
    with torch.enable_grad():
        logps = (logps.detach() * mask).requires_grad_()
        values = of_row(logps, mask)
        if not isinstance(values, Tensor) or values.shape != logps.shape[:1]:
            returned = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"{values!r}"
            raise ValueError(
                f"The reward function must return one reward per row, a tensor of shape {tuple(logps.shape[:1])}, but "
                f"returned {returned}. Reduce over the tokens (dimension 1)."
            )
        if not values.requires_grad:
            raise ValueError(
                "The reward function must be differentiable in `logps`: its derivative is the weight of the answer's "
                "tokens. Do not detach or round inside of it."
            )
        (weights,) = torch.autograd.grad(values.sum(), logps)
    return values.detach(), weights * mask


def values_of_answers(reward: Reward, logps: Tensor, mask: Tensor, answer_index: Tensor) -> tuple[Tensor, Tensor]:
    """
    Value `R` of each sample, whose question may have several right answers, and the weights `w_jt = dR / dlogp_jt`.

    With `l_j` the log-likelihood of answer j and `L = log sum_j exp(l_j)`, a reward of the likelihood is `R(L)`, and
    `w_jt = R'(L) exp(l_j - L)`: each answer has its share. Any other is `max_j R_j`, with the weights of that answer: a mean
    over tokens is no probability that could be summed, and the maximum is continuous, so the gradient is exact almost
    everywhere (the value of the likeliest answer would jump where another becomes the likeliest).

    Args:
        reward ([`Reward`]):
            What is rewarded.
        logps (`torch.Tensor` of shape `(B, L)`), mask (`torch.Tensor` of shape `(B, L)`):
            As for [`values_and_weights`].
        answer_index (`torch.Tensor` of shape `(B, L)`):
            The answer that a column belongs to, see [`~trl_latro.several_answers`].

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: values of shape `(B,)` and weights of shape `(B, L)`, both detached.
    """
    if not mask.any():  # rows without an answer
        return logps.new_zeros(len(logps)), torch.zeros_like(logps)
    if reward.of_likelihood:
        of_answers = logps_of_answers(logps.detach(), mask, answer_index)  # (B, J)
        total = of_answers.logsumexp(1, keepdim=True)  # (B, 1)
        # To such a reward, an answer of one token
        values, slopes = values_and_weights(reward.of_row, total, torch.ones_like(total))  # (B,), (B, 1)
        return values, to_answer_tokens(slopes * (of_answers - total).exp(), answer_index) * mask
    of_each = of_each_answer(answer_index)  # (B, J, L)
    samples, answers = of_each.any(2).nonzero(as_tuple=True)  # (N,) each
    of_answer = of_each[samples, answers] & mask[samples].bool()  # (N, L)
    values, weights = values_and_weights(reward.of_row, logps[samples], of_answer)  # (N,), (N, L)
    table = values.new_full(of_each.shape[:2], -math.inf)  # (B, J)
    table[samples, answers] = values
    is_best = table.argmax(1)[samples] == answers  # (N,), one of each sample
    return values[is_best], weights[is_best]


def check_row_reward(of_row: RowReward) -> None:
    """
    Try a reward function on two made rows, of three tokens and of two.

    Raises:
        `ValueError`: it does not return one differentiable reward per row, or the reward of a row depends on another row,
        whose tokens would then get wrong weights.
    """
    logps, mask = torch.tensor([[-0.5, -1.0, -2.0], [-3.0, -0.1, 0.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    together, _ = values_and_weights(of_row, logps, mask)
    alone = torch.cat([values_and_weights(of_row, logps[row : row + 1], mask[row : row + 1])[0] for row in (0, 1)])
    if not torch.allclose(together, alone, equal_nan=True):
        raise ValueError(
            f"The reward function gives two rows the rewards {together.tolist()} together and {alone.tolist()} one by one, "
            "but the reward of a row must depend on that row alone. Take means, maxima and the like over dimension 1 only."
        )


def leave_one_out(rewards: Tensor, num_generations: int, counts: Tensor | None = None) -> Tensor:
    """
    Advantages with the leave-one-out baseline, `A_k = r_k - mean_{j != k} r_j` (paper, Eq. 4).

    Args:
        rewards (`torch.Tensor` of shape `(N,)`):
            Rewards, the `num_generations` rows of a prompt adjacent.
        num_generations (`int`):
            Rationales per prompt, K. With a single one (evaluation) there is no baseline and the advantages are 0.
        counts (`torch.Tensor` of shape `(N,)`, *optional*):
            Which rows have a reward. The others are in no baseline and have the advantage 0, as has a row alone. If `None`,
            all.
    """
    if num_generations == 1:
        return torch.zeros_like(rewards)
    if counts is None:
        counts = torch.ones_like(rewards, dtype=torch.bool)
    counts = counts.view(-1, num_generations)  # (N / K, K)
    groups = rewards.view(-1, num_generations).where(counts, 0.0)
    num_others = counts.sum(1, keepdim=True) - 1  # (N / K, 1)
    others = (groups.sum(1, keepdim=True) - groups) / num_others.clamp(min=1)
    return (groups - others).where(counts & (num_others > 0), 0.0).view(-1)  # (N,)


def group_credit(of_group: GroupReward, values: Tensor, num_generations: int) -> tuple[Tensor, Tensor]:
    """
    Rewards and advantages of a reward that the rationales of a prompt have together.

    The baseline of rationale k is the reward of the group without it, `A_k = K * (B - B_{-k})` (JEPO,
    https://huggingface.co/papers/2503.19618). The factor K makes the mean over the K rows that the loss takes the exact
    gradient of B, so that `beta` weighs the KL as it does for the other rewards. With the mean as `of_group` this is
    [`leave_one_out`].

    Args:
        of_group (`Callable`):
            Reward of a group, see [`Reward`].
        values (`torch.Tensor` of shape `(N,)`):
            Values of the rows, the `num_generations` of a prompt adjacent.
        num_generations (`int`):
            Rationales per prompt, K. With a single one (evaluation) there is no baseline and the advantages are 0.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: of shape `(N,)` each.
    """
    groups = values.view(-1, num_generations)  # (G, K)
    rewards = of_group(groups).repeat_interleave(num_generations)  # (N,)
    if num_generations == 1:
        return rewards, torch.zeros_like(rewards)
    is_other = ~torch.eye(num_generations, dtype=torch.bool, device=values.device)  # (K, K)
    others = groups[:, None, :].expand(-1, num_generations, -1)[:, is_other]  # (G, K * (K - 1))
    without = of_group(others.reshape(-1, num_generations - 1))  # (N,)
    return rewards, num_generations * (rewards - without)


def self_reward_advantages(values: Tensor, num_generations: int, of_group: GroupReward | None) -> Tensor:
    """Advantages by the self-reward alone, `(N,)`: no KL, penalty or reward from outside. See [`assign_credit`]."""
    if of_group is None:
        return leave_one_out(values, num_generations)
    return group_credit(of_group, values, num_generations)[1]


def group_weights(of_group: GroupReward, values: Tensor, num_generations: int) -> Tensor:
    """
    Weights of the rows' answer terms for such a reward, `K * dB / dR_k`; the arguments are those of [`group_credit`], the
    weights of shape `(N,)`. With the mean as `of_group` they are 1.
    """
    groups = values.detach().view(-1, num_generations).requires_grad_()  # (G, K)
    with torch.enable_grad():
        (weights,) = torch.autograd.grad(of_group(groups).sum(), groups)  # (G, K)
    return num_generations * weights.reshape(-1)


class Mixture(NamedTuple):
    """
    How the self-reward and rewards from outside combine, `(N,)` each: `s_k R(z_k) + sum_i w_i f_i(completion_k)`.

    Args:
        self_weights (`torch.Tensor` of shape `(N,)`):
            `s_k`, the weight of the self-reward.
        outside (`torch.Tensor` of shape `(N,)`):
            `sum_i w_i f_i`, the weighted rewards from outside.
        counts (`torch.Tensor` of shape `(N,)`):
            Which rows have a reward at all, of either kind.
    """

    self_weights: Tensor
    outside: Tensor
    counts: Tensor


def likelihood_credit(
    logps: Tensor, mixture: Mixture, num_generations: int, floor: float = 0.0
) -> tuple[Tensor, Tensor]:
    """
    Rewards and advantages where rewards from outside are likelihoods as those of the answer are.

    `p_k = s_k exp(l_k) + sum_i w_i f_ik`, `A_k = (p_k - mean(p)) / (floor + mean(p))`, 0 where all p of a prompt are 0: the
    score-function part of the gradient of `log(floor + mean(p))`, times K. Of 0/1 rewards alone, and without a floor, it is
    MaxRL, the mean of the successes' gradients of `log pi` less that of all (https://huggingface.co/papers/2602.02710).

    Args:
        logps (`torch.Tensor` of shape `(N,)`):
            `l_k`, the `num_generations` rows of a prompt adjacent.
        mixture ([`Mixture`]):
            Weights, and rewards from outside in [0, 1].
        num_generations (`int`):
            Rationales per prompt, K. With a single one (evaluation) the advantages are 0.
        floor (`float`, *optional*, defaults to `0.0`):
            That of [`log_mean_prob`].

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `p` and `A`, of shape `(N,)` each.
    """
    # In logs: the likelihoods of a prompt can all be too small for a float
    log_p = torch.logaddexp(mixture.self_weights.log() + logps, mixture.outside.log())  # (N,)
    counts = mixture.counts.view(-1, num_generations)  # (G, K)
    groups = log_p.view(-1, num_generations).where(counts, -math.inf)
    totals, number = groups.logsumexp(1, keepdim=True), counts.sum(1, keepdim=True)  # (G, 1)
    bounds = torch.logaddexp(totals, (floor * number).log())  # (G, 1)
    advantages = number * (groups - bounds).exp() - (totals - bounds).exp()
    advantages = advantages.where(counts & (totals != -math.inf), 0.0)
    return log_p.exp(), advantages.view(-1)


class Credit(NamedTuple):
    """What the loss makes of the samples, `(N,)` each: rewards, advantages, and weights of the rows' answer terms."""

    rewards: Tensor
    advantages: Tensor
    row_weights: Tensor


def assign_credit(
    values: Tensor,
    kl: Tensor,
    finished: Tensor,
    num_generations: int,
    *,
    of_group: GroupReward | None,
    beta: float,
    unfinished_penalty: float,
    reward_clip_range: tuple[float, float] | None = None,
    normalize_advantages: bool = False,
    policy_values: Tensor | None = None,
    mixture: Mixture | None = None,
    floor: float = 0.0,
) -> Credit:
    """
    From the samples of all prompts to what each of them counts (paper, Eq. 4).

    Args:
        values (`torch.Tensor` of shape `(N,)`):
            `R(z_k)`, the `num_generations` rows of a prompt adjacent.
        kl (`torch.Tensor` of shape `(N,)`):
            `log pi(z_k|x) - log pi0(z_k|x)`.
        finished (`torch.Tensor` of shape `(N,)`):
            1 where the rationale ended, 0 where it ran into the length limit.
        num_generations (`int`):
            Rationales per prompt, K.
        of_group (`Callable`, *optional*):
            Reward that the rationales of a prompt have together, see [`Reward`].
        beta (`float`):
            Coefficient of the KL.
        unfinished_penalty (`float`):
            Subtracted from the reward of an unfinished rationale.
        reward_clip_range (`tuple[float, float]`, *optional*):
            Range that the rewards are clipped to, where each rationale has its own.
        normalize_advantages (`bool`, *optional*, defaults to `False`):
            Whether the advantages are given mean 0 and standard deviation 1.
        policy_values (`torch.Tensor` of shape `(N,)`, *optional*):
            `R(z_k)` by the policy, of which the answer terms' weights are made, where `values` are those of another scorer.
        mixture ([`Mixture`], *optional*):
            Rewards from outside. A row without any reward has a reward of NaN and an advantage of 0, and is in no baseline.
            If `None`, the self-reward alone.
        floor (`float`, *optional*, defaults to `0.0`):
            That of `of_group`, for [`likelihood_credit`].
    """
    penalties = unfinished_penalty * (1.0 - finished)
    counts = torch.ones_like(values, dtype=torch.bool) if mixture is None else mixture.counts  # (N,)
    row_weights = torch.ones_like(values)
    if of_group is None:
        own = values if mixture is None else mixture.self_weights * values + mixture.outside
        rewards = own - penalties
        clipped = rewards.clamp(*reward_clip_range) if reward_clip_range else rewards
        # r_k = s_k R(z_k) + sum_i w_i f_ik - penalty - beta * KL_k,   A_k = r_k - mean_{j != k} r_j
        advantages = leave_one_out(clipped - beta * kl, num_generations, counts)
    else:
        row_weights = group_weights(of_group, values if policy_values is None else policy_values, num_generations)
        if mixture is None:
            own, advantages = group_credit(of_group, values, num_generations)
        else:
            own, advantages = likelihood_credit(values, mixture, num_generations, floor)
        rewards = own - penalties
        advantages = advantages + leave_one_out(-penalties - beta * kl, num_generations, counts)
    if normalize_advantages:
        of_counting = advantages[counts]
        advantages = ((advantages - of_counting.mean()) / (of_counting.std() + 1e-4)).where(counts, 0.0)
    return Credit(rewards.where(counts, math.nan), advantages, row_weights)


def importance_ratios(
    log_ratios: Tensor, num_generations: int, of_group: GroupReward | None, clip_max: float
) -> Tensor:
    """
    Truncated importance ratios `rho_k = min(pi(z_k|x) / mu(z_k|x), clip_max)`, where `mu` is the distribution that the
    engine has sampled from: `E_mu[rho * f] = E_pi[f]` where nothing is truncated.

    A reward that the rationales of a prompt have together is a function of all of them, and so is its ratio, the product
    of theirs. (With each row's own ratio the mean gradient of `jepo` is further from the exact one than without any.)

    Args:
        log_ratios (`torch.Tensor` of shape `(N,)`):
            `sum_t log pi(z_t) - log mu(z_t)`, the `num_generations` rows of a prompt adjacent. Where one is not finite,
            the ratio is NaN, and with it the gradient.
        num_generations (`int`):
            Rationales per prompt, K.
        of_group (`Callable`, *optional*):
            Reward that the rationales of a prompt have together, see [`Reward`].
        clip_max (`float`):
            Largest ratio.
    """
    if of_group is not None:
        log_ratios = log_ratios.view(-1, num_generations).sum(1).repeat_interleave(num_generations)
    return log_ratios.exp().clamp(max=clip_max).where(log_ratios.isfinite(), math.nan)  # (N,)


def token_weights(
    weights: Tensor, row_weights: Tensor, answer_mask: Tensor, reward_mask: Tensor, answer_index: Tensor
) -> Tensor:
    """
    Weights of the answer term, `(B, T)`: those of the reward's own tokens, and their mean on the template's before them,
    for each right answer; times their row's.

    Args:
        weights (`torch.Tensor` of shape `(B, T)`):
            `w_t = dR / dlogp_t`, 0 elsewhere.
        row_weights (`torch.Tensor` of shape `(B,)`):
            Weights of the rows, see [`Credit`].
        answer_mask (`torch.Tensor` of shape `(B, T)`):
            1 on the scored tokens.
        reward_mask (`torch.Tensor` of shape `(B, T)`):
            1 on those of them that the reward is about.
        answer_index (`torch.Tensor` of shape `(B, T)`):
            The answer that a token belongs to.
    """
    of_each = of_each_answer(answer_index)  # (B, J, T)
    counts = (of_each & reward_mask[:, None].bool()).sum(2).clamp(min=1)  # (B, J)
    means = to_answer_tokens(weights[:, None].where(of_each, 0.0).sum(2) / counts, answer_index)  # (B, T)
    return (weights + means * (answer_mask - reward_mask)) * row_weights[:, None]


def rationale_loss(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """
    Clipped surrogate of the REINFORCE term, whose on-policy gradient is `-A_k * grad log pi(z_k|x)` (paper, Eq. 4).

    Args:
        ratio (`torch.Tensor` of shape `(B,)`):
            `pi(z|x)` over that at the time of sampling. On-policy it is 1, its gradient is that of `log pi(z|x)`.
        advantages (`torch.Tensor` of shape `(B,)`):
            Advantages, detached, times the rows' importance ratios.
        low (`float`), high (`float`):
            The ratio is clipped to `[1 - low, 1 + high]`, as in RLOO.
    """
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)  # (B,)


def is_clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where [`rationale_loss`] takes the clipped ratio, `(B,)` of 0 and 1: below, and above."""
    return ((ratio < 1 - low) & (advantages < 0)).float(), ((ratio > 1 + high) & (advantages > 0)).float()


def answer_loss(logps: Tensor, weights: Tensor) -> Tensor:
    """Surrogate of the answer term, `-sum_t w_t * logp_t`, shape `(B,)`; the paper's second term of Eq. 4."""
    return -(weights * logps).sum(1)


def group_correlation(x: Tensor, y: Tensor, num_generations: int) -> Tensor:
    """
    Pearson correlation of two quantities over the rationales of a prompt, averaged over prompts.

    Prompts in which one of the two is constant have no correlation and are left out; without any prompt left the
    result is NaN.

    Args:
        x (`torch.Tensor` of shape `(N,)`), y (`torch.Tensor` of shape `(N,)`):
            Values, the `num_generations` rows of a prompt adjacent.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    x, y = (v.double().view(-1, num_generations) for v in (x, y))
    x, y = (v - v.mean(1, keepdim=True) for v in (x, y))
    scale = (x.square().sum(1) * y.square().sum(1)).sqrt()  # (N / K,)
    varies = scale > 1e-9  # not `> 0`: the mean of equal numbers can be off by a rounding
    return ((x * y).sum(1) / scale)[varies].mean()
