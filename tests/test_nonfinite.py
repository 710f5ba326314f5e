# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""NaN or infinite rewards and gradients: training ends before it does harm, or goes on without the update."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import tiny
from given import cpu_config, snapshot
from trl_latro import LaTROTrainer


TOKENIZER = tiny.byte_level_tokenizer(num_merges=60)
ROWS = tiny.tiny_dataset(4)


def nan_reward(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logps * mask).sum(1) * float("nan")


def nan_gradient(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Finite, but the derivative of the root at zero is not."""
    return ((logps * mask).sum(1) * 0).sqrt()


def make_trainer(path: Path, reward: Any, eval_dataset: Dataset | None = None, **settings: Any) -> LaTROTrainer:
    defaults = {"beta": 0.0, "max_completion_length": 8, "per_device_train_batch_size": 8, "max_steps": 3}
    args = cpu_config(str(path), **{**defaults, "save_strategy": "steps", "save_steps": 1, **settings})
    args.reward_type = reward
    return LaTROTrainer(tiny.tiny_model(TOKENIZER), args, ROWS, eval_dataset, processing_class=TOKENIZER)


@pytest.mark.parametrize(("reward", "what"), [(nan_reward, "A reward"), (nan_gradient, "The gradient")])
def test_training_ends_before_the_update_and_names_the_prompts(tmp_path: Path, reward: Any, what: str) -> None:
    make_trainer(tmp_path, "logprob", max_steps=1).train()
    trainer = make_trainer(tmp_path, reward)
    with pytest.raises(FloatingPointError, match=f"{what} is not finite in step 2, from 2 prompts") as error:
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    kept = torch.load(tmp_path / "checkpoint-1" / "optimizer.pt", weights_only=True)
    assert kept["state"], "the checkpoint is whole"
    assert sum(repr(prompt) in str(error.value) for prompt in ROWS["prompt"]) == 2
    assert all(tensor.isfinite().all() for tensor in snapshot(trainer.model).values())
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("reward", [nan_reward, nan_gradient])
def test_steps_are_skipped_where_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture, reward: Any) -> None:
    trainer = make_trainer(tmp_path, reward, skip_nonfinite_steps=True, weight_decay=0.1)
    before = snapshot(trainer.model)
    trainer.train()
    assert trainer.state.global_step == 3
    assert caplog.text.count("The step is skipped.") >= 3
    for name, tensor in snapshot(trainer.model).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def make_infinite(trainer: LaTROTrainer, is_guilty: Callable[[dict[str, torch.Tensor]], bool]) -> None:
    """Make the gradient of some forwards of the training infinite."""
    compute_loss = trainer._compute_loss

    def infinite(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = compute_loss(model, inputs)
        return loss * float("inf") if model.training and is_guilty(inputs) else loss

    trainer._compute_loss = infinite


def test_prompts_of_all_rollouts_of_an_update_are_named(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, "logprob", per_device_train_batch_size=4, gradient_accumulation_steps=4, steps_per_generation=1
    )
    forwards = []
    make_infinite(trainer, lambda inputs: forwards.append(inputs) or len(forwards) == 1)
    with pytest.raises(FloatingPointError, match="The gradient is not finite in step 1, from 4 prompts") as error:
        trainer.train()
    assert all(repr(prompt) in str(error.value) for prompt in ROWS["prompt"])


def test_an_evaluation_in_between_is_not_named(tmp_path: Path) -> None:
    """The second update has samples that were drawn before the evaluation."""
    more = {"per_device_train_batch_size": 4, "steps_per_generation": 4, "eval_strategy": "steps", "eval_steps": 1}
    other_rows = tiny.tiny_dataset(6).select([4, 5])
    trainer = make_trainer(tmp_path, "logprob", other_rows, per_device_eval_batch_size=4, max_steps=4, **more)
    make_infinite(trainer, lambda inputs: trainer.state.global_step == 1)
    with pytest.raises(FloatingPointError, match="The gradient is not finite in step 2") as error:
        trainer.train()
    assert any(repr(prompt) in str(error.value) for prompt in ROWS["prompt"])
    assert not any(repr(prompt) in str(error.value) for prompt in other_rows["prompt"])
