# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The monitor warns where training teaches the model to stop reasoning, and nowhere else."""

import logging
import math
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerControl, TrainerState

import tiny
from given import cpu_config
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.collapse_monitor import CollapseMonitor, prompt_columns, standard_errors
from trl_latro.objective import REWARDS, assign_credit


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from puzzles.common import make_puzzles  # noqa: E402
from puzzles.house import HousePuzzle  # noqa: E402


GUESS, RIGHT, WRONG = math.log(1 / 16), math.log(0.9), math.log(0.005)


def samples(reasons: float, right: float, seed: int, prompts: int = 16) -> tuple[Tensor, Tensor]:
    """
    Lengths and answer log-probs of 16 samples of each prompt: a share `reasons` of them is long, and of these a share
    `right` is right; the others are short guesses.
    """
    generator = torch.Generator().manual_seed(seed)
    long, is_right = (torch.rand(prompts, 16, generator=generator) < share for share in (reasons, right))
    noise = torch.randn(prompts, 16, generator=generator)
    logps = torch.where(long, torch.where(is_right, RIGHT, WRONG), GUESS) + 0.1 * noise
    lengths = torch.where(long, 28.0, 3.0) + noise.round()
    return lengths.flatten(), logps.clamp(max=0).flatten()


def credit_of(reward_type: str, logps: Tensor) -> Tensor:
    reward = REWARDS[reward_type]
    values = logps.exp() if reward_type == "prob" else logps
    ones = torch.ones_like(logps)
    return assign_credit(
        values, 0 * ones, ones, 16, of_group=reward.of_group, beta=0.0, unfinished_penalty=2.0
    ).advantages


def watch(reward_type: str, shares: list[tuple[float, float]], seed: int = 0) -> int | None:
    """The update after which the monitor warns, `None` if it does not."""
    monitor = CollapseMonitor(stop=False)
    for update, (reasons, right) in enumerate(shares, start=1):
        lengths, logps = samples(reasons, right, 1000 * seed + update)
        monitor.observe(lengths, credit_of(reward_type, logps), logps, 16, {})
        if monitor.diagnosis() is not None:
            return update
    return None


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_for_which_guessing_wins_is_seen_after_few_updates(seed: int) -> None:
    """Reasoning gives 0.22 * log 0.9 + 0.78 * log 0.005 = -4.2, guessing -2.8."""
    at = watch("logprob", [(0.4, 0.22)] * 3, seed)
    assert at is not None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reward_type", ["prob", "jepo"])
def test_rewards_for_which_reasoning_wins_on_the_same_samples_are_not_warned_of(reward_type: str, seed: int) -> None:
    assert watch(reward_type, [(0.4 + 0.01 * update, 0.22 + 0.012 * update) for update in range(50)], seed) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reward_type", ["logprob", "prob", "jepo"])
def test_a_healthy_training_and_one_that_learns_nothing_are_not_warned_of(reward_type: str, seed: int) -> None:
    learns = [(0.5 + 0.008 * update, 0.75 + 0.004 * update) for update in range(60)]
    assert watch(reward_type, learns, seed) is None
    assert watch(reward_type, [(1.0, 0.5)] * 60, seed) is None


def test_hedging_is_seen_where_lengths_tell_nothing() -> None:
    """Every rationale is long; the answer's log-prob after them comes together at that of a guess."""
    monitor = CollapseMonitor(stop=False)
    diagnoses = []
    for update in range(12):
        _, logps = samples(1.0, 0.4, seed=update)
        logps = logps + min(update / 8, 1.0) * (GUESS - logps)
        monitor.observe(torch.randn(256), credit_of("logprob", logps), logps, 16, {})
        diagnoses.append(monitor.diagnosis())
    assert diagnoses[0] is None and "hedge" in str(diagnoses[-1].reason)


def test_covariances_are_within_prompts() -> None:
    """Long prompts with likely answers are no reason to write more."""
    lengths = torch.tensor([3.0, 3.0, 30.0, 30.0])
    columns = prompt_columns(lengths, torch.tensor([1.0, -1.0, 2.0, -2.0]), torch.tensor([-5.0, -4.0, -0.1, -0.2]), 2)
    assert columns.length_credit.tolist() == columns.length_prob.tolist() == [0.0, 0.0]
    columns = prompt_columns(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, -2.0]), 2)
    assert columns.length_credit.item() == pytest.approx(1.0) and columns.length_prob.item() == pytest.approx(-1.0)
    assert columns.answer_probs.item() == pytest.approx((math.exp(-1) + math.exp(-2)) / 2)


def test_standard_errors() -> None:
    values, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])
    assert standard_errors(values) == pytest.approx(2 / math.sqrt(1 / 3))
    assert standard_errors(values, other) == pytest.approx(1 / math.sqrt(1 / 3 + 1))


@pytest.mark.parametrize("stop", [False, True])
def test_it_warns_once_and_ends_the_training_only_if_asked_to(stop: bool, caplog: pytest.LogCaptureFixture) -> None:
    monitor, control = CollapseMonitor(stop), TrainerControl()
    lengths, logps = samples(0.4, 0.22, seed=0, prompts=64)
    args = LaTROConfig("unused", use_cpu=True, bf16=False)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            monitor.observe(lengths, credit_of("logprob", logps), logps, 16, {})
            monitor.on_step_end(args, TrainerState(global_step=step), control)
    (warning,) = [record.getMessage() for record in caplog.records if "Collapse" in record.getMessage()]
    assert "at step 1: longer rationales have the more probable answers" in warning and "'prob' or 'jepo'" in warning
    assert control.should_training_stop == stop == ("Training ends here" in warning)
    assert monitor.collapsed_at == 1


def test_a_resumed_monitor_goes_on() -> None:
    whole, stopped = CollapseMonitor(stop=False), CollapseMonitor(stop=False)
    for update in range(8):
        lengths, logps = samples(0.5, 0.8, seed=update)
        for monitor in (whole, stopped):
            monitor.observe(lengths, credit_of("prob", logps), logps, 16, {})
        resumed = CollapseMonitor(stop=False)
        resumed.load_state(stopped.state())
        stopped = resumed
    for one, other in zip(whole.state()["last"], stopped.state()["last"], strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_on_unless_it_is_switched_off(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=80)
    for settings, expected in (({}, True), ({"monitor_collapse": False}, False)):
        args = cpu_config(str(tmp_path), max_completion_length=8, **settings)
        trainer = LaTROTrainer(tiny.tiny_model(tokenizer), args, tiny.tiny_dataset(), processing_class=tokenizer)
        found = [one for one in trainer.callback_handler.callbacks if isinstance(one, CollapseMonitor)]
        assert bool(found) == expected
    with pytest.raises(ValueError, match="`stop_on_collapse` is True, but `monitor_collapse` is False"):
        cpu_config(str(tmp_path), monitor_collapse=False, stop_on_collapse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "reward_type", "warns"),
    [("weak_house", "logprob", True), ("weak_house", "jepo", False), ("house", "logprob", False)],
)
def test_on_a_base_that_collapses_and_on_one_that_does_not(
    tmp_path: Path, base: str, reward_type: str, warns: bool
) -> None:
    folder = EXAMPLES / "puzzles" / f"{base}_base_model"
    puzzles = make_puzzles(HousePuzzle, 16 * 8, seed=3, held_out=False)
    args = cpu_config(
        str(tmp_path),
        **{"num_generations": 16, "per_device_train_batch_size": 256, "max_completion_length": 36, "beta": 0.02},
        **{"learning_rate": 3e-4, "lr_scheduler_type": "constant", "max_steps": 8, "stop_on_collapse": True},
        reward_type=reward_type,
    )
    trainer = LaTROTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        args,
        Dataset.from_list([{"prompt": puzzle.prompt, "answer": puzzle.answer} for puzzle in puzzles]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    assert trainer.state.global_step <= 2 if warns else trainer.state.global_step == 8
