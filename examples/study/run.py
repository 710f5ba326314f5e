# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One run of the study: train by one method with one seed, evaluate, and write one small file."""

import json
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
import transformers
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from trl_latro.evaluation import Evaluation
from trl_latro.evaluation.metrics import question_metrics

from .settings import (
    BETA,
    CURVE_EVERY,
    CURVE_SAMPLES,
    LEARNING_RATE,
    PROMPTS,
    REWARDS,
    SAMPLES,
    TASKS,
    TEST_SAMPLES,
    StudyTask,
    held_out_questions,
)
from .training import evaluate_model, load_base, train


METRICS = ("greedy_accuracy", "sample_accuracy", "maj@8", "greedy_rationale_tokens", "sample_rationale_tokens")
CURVE_METRICS = ("greedy_accuracy", "sample_accuracy", "greedy_rationale_tokens", "sample_rationale_tokens")
PACKAGES = ("trl_latro", "trl", "transformers", "torch", "datasets")


class Run(NamedTuple):
    """What one file is about."""

    task: str
    method: str
    seed: int
    steps: int
    test_puzzles: int

    def path(self, output_dir: Path) -> Path:
        return output_dir / f"{self.task}-{self.method}-{self.seed}.json"


class Curve(TrainerCallback):
    """Accuracy and rationale length on the validation puzzles, before and during training."""

    def __init__(self, task: StudyTask, tokenizer: PreTrainedTokenizerBase, questions: Dataset) -> None:
        self.task, self.tokenizer, self.questions = task, tokenizer, questions
        self.points: list[dict[str, float]] = []

    def look(self, step: int, model: PreTrainedModel) -> None:
        metrics = evaluate_model(self.task, model, self.tokenizer, self.questions, CURVE_SAMPLES, seed=0).metrics
        self.points.append({"step": step, **{name: round(metrics[name].value, 3) for name in CURVE_METRICS}})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(0, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % CURVE_EVERY == 0 or state.global_step == state.max_steps:
            self.look(state.global_step, kwargs["model"])


def make_quiet() -> None:
    """One thread, and no lines but those of the study."""
    # TRL 1.16 calls methods that transformers 5.23 has renamed
    warnings.filterwarnings("ignore", ".* is deprecated and will be removed in v6", FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)


def do_run(run: Run, output_dir: Path) -> dict[str, Any]:
    """Train and evaluate, and write the file at the very end: a stopped run leaves none."""
    make_quiet()
    task = TASKS[run.task]
    test, validation = held_out_questions(task, run.test_puzzles)
    transformers.set_seed(run.seed)
    model, tokenizer = load_base(task)
    curve = Curve(task, tokenizer, validation)
    start = time.perf_counter()
    if run.method == "base":
        curve.look(0, model)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = train(task, run.method, run.seed, run.steps, Path(folder), curve)
    training_seconds = time.perf_counter() - start
    evaluation = evaluate_model(task, model, tokenizer, test, TEST_SAMPLES, run.seed)
    result = {
        **run._asdict(),
        "metrics": {name: [round(x, 5) for x in evaluation.metrics[name]] for name in METRICS},  # value, low, high
        "per_question": per_question(evaluation, task),
        "curve": curve.points,
        "training_seconds": round(training_seconds, 1),
        "evaluation_seconds": round(time.perf_counter() - start - training_seconds, 1),
        "settings": {
            "learning_rate": LEARNING_RATE,
            "rows_per_step": PROMPTS * SAMPLES,
            "beta": BETA if run.method in REWARDS else None,
            "max_completion_length": task.max_completion_length,
            "samples_per_test_question": TEST_SAMPLES,
        },
    }
    write_result(result, run.path(output_dir))
    return result


def write_result(result: dict[str, Any], path: Path) -> None:
    """The whole file or none."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result | {"versions": {name: version(name) for name in PACKAGES}}) + "\n")
    unfinished.rename(path)


def per_question(evaluation: Evaluation, task: StudyTask) -> dict[str, Any]:
    """Verdicts of the test puzzles in their order: greedy 0 or 1, right samples, share of the majority that is right."""
    found = question_metrics(evaluation.generations, task.max_completion_length)
    samples = found["sample_accuracy"].numerator * TEST_SAMPLES
    return {
        "greedy": "".join(f"{value:.0f}" for value in found["greedy_accuracy"].numerator),
        "right_samples": "".join(f"{value:.0f}" for value in samples),
        "maj@8": [round(float(value), 3) for value in found["maj@8"].numerator],
    }
