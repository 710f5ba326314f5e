# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
From the answer's per-token log-probs to the two terms of the loss; pure functions on tensors.

Symbols: `x` prompt, `z` rationale, `y` answer, `K` rationales per prompt, `B` rows, `T` tokens. Let `R` be any
differentiable function of the answer's per-token log-probs. Then (LaTRO, https://huggingface.co/papers/2411.04282, Eq.
4, is the case `R = sum_t log pi(y_t|x,z,y_<t)`)

    grad E_z[R] = E_z[ (R - baseline) * grad log pi(z|x) + grad R ],    grad R = sum_t w_t * grad logp_t,

with `w_t = dR / dlogp_t`. So one definition of `R` fixes the reward of the rationale and the weights of the answer's
tokens. To add a reward, write one function here and name it in `REWARDS`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


RewardFunction = Callable[[Tensor, Tensor], Tensor]
"""`(logps, mask) -> rewards`: log-probs `(B, T)`, the answer's mask `(B, T)`, rewards `(B,)`."""


def logprob(logps: Tensor, mask: Tensor) -> Tensor:
    """Log-likelihood of the answer, `sum_t logp_t` (LaTRO, https://huggingface.co/papers/2411.04282, Eq. 3)."""
    return (logps * mask).sum(1)  # (B,)


def prob(logps: Tensor, mask: Tensor) -> Tensor:
    """Probability of the answer, `exp(sum_t logp_t)` (VeriFree, https://huggingface.co/papers/2505.21493)."""
    return logprob(logps, mask).exp()  # (B,)


def mean_prob(logps: Tensor, mask: Tensor) -> Tensor:
    """Mean of the token probabilities, `mean_t exp(logp_t)` (RLPR, https://huggingface.co/papers/2506.18254)."""
    return (logps.exp() * mask).sum(1) / mask.sum(1)  # (B,)


def geometric_mean(logps: Tensor, mask: Tensor) -> Tensor:
    """Geometric mean of the token probabilities, `exp(mean_t logp_t)` (https://huggingface.co/papers/2602.11549)."""
    return (logprob(logps, mask) / mask.sum(1)).exp()  # (B,)


REWARDS: dict[str, RewardFunction] = {
    "logprob": logprob,
    "prob": prob,
    "mean_prob": mean_prob,
    "geometric_mean": geometric_mean,
}

JEPO = "jepo"
"""The reward that belongs to the K rationales of a prompt together, see [`jepo_advantages`]."""


def reward_and_weights(reward_function: RewardFunction, logps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """
    Reward of each row, and the weights `w_t = dR / dlogp_t` of its answer tokens.

    Args:
        reward_function (`Callable`):
            `(logps, mask) -> rewards`, differentiable in `logps`.
        logps (`torch.Tensor` of shape `(B, T)`):
            Per-token log-probs. What stands outside `mask` is not looked at.
        mask (`torch.Tensor` of shape `(B, T)`):
            1 on the answer's tokens.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: rewards of shape `(B,)` and weights of shape `(B, T)`, both detached.

    Raises:
        `ValueError`: the function does not return one differentiable reward per row.
    """
    mask = mask.to(logps.dtype)
    with torch.enable_grad():
        logps = (logps.detach() * mask).requires_grad_()
        rewards = reward_function(logps, mask)
        if rewards.shape != logps.shape[:1]:
            raise ValueError(
                f"The reward function must return one reward per row, shape {tuple(logps.shape[:1])}, but returned "
                f"shape {tuple(rewards.shape)}. Reduce over the tokens (dimension 1)."
            )
        if not rewards.requires_grad:
            raise ValueError(
                "The reward function must be differentiable in `logps`: its derivative is the weight of the answer's "
                "tokens. Do not detach or round inside of it."
            )
        (weights,) = torch.autograd.grad(rewards.sum(), logps)
    return rewards.detach(), weights * mask


def leave_one_out(rewards: Tensor, num_generations: int) -> Tensor:
    """
    Advantages with the leave-one-out baseline, `A_k = r_k - mean_{j != k} r_j` (paper, Eq. 4).

    Args:
        rewards (`torch.Tensor` of shape `(N,)`):
            Rewards, the `num_generations` rows of a prompt adjacent.
        num_generations (`int`):
            Rationales per prompt, K. With a single one (evaluation) there is no baseline and the advantages are 0.
    """
    if num_generations == 1:
        return torch.zeros_like(rewards)
    groups = rewards.view(-1, num_generations)  # (N / K, K)
    others = (groups.sum(1, keepdim=True) - groups) / (num_generations - 1)
    return (groups - others).view(-1)  # (N,)


def jepo_bound(answer_logps: Tensor, num_generations: int) -> Tensor:
    """Multi-sample bound of each prompt, `log (1/K) sum_k exp(l_k)`, shape `(N / K,)`, from `l` of shape `(N,)`."""
    groups = answer_logps.view(-1, num_generations)
    return groups.logsumexp(1) - math.log(num_generations)


def jepo_advantages(answer_logps: Tensor, num_generations: int) -> Tensor:
    """
    Advantages of the multi-sample bound (JEPO, https://huggingface.co/papers/2503.19618).

    The baseline of rationale k is the bound without it: `A_k = K * (bound - bound_{-k})`. The factor K makes the mean
    over the K rows that the loss takes the exact gradient of the bound, so that `beta` weighs the KL as it does for
    the other rewards.

    Args:
        answer_logps (`torch.Tensor` of shape `(N,)`):
            Log-likelihoods `l` of the answers, the `num_generations` rows of a prompt adjacent.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    if num_generations == 1:
        return torch.zeros_like(answer_logps)
    groups = answer_logps.view(-1, num_generations)  # (N / K, K)
    bound = jepo_bound(answer_logps, num_generations).unsqueeze(1)  # (N / K, 1)
    # The K - 1 others of each rationale, summed without subtracting large from large
    itself = torch.eye(num_generations, dtype=torch.bool, device=groups.device)  # (K, K)
    others = groups.unsqueeze(1).masked_fill(itself, -torch.inf)  # (N / K, K, K)
    bound_without = others.logsumexp(2) - math.log(num_generations - 1)  # (N / K, K)
    return (num_generations * (bound - bound_without)).view(-1)  # (N,)


def jepo_weights(answer_logps: Tensor, num_generations: int) -> Tensor:
    """Weight of each row's answer tokens, `K * dbound / dl_k = K * softmax(l)_k`, shape `(N,)`."""
    groups = answer_logps.view(-1, num_generations)
    return (num_generations * groups.softmax(1)).view(-1)


def rationale_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """
    Clipped surrogate of the REINFORCE term, whose on-policy gradient is `-A_k * grad log pi(z_k|x)` (paper, Eq. 4).

    Args:
        logps (`torch.Tensor` of shape `(B,)`):
            `log pi(z|x)`, summed over the rationale's tokens.
        old_logps (`torch.Tensor` of shape `(B,)`):
            The same at the time of sampling.
        advantages (`torch.Tensor` of shape `(B,)`):
            Advantages, detached.
        low (`float`), high (`float`):
            The ratio is clipped to `[1 - low, 1 + high]`, as in RLOO. On-policy the ratio is 1.
    """
    ratio = (logps - old_logps).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)  # (B,)


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
    return ((x * y).sum(1) / scale)[
        scale > 1e-9
    ].mean()  # not `> 0`: the mean of equal numbers can be off by a rounding
