# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Every field of the config that LaTRO reads is checked before anything else happens."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from given import cpu_config
from trl_latro.latro_config import LaTROConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": -0.1},
        {"learning_rate": math.nan},
        {"chat_template_kwargs": [("enable_thinking", False)]},
        {"generation_kwargs": "top_k=0"},
        {"model_init_kwargs": "[1]"},
        {"beta": math.nan},
        {"beta": "0.05"},
        {"answer_coef": math.inf},
        {"answer_coef": True},
        {"unfinished_penalty": math.nan},
        {"epsilon": -0.2},
        {"epsilon_high": -0.1},
        {"num_iterations": 0},
        {"num_iterations": 1.5},
        {"num_generations": 4.0},
        {"num_generations_eval": -1},
        {"num_generations_eval": 0},
        {"per_device_eval_batch_size": 0},
        {"per_device_train_batch_size": 0},
        {"gradient_accumulation_steps": 0},
        {"steps_per_generation": 0},
        {"max_completion_length": 0},
        {"max_completion_length": None},
        {"share_prompts": "false"},
        {"share_prompts": 0},
        {"skip_nonfinite_steps": "no"},
        {"normalize_advantages": None},
        {"answer_template": None},
        {"answer_separator": None},
        {"rationale_stop_strings": ("The answer is", 5)},
        {"reward_clip_range": (0.0, -10.0)},
        {"reward_clip_range": (1.0, 1.0)},
        {"reward_clip_range": (-math.inf, 0.0)},
        {"reward_clip_range": (0.0,)},
        {"reward_clip_range": 5},
        {"neftune_noise_alpha": 5.0},
        {"reward_power": 1.5},
        {"reward_power": None},
        {"reward_power_end": -0.1},
        {"jepo_floor": math.nan},
        {"jepo_floor": 2},
        {"reward_tokens": "template"},
        {"reward_tokens": True},
        {"reward_tokens": ["answer"]},
        {"vllm_importance_sampling_correction": "yes"},
        {"vllm_importance_sampling_clip_max": None},
        {"vllm_importance_sampling_clip_max": 0.5},
        {"vllm_importance_sampling_clip_max": math.inf},
    ],
    ids=str,
)
def test_a_field_out_of_its_bounds_is_named_with_its_value(tmp_path: Path, settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ValueError) as error:
        cpu_config(str(tmp_path), **settings)
    assert f"`{name}` is {value!r}" in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 0},
        {"answer_coef": 0},
        {"unfinished_penalty": 0.0},
        {"epsilon": 0.0},
        {"epsilon_high": 0.4},
        {"num_generations_eval": 1},
        {"reward_clip_range": [-10, 0]},
        {"rationale_stop_strings": []},
        {"answer_separator": ""},
        {"share_prompts": False},
        {"vllm_importance_sampling_clip_max": 1},
    ],
    ids=str,
)
def test_a_field_on_its_bound_is_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert isinstance(cpu_config(str(tmp_path), **settings), LaTROConfig)


def returns_a_list(logps: torch.Tensor, mask: torch.Tensor) -> Any:
    return (logps * mask).sum(1).tolist()


def returns_none(logps: torch.Tensor, mask: torch.Tensor) -> Any:
    return None


def returns_one_number(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logps * mask).sum()


def is_detached(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logps * mask).sum(1).detach()


def subtracts_the_mean_of_the_batch(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    rewards = (logps * mask).sum(1)
    return rewards - rewards.mean()


def divides_by_the_maximum_of_the_batch(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logps * mask).sum(1) / mask.sum(1).max()


def worst_token(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return logps.masked_fill(mask == 0, 0.0).amin(dim=1)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (returns_a_list, "a tensor of shape"),
        (returns_none, "returned None"),
        (returns_one_number, "one reward per row"),
        (is_detached, "differentiable"),
        (subtracts_the_mean_of_the_batch, "must depend on that row alone"),
        (divides_by_the_maximum_of_the_batch, "must depend on that row alone"),
    ],
)
def test_a_reward_function_is_tried_on_two_rows(tmp_path: Path, reward: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu_config(str(tmp_path), reward_type=reward)


@pytest.mark.parametrize(
    ("reward", "tokens"),
    [
        ("logprob", "template_and_answer"),
        ("jepo", "template_and_answer"),
        (worst_token, "template_and_answer"),
        ("prob", "answer"),
        ("mean_prob", "answer"),
        ("geometric_mean", "answer"),
        ("power", "answer"),
    ],
)
def test_a_reward_says_which_tokens_it_is_about(tmp_path: Path, reward: Any, tokens: str) -> None:
    assert cpu_config(str(tmp_path), reward_type=reward).reward_tokens == tokens
    for other in ("template_and_answer", "answer"):
        assert cpu_config(str(tmp_path), reward_type=reward, reward_tokens=other).reward_tokens == other


def test_a_reward_function_of_each_row_is_taken(tmp_path: Path) -> None:
    assert cpu_config(str(tmp_path), reward_type=worst_token).reward.of_row is worst_token
