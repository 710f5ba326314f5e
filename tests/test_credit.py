# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The credit of every kind of reward, averaged over all samples that can be drawn, is the exact gradient."""

import itertools
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trl_latro import objective
from trl_latro.objective import (
    REWARDS,
    GroupReward,
    assign_credit,
    group_credit,
    group_weights,
    leave_one_out,
    log_mean_prob,
)


ROOT = Path(__file__).parents[1]
PENALTY, BETA = 0.7, 0.3
# Three rationales: log-odds of sampling each under the policy and the reference, log-likelihood of the answer after each
LOGITS, REFERENCE = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([0.0, 0.2, -0.4]).double()
ANSWER_LOGPS, FINISHED = torch.tensor([-0.2, -3.0, -1.1]).double(), torch.tensor([1.0, 1.0, 0.0]).double()


def example_of_contributing(heading: str, **names: Any) -> dict[str, Any]:
    """Run the code block of a section."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(block, names)
    return names


@pytest.fixture
def two_sample_bound(monkeypatch: pytest.MonkeyPatch) -> GroupReward:
    """The example of CONTRIBUTING.md, as if it stood in objective.py."""
    rewards = dict(REWARDS)
    monkeypatch.setattr(objective, "REWARDS", rewards)
    example_of_contributing("Add a reward", **vars(objective))
    of_group = rewards["two_sample"].of_group
    assert of_group is not None
    return of_group


def of_group(name: str) -> GroupReward | None:
    if name == "jepo with a floor":
        return partial(log_mean_prob, floor=0.3)
    return objective.REWARDS[name].of_group


def mean(values: Tensor) -> Tensor:
    return values.mean(1)


def exact_gradients(of_group: GroupReward, num_generations: int) -> tuple[Tensor, Tensor]:
    """Of `E[G(l(z_1), ..., l(z_K))] - E[penalty + beta KL]`, with respect to the logits and to `l`."""
    logits, answer_logps = LOGITS.clone().requires_grad_(), ANSWER_LOGPS.clone().requires_grad_()
    logps = logits.log_softmax(0)
    kl = logps - REFERENCE.log_softmax(0)
    expected = torch.zeros((), dtype=torch.double)
    for drawn in itertools.product(range(3), repeat=num_generations):
        z = list(drawn)
        expected = expected + logps[z].sum().exp() * of_group(answer_logps[z][None])[0]
    expected = expected - (logps.exp() * (PENALTY * (1 - FINISHED) + BETA * kl)).sum()
    gradients = torch.autograd.grad(expected, (logits, answer_logps))
    return gradients[0], gradients[1]


def mean_of_estimates(of_group: GroupReward | None, num_generations: int) -> tuple[Tensor, Tensor]:
    """The mean over all samples of the gradient that the loss has with their credit."""
    logits, answer_logps = LOGITS.clone().requires_grad_(), ANSWER_LOGPS.clone().requires_grad_()
    logps = logits.log_softmax(0)
    kl = (logps - REFERENCE.log_softmax(0)).detach()
    objective_of_all = torch.zeros((), dtype=torch.double)
    for drawn in itertools.product(range(3), repeat=num_generations):
        z = list(drawn)
        credit = assign_credit(
            ANSWER_LOGPS[z],
            kl[z],
            FINISHED[z],
            num_generations,
            of_group=of_group,
            beta=BETA,
            unfinished_penalty=PENALTY,
        )
        terms = credit.advantages * logps[z] + credit.row_weights * answer_logps[z]
        objective_of_all = objective_of_all + logps[z].sum().exp().detach() * terms.mean()
    gradients = torch.autograd.grad(objective_of_all, (logits, answer_logps))
    return gradients[0], gradients[1]


@pytest.mark.parametrize("num_generations", [2, 3, 4])
@pytest.mark.parametrize("name", ["logprob", "jepo", "jepo with a floor", "two_sample"])
def test_mean_credit_is_the_exact_gradient(name: str, num_generations: int, two_sample_bound: GroupReward) -> None:
    exact = exact_gradients(of_group(name) or mean, num_generations)
    found = mean_of_estimates(of_group(name), num_generations)
    for gradient, expected in zip(found, exact, strict=True):
        assert expected.abs().max() > 1e-2, "a gradient that is zero anyway proves nothing"
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_the_mean_as_a_groups_reward_is_leave_one_out() -> None:
    values = torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    rewards, advantages = group_credit(mean, values, 4)
    torch.testing.assert_close(rewards, values.view(-1, 4).mean(1).repeat_interleave(4))
    torch.testing.assert_close(advantages, leave_one_out(values, 4))
    torch.testing.assert_close(group_weights(mean, values, 4), torch.ones_like(values))


def test_with_a_floor_a_group_without_success_teaches_nothing_and_one_with_success_as_without_a_floor() -> None:
    failing, succeeding = torch.tensor([-9.0, -8.0, -12.0, -9.0]), torch.tensor([-9.0, 0.0, -12.0, -0.1])
    values = torch.cat([failing, succeeding]).double()
    everything = {"kl": torch.zeros(8).double(), "finished": torch.ones(8).double(), "num_generations": 4}
    everything |= {"beta": 0.0, "unfinished_penalty": 0.0}
    without, with_floor, tiny_floor = (
        assign_credit(values, of_group=partial(log_mean_prob, floor=floor), **everything)
        for floor in (0, 1 / 16, 1e-30)
    )
    assert without.advantages[:4].abs().max() > 0.5 and without.row_weights[:4].sum() == pytest.approx(4)
    assert with_floor.advantages[:4].abs().max() < 0.01 and with_floor.row_weights[:4].max() < 0.01
    assert with_floor.rewards[:4].tolist() == pytest.approx([-math.log(16)] * 4, abs=0.01)
    torch.testing.assert_close(with_floor.advantages[4:], without.advantages[4:], rtol=0.15, atol=0.05)
    torch.testing.assert_close(with_floor.row_weights[4:], without.row_weights[4:], rtol=0.15, atol=0.0)
    torch.testing.assert_close(tiny_floor, without)


def test_power_is_prob_less_one_at_1_and_logprob_at_0_and_in_between_no_answer_costs_more_than_1_over_tau() -> None:
    logps, mask = torch.tensor([[-0.1, -2.0, 9.0], [-300.0, -400.0, -0.5]]), torch.tensor([[1.0, 1.0, 0], [1, 1, 1]])
    torch.testing.assert_close(objective.power(logps, mask, 1.0), objective.prob(logps, mask) - 1)
    torch.testing.assert_close(objective.power(logps, mask, 0.0), objective.logprob(logps, mask))
    torch.testing.assert_close(objective.power(logps, mask, 1e-7), objective.logprob(logps, mask), rtol=1e-4, atol=0)
    torch.testing.assert_close(objective.power(logps, mask, 0.25), torch.tensor([4 * (math.exp(-2.1 / 4) - 1), -4.0]))


@pytest.mark.parametrize("name", ["logprob", "jepo", "two_sample"])
def test_a_single_rationale_has_its_reward_and_no_advantage(name: str, two_sample_bound: GroupReward) -> None:
    settings = {"of_group": objective.REWARDS[name].of_group, "beta": BETA, "unfinished_penalty": PENALTY}
    credit = assign_credit(ANSWER_LOGPS, torch.ones(3).double(), FINISHED, 1, **settings)
    torch.testing.assert_close(credit.rewards, ANSWER_LOGPS - PENALTY * (1 - FINISHED))
    assert not credit.advantages.any()
    torch.testing.assert_close(credit.row_weights, torch.ones(3).double())


def test_clipping_changes_advantages_and_not_the_reward_that_is_logged() -> None:
    settings = {"of_group": None, "beta": 0.0, "unfinished_penalty": PENALTY}
    plain = assign_credit(ANSWER_LOGPS, torch.zeros(3).double(), FINISHED, 3, **settings)
    clipped = assign_credit(
        ANSWER_LOGPS, torch.zeros(3).double(), FINISHED, 3, reward_clip_range=(-2.0, 0.0), **settings
    )
    torch.testing.assert_close(clipped.rewards, plain.rewards)
    torch.testing.assert_close(clipped.advantages, leave_one_out(plain.rewards.clamp(-2.0, 0.0), 3))
    assert not torch.equal(clipped.advantages, plain.advantages)


def test_normalized_advantages_have_mean_zero_and_deviation_one() -> None:
    settings = {"of_group": None, "beta": BETA, "unfinished_penalty": PENALTY, "normalize_advantages": True}
    advantages = assign_credit(ANSWER_LOGPS, torch.ones(3).double(), FINISHED, 3, **settings).advantages
    assert advantages.mean().abs() < 1e-9
    assert advantages.std().item() == pytest.approx(1.0, abs=1e-3)
