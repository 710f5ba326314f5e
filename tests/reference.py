# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""LaTRO written down as slowly and as plainly as possible: the judge of the trainer.

One row at a time, no padding, the plain softmax over all logits, loops instead of tensor tricks. Every function follows
the equations of https://huggingface.co/papers/2411.04282 (jepo: https://huggingface.co/papers/2503.19618); none of it
imports the package that it judges.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase


RewardFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """The part of the configuration that decides what is computed."""

    reward_type: str | RewardFunction = "logprob"
    reward_power: float = 0.5
    reward_power_end: float | None = None
    jepo_floor: float = 0.0
    reward_tokens: str = "template_and_answer"
    answer_coef: float = 1.0
    beta: float = 0.05
    unfinished_penalty: float = 2.0
    epsilon: float = 0.2
    answer_template: str = "The answer is {answer}."
    answer_separator: str = " "
    stop_strings: tuple[str, ...] = ("The answer is",)
    reward_clip_range: tuple[float, float] | None = None
    mask_unfinished: bool = False
    importance_sampling_correction: bool = True
    importance_sampling_clip_max: float = 3.0
    reward_weights: tuple[float, ...] = ()  # of the functions that reward completions; empty without any
    self_reward_weight: float = 1.0
    self_reward_when: str = "always"
    scorer: str = "policy"
    answer_max_length: int | None = None  # longer ones are truncated

    def after(self, step: int, steps: int) -> "Settings":
        """What holds after a part of the steps."""
        if self.reward_power_end is None:
            return self
        left = (steps - step) / steps
        return replace(self, reward_power=left * self.reward_power + (1 - left) * self.reward_power_end)

    @property
    def whole_completions(self) -> bool:
        """Nothing needs the reference answer: a row is prompt and completion."""
        return self.self_reward_weight == 0 and self.answer_coef == 0


@dataclass(frozen=True)
class Row:
    """One sample as it is trained on: the ids of prompt `x`, rationale `z` and answer `y`, whether `z` ended, and how many
    of the first tokens of `y` the reward is not about."""

    prompt: tuple[int, ...]
    rationale: tuple[int, ...]
    answer: tuple[int, ...]
    finished: bool
    template: int = 0  # tokens of the template before the answer itself
    others: tuple["Row", ...] = ()  # the same sample with its other right answers

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + self.rationale + self.answer

    @property
    def ids_with_others(self) -> tuple[int, ...]:
        return self.ids + tuple(token for other in self.others for token in other.answer)


@dataclass(frozen=True)
class Scores:
    """What the detached scoring of one group of K rows yields, one entry per row."""

    answer_logp: list[float]  # l(z_k), of all right answers together
    own_logp: list[float]  # the part of l(z_k) behind the template
    rationale_logp: list[float]  # log pi(z_k | x)
    kl: list[float]  # log pi(z_k | x) - log pi0(z_k | x)
    reward: list[float]  # R_k (jepo: the group's bound) less the penalty, without the KL
    advantage: list[float]  # A_k
    # w_kt = dR / d logp_kt (jepo: K dB / d logp_kt), and their mean for tokens that the reward is not about; the answers of
    # a row one after the other, one (T_k,) per row
    weights: list[torch.Tensor]


def decode(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def cut(
    tokenizer: PreTrainedTokenizerBase, sampled: list[int], end_token_ids: list[int], stop_strings: tuple[str, ...]
) -> tuple[tuple[int, ...], str | None, bool]:
    """Returns the kept ids of a sample, the text that the first cut token held before the stop string (`None` where no
    stop string ended the rationale), and whether the rationale is finished."""
    ids = tuple(sampled)
    ended = len(ids) > 0 and ids[-1] in end_token_ids
    if ended:
        ids = ids[:-1]
    text = decode(tokenizer, ids)
    starts = [text.find(stop) for stop in stop_strings if stop in text]
    if not starts:
        return ids, None, ended
    m = min(starts)
    for i in range(len(ids)):  # the first token whose text reaches beyond character m covers it
        if len(decode(tokenizer, ids[: i + 1])) > m:
            return ids[:i], text[len(decode(tokenizer, ids[:i])) : m], True
    raise AssertionError("some token covers character m")


def make_row(
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: list[int],
    sampled: list[int],
    answer: str | list[str],
    end_token_ids: list[int],
    end_of_turn_id: int,
    settings: Settings,
) -> Row:
    if isinstance(answer, list):
        different = list(dict.fromkeys(one.strip() for one in answer))
        args = (end_token_ids, end_of_turn_id, settings)
        first, *others = (make_row(tokenizer, prompt_ids, sampled, one, *args) for one in different)
        return replace(first, others=() if settings.whole_completions else tuple(others))
    rationale, before_stop, finished = cut(tokenizer, sampled, end_token_ids, settings.stop_strings)
    if settings.whole_completions:
        return Row(tuple(prompt_ids), tuple(sampled), (), finished)
    between = settings.answer_separator if before_stop is None else before_stop
    text = between + answer.join(settings.answer_template.split("{answer}"))
    answer_ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [end_of_turn_id]
    before_answer = between + settings.answer_template.split("{answer}")[0]
    template = 0
    for i in range(len(answer_ids)):  # tokens that together are in the text before the answer
        if before_answer.startswith(decode(tokenizer, tuple(answer_ids[:i]))):
            template = i
    if settings.answer_max_length is not None:
        answer_ids = answer_ids[: template + settings.answer_max_length]
    return Row(tuple(prompt_ids), rationale, tuple(answer_ids), finished, template)


def token_logps(model: nn.Module, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """log pi of each rationale token (len(z),) and of each answer token (len(y),), differentiable."""
    ids = row.ids
    logits = model(input_ids=torch.tensor([ids])).logits[0]  # (L, V)
    logps = []
    for position in range(len(row.prompt), len(ids)):
        probabilities = torch.softmax(logits[position - 1], dim=-1)  # of the token at `position`, given those before
        logps.append(torch.log(probabilities[ids[position]]))
    return torch.stack(logps).split([len(row.rationale), len(row.answer)])


def row_reward(reward_type: str | RewardFunction, logps: torch.Tensor, tau: float = 0.5) -> torch.Tensor:
    """R of one row, differentiable in the answer's log-probs (T,)."""
    if reward_type in ("logprob", "jepo"):  # the bound of jepo is a matter of the group, see `score_group`
        return logps.sum()
    if reward_type == "prob":
        return torch.exp(logps.sum())
    if reward_type == "power" and tau == 0:
        return logps.sum()
    if reward_type == "power":
        return (torch.exp(logps.sum()) ** tau - 1) / tau
    if reward_type == "mean_prob":
        return torch.exp(logps).mean()
    if reward_type == "geometric_mean":
        return torch.exp(logps.mean())
    return reward_type(logps[None], torch.ones_like(logps)[None])[0]


def sample_reward(reward_type: str | RewardFunction, answers: list[torch.Tensor], tau: float) -> torch.Tensor:
    """R of one sample, differentiable in the log-probs (T_j,) of all right answers."""
    if reward_type in ("logprob", "jepo", "prob", "power"):
        probability = sum(torch.exp(logps.sum()) for logps in answers)
        if reward_type == "power" and tau > 0:
            return (probability**tau - 1) / tau
        return probability if reward_type == "prob" else torch.log(probability)
    return max(row_reward(reward_type, logps) for logps in answers)


def log_sum(answers: list[torch.Tensor]) -> float:
    """Log of the probability that one of the right answers follows."""
    return math.log(sum(math.exp(logps.sum().item()) for logps in answers))


def log_mean_exp(values: list[float], floor: float) -> float:
    largest = max(values)
    return largest + math.log(
        floor / math.exp(largest) + sum(math.exp(value - largest) for value in values) / len(values)
    )


def mean_of_the_others(values: list[float], k: int) -> float:
    others = [value for j, value in enumerate(values) if j != k]
    return sum(others) / len(others)


def clip(reward: float, settings: Settings) -> float:
    if settings.reward_clip_range is None:
        return reward
    low, high = settings.reward_clip_range
    return min(max(reward, low), high)


def outside_reward(given: list[float | None], settings: Settings) -> float | None:
    """The weighted sum of what the functions give a completion, `None` where none of them applies."""
    applying = [weight * f for weight, f in zip(settings.reward_weights, given, strict=True) if f is not None]
    return sum(applying) if applying else None


def combined_credit(
    own: list[float], given: list[list[float | None]], penalty: list[float], kl: list[float], settings: Settings
) -> tuple[list[float], list[float]]:
    """Rewards without the KL (NaN: none) and advantages of the K samples of one prompt, whose own reward (jepo: likelihood)
    is `own` and whose functions' rewards are `given`."""
    outside = [outside_reward(one, settings) for one in given]
    verified = any(
        f is not None and weight * f > 0
        for one in given
        for weight, f in zip(settings.reward_weights, one, strict=True)
    )
    self_weight = 0.0 if settings.self_reward_when == "unverified" and verified else settings.self_reward_weight
    counting = [k for k in range(len(own)) if self_weight > 0 or outside[k] is not None]
    total = {k: self_weight * own[k] + (outside[k] or 0.0) for k in counting}
    if settings.reward_type == "jepo":
        mean = sum(total.values()) / len(counting) if counting else 0.0
        gain = {k: (total[k] - mean) / (settings.jepo_floor + mean) if mean > 0 else 0.0 for k in counting}
        r = {k: -penalty[k] - settings.beta * kl[k] for k in counting}
    else:
        gain = dict.fromkeys(counting, 0.0)
        r = {k: clip(total[k] - penalty[k], settings) - settings.beta * kl[k] for k in counting}
    rewards, advantages = [], []
    for k in range(len(own)):
        rewards.append(total[k] - penalty[k] if k in counting else math.nan)
        others = [r[j] for j in counting if j != k]
        advantages.append(gain[k] + r[k] - sum(others) / len(others) if k in counting and others else 0.0)
    return rewards, advantages


def score_group(
    policy: nn.Module,
    reference: nn.Module | None,
    rows: list[Row],
    settings: Settings,
    given: list[list[float | None]] | None = None,
) -> Scores:
    """Rewards, advantages and answer weights of the K samples of one prompt, all detached. `given` are the rewards of
    functions, one list per sample."""
    number = len(rows)
    answer_logp, own_logp, rewarded_logp, rationale_logp, kl, own_reward, weights = [], [], [], [], [], [], []
    scored_logp: list[float] = []  # of the tokens that the reward is about, by the scorer
    for row in rows:
        answers = (row, *row.others)
        not_rewarded = [one.template if settings.reward_tokens == "answer" else 0 for one in answers]
        with torch.no_grad():
            z, _ = token_logps(policy, row)
            of_answers = [token_logps(policy, one)[1] for one in answers]
        rationale_logp.append(z.sum().item())
        if settings.beta == 0:
            kl.append(0.0)
        else:
            with torch.no_grad():
                z0, _ = token_logps(reference, row)
            kl.append((z.sum() - z0.sum()).item())
        answer_logp.append(log_sum(of_answers))
        own_logp.append(log_sum([y[one.template :] for one, y in zip(answers, of_answers, strict=True)]))
        rewarded = [y[first:].clone().requires_grad_() for y, first in zip(of_answers, not_rewarded, strict=True)]
        rewarded_logp.append(log_sum(rewarded))
        reward = sample_reward(settings.reward_type, rewarded, settings.reward_power)
        own_reward.append(reward.item())
        scored_logp.append(rewarded_logp[-1])
        if settings.scorer == "reference":
            with torch.no_grad():
                of_scorer = [
                    token_logps(reference, one)[1][first:] for one, first in zip(answers, not_rewarded, strict=True)
                ]
            own_reward[-1] = sample_reward(settings.reward_type, of_scorer, settings.reward_power).item()
            scored_logp[-1] = log_sum(of_scorer)
        slopes = torch.autograd.grad(reward, rewarded, allow_unused=True, materialize_grads=True)
        of_row = [
            torch.cat([torch.full((first,), of_answer.mean().item(), dtype=of_answer.dtype), of_answer])
            for first, of_answer in zip(not_rewarded, slopes, strict=True)
        ]
        weights.append(torch.cat(of_row))
    penalty = [0.0 if row.finished else settings.unfinished_penalty for row in rows]

    if settings.reward_type == "jepo":
        floor = settings.jepo_floor
        bound = log_mean_exp(scored_logp, floor)
        of_policy = log_mean_exp(rewarded_logp, floor)
        shares = [math.exp(value - of_policy) / number for value in rewarded_logp]  # dB / d l_k
        own_reward = [bound] * number
        advantage = []
        for k in range(number):
            without_k = log_mean_exp([value for j, value in enumerate(scored_logp) if j != k], floor)
            rest = [-penalty[j] - settings.beta * kl[j] for j in range(number)]
            advantage.append(number * (bound - without_k) + rest[k] - mean_of_the_others(rest, k))
            weights[k] = number * shares[k] * weights[k]
    else:
        r = [clip(own_reward[k] - penalty[k], settings) - settings.beta * kl[k] for k in range(number)]
        advantage = [r[k] - mean_of_the_others(r, k) for k in range(number)]
    reward = [own_reward[k] - penalty[k] for k in range(number)]
    if given is not None:
        own = [math.exp(logp) for logp in scored_logp] if settings.reward_type == "jepo" else own_reward
        reward, advantage = combined_credit(own, given, penalty, kl, settings)
    return Scores(answer_logp, own_logp, rationale_logp, kl, reward, advantage, weights)


def normalized(advantages: list[float], rewards: list[float]) -> list[float]:
    """Mean 0 and standard deviation 1 over those of a generation that have a reward, as TRL's `normalize_advantages` does it."""
    counting = [a for a, reward in zip(advantages, rewards, strict=True) if not math.isnan(reward)]
    mean = sum(counting) / len(counting)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in counting) / (len(counting) - 1))
    return [
        0.0 if math.isnan(reward) else (a - mean) / (deviation + 1e-4)
        for a, reward in zip(advantages, rewards, strict=True)
    ]


def row_factors(rows: list[Row], old_logps: list[float], sampled: list[float], settings: Settings) -> list[float]:
    """What the K rows of a prompt count: their truncated importance ratios pi(z_k|x) / mu(z_k|x) of the policy that scored
    and the engine that sampled (jepo: the product of all, because the bound is a function of all); nothing where unfinished
    rationales are left out."""
    ratios = [math.exp(old_logp - logp) for old_logp, logp in zip(old_logps, sampled, strict=True)]
    if settings.reward_type == "jepo":
        ratios = [math.prod(ratios)] * len(rows)
    if not settings.importance_sampling_correction:
        ratios = [1.0] * len(rows)
    return [
        0.0 if settings.mask_unfinished and not row.finished else min(ratio, settings.importance_sampling_clip_max)
        for row, ratio in zip(rows, ratios, strict=True)
    ]


def row_objective(
    policy: nn.Module, row: Row, old_logp: float, advantage: float, weights: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, float]:
    """What one row adds to the objective (to be maximised), and the probability ratio it was computed at."""
    z, y = token_logps(policy, row)
    y = torch.cat([y, *(token_logps(policy, other)[1] for other in row.others)])
    # an empty rationale has log pi(z|x) = 0, whatever the parameters
    ratio = torch.exp(z.sum() - old_logp) if row.rationale else torch.ones((), dtype=y.dtype)
    clipped = torch.clamp(ratio, 1 - settings.epsilon, 1 + settings.epsilon)
    policy_term = torch.minimum(ratio * advantage, clipped * advantage)
    answer_term = sum(weights[t] * y[t] for t in range(len(y)))
    return policy_term + settings.answer_coef * answer_term, ratio.item()


def update_gradient(
    policy: nn.Module, samples: list[tuple[Row, float, float, torch.Tensor, float]], settings: Settings
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The loss gradient of a whole update over `samples` (row, old log pi(z|x), advantage, weights, factor), a mean
    over the rows times their factors, and the rows' probability ratios."""
    policy.zero_grad()
    ratios = []
    for row, old_logp, advantage, weights, factor in samples:
        objective, ratio = row_objective(policy, row, old_logp, advantage, weights, settings)
        (-factor * objective / len(samples)).backward()
        ratios.append(ratio)
    gradient = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return gradient, ratios


def surprise(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A reward of the user's own, `R = -mean_t (logp_t)^2`: not linear, and not one of the built-in ones."""
    return -(logps.square() * mask).sum(1) / mask.sum(1)
