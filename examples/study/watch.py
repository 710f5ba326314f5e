# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What is kept of a training: its log, its time, and what the model does on validation questions on the way."""

import math
import time
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from .task import StudyTask
from .training import evaluate_model


CURVE_METRICS = ("greedy_accuracy", "sample_accuracy", "greedy_rationale_tokens", "sample_rationale_tokens")
# Of each step, where the method has them
STEP_METRICS = (
    "loss",
    "grad_norm",
    "reward",
    "rewards/accuracy/mean",
    "frac_reward_zero_std",
    "kl",
    "entropy",
    "completions/mean_length",
    "latro/answer_logp",
    "latro/answer_prob",
    "latro/length_reward_corr",
)


def shortened(value: float) -> float:
    """Five digits are enough."""
    return float(f"{value:.5g}")


def logged(logs: dict[str, float], name: str) -> float | None:
    """A metric of a log, `None` where it is missing or NaN."""
    value = float(logs.get(name, math.nan))
    return None if math.isnan(value) else shortened(value)


class Watch(TrainerCallback):
    """
    Looks at the model before training, every few steps and at the end, and keeps the best one.

    Args:
        task ([`StudyTask`]): The task.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The model's tokenizer.
        questions ([`~datasets.Dataset`]): The validation questions.
    """

    def __init__(self, task: StudyTask, tokenizer: PreTrainedTokenizerBase, questions: Dataset) -> None:
        self.task, self.tokenizer, self.questions = task, tokenizer, questions
        self.curve: list[dict[str, float]] = []
        self.updates: dict[str, list[float | None]] = {}
        self.update_seconds: list[float] = []
        self.start = 0.0  # of the step under way
        self.best: tuple[float, int, dict[str, Tensor]] | None = None  # accuracy, step, weights

    def look(self, step: int, model: PreTrainedModel) -> None:
        samples = self.task.curve_samples
        metrics, generations = evaluate_model(self.task, model, self.tokenizer, self.questions, samples, seed=0)
        self.curve.append({"step": step, **{name: round(metrics[name].value, 3) for name in CURVE_METRICS}})
        accuracy = float(np.mean([one.correct for one in generations]))  # greedy and sampled ones
        if self.best is None or accuracy >= self.best[0]:
            # In the precision in which it is evaluated
            dtype = torch.bfloat16 if self.task.training["bf16"] else torch.float32
            weights = {name: weight.detach().to(dtype, copy=True) for name, weight in model.state_dict().items()}
            self.best = (accuracy, step, weights)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(0, kwargs["model"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.update_seconds.append(round(time.perf_counter() - self.start, 2))
        if state.global_step % self.task.curve_every == 0 or state.global_step == state.max_steps:
            self.look(state.global_step, kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:  # the last log is the training's summary
            for name in STEP_METRICS:
                if name in logs or name in self.updates:
                    missed = [None] * (state.global_step - 1)
                    self.updates.setdefault(name, missed).append(logged(logs, name))
