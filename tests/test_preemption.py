# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""SIGTERM ends a training between two steps, with a checkpoint that continues exactly."""

import os
import signal
from pathlib import Path

import torch
from transformers import TrainerCallback

import tiny
from given import cpu_config, snapshot
from trl_latro import LaTROTrainer
from trl_latro.durability.preemption import SaveOnSigterm


TOKENIZER = tiny.byte_level_tokenizer(num_merges=60)


class Preempt(TrainerCallback):
    """Sends the signal in the middle of the second step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def make_trainer(path: Path, *callbacks: TrainerCallback) -> LaTROTrainer:
    args = cpu_config(
        str(path), beta=0.0, max_completion_length=8, per_device_train_batch_size=4, max_steps=3, learning_rate=1e-2
    )
    return LaTROTrainer(
        tiny.tiny_model(TOKENIZER),
        args,
        tiny.tiny_dataset(8),
        processing_class=TOKENIZER,
        callbacks=list(callbacks),
    )


def test_sigterm_saves_after_the_step_and_the_run_continues_exactly(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.train()

    before = signal.getsignal(signal.SIGTERM)
    save = SaveOnSigterm()
    stopped = make_trainer(tmp_path / "stopped", save, Preempt())
    stopped.train()
    assert save.stopped
    assert signal.getsignal(signal.SIGTERM) == before, "after training the signal means what it meant"
    assert stopped.state.global_step == 2
    assert [path.name for path in (tmp_path / "stopped").glob("checkpoint-*")] == ["checkpoint-2"]

    save = SaveOnSigterm()
    resumed = make_trainer(tmp_path / "stopped", save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-2"))
    assert not save.stopped
    assert [log["loss"] for log in resumed.state.log_history if "loss" in log] == [
        log["loss"] for log in whole.state.log_history if "loss" in log
    ]
    expected, found = snapshot(whole.model), snapshot(resumed.model)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_sigterm_saves_once_and_evaluates_no_more(tmp_path: Path) -> None:
    """A second save would delete the only checkpoint first, and the evaluation before it may take longer than is left."""
    done: list[str] = []

    class Watch(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            done.append(f"save {state.global_step}")

        def on_evaluate(self, args, state, control, **kwargs):
            done.append(f"evaluate {state.global_step}")

    stopped = make_trainer(tmp_path, SaveOnSigterm(), Preempt(), Watch())
    stopped.eval_dataset = tiny.tiny_dataset(2)
    stopped.args.eval_strategy = stopped.args.save_strategy = "epoch"
    stopped.train()
    assert done == ["save 2"]


class PreemptInEvaluation(TrainerCallback):
    def on_prediction_step(self, args, state, control, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_in_an_evaluation_saves_after_it_and_makes_no_further_step(tmp_path: Path) -> None:
    save = SaveOnSigterm()
    stopped = make_trainer(tmp_path, save, PreemptInEvaluation())
    stopped.eval_dataset = tiny.tiny_dataset(2)
    stopped.args.eval_strategy, stopped.args.eval_steps = "steps", 1
    stopped.train()
    assert save.stopped
    assert stopped.state.global_step == 1
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
