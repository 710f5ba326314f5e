# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One run of the study: train by one method with one seed, evaluate, and write one small file."""

import gc
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from trl_latro.cli.noise import show_own_lines
from trl_latro.evaluation import Evaluation
from trl_latro.evaluation.metrics import question_metrics
from trl_latro.objective import group_correlation

from .methods import ALL_METHODS
from .settings import TASKS, held_out_questions
from .task import StudyTask
from .training import Trained, evaluate_model, load_base, train
from .watch import Watch, shortened


METRICS = (
    *("greedy_accuracy", "sample_accuracy", "greedy_rationale_tokens", "sample_rationale_tokens", "sample_finished"),
    *(
        f"answer_{kind}_{rationale}_rationale"
        for kind in ("logp", "perplexity")
        for rationale in ("sample", "gold", "no")
    ),
)
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


def make_quiet() -> None:
    """One thread, and no lines but those of the study."""
    show_own_lines()
    torch.set_num_threads(1)


def do_run(run: Run, output_dir: Path) -> dict[str, Any]:
    """One of a task of `TASKS`."""
    return make_run(TASKS[run.task], run, output_dir)


def make_run(task: StudyTask, run: Run, output_dir: Path) -> dict[str, Any]:
    """Train and evaluate, and write the file at the very end: a stopped run leaves none."""
    make_quiet()
    test, validation = held_out_questions(task, run.test_puzzles)
    transformers.set_seed(run.seed)
    model, tokenizer = load_base(task)
    watch = Watch(task, tokenizer, validation)
    start = time.perf_counter()
    if run.method == "base":
        watch.look(0, model)
        trained = Trained(model)
    else:
        del model  # training loads its own
        with tempfile.TemporaryDirectory() as folder:
            trained = train(task, run.method, run.seed, run.steps, Path(folder), watch)
    training_seconds = time.perf_counter() - start
    gc.collect()  # of the trainer: two runs of a real model at a time need the memory
    result = {
        **run._asdict(),
        **measured(evaluate_model(task, trained.model, tokenizer, test, task.test_samples, run.seed), task),
        "curve": watch.curve,
        "updates": watch.updates,
        "update_seconds": watch.update_seconds,
        "warned_at": trained.warned_at,
        "sampled_tokens": trained.sampled_before + sampled_in(watch.updates, task),
        "training_seconds": round(training_seconds, 1),  # with the looks at the validation questions
        "evaluation_seconds": round(time.perf_counter() - start - training_seconds, 1),
        "settings": settings_of(task, run.method),
    }
    assert watch.best is not None  # it has looked at least once
    _, step, weights = watch.best
    result["best"] = {"step": step}  # of those that it has looked at on validation questions
    if step != watch.curve[-1]["step"]:
        model, _ = load_base(task)
        model.load_state_dict(weights)
        of_best = measured(evaluate_model(task, model, tokenizer, test, task.test_samples, run.seed), task)
        result["best"] |= without_question_logps(of_best)
    write_result(result, run.path(output_dir))
    return result


def show(result: dict[str, Any]) -> str:
    """The accuracies of a run, in a line."""
    metrics = result["metrics"]
    return ", ".join(f"{name} {metrics[name][0]:.1%}" for name in metrics if "accuracy" in name or "@" in name)


def settings_of(task: StudyTask, method: str) -> dict[str, Any]:
    objective = ALL_METHODS[method].objective or {}
    return {
        "learning_rate": task.training["learning_rate"],
        "bf16": task.training["bf16"],
        "rows_per_step": task.rows_per_step,
        "prompts": task.prompts,
        "num_generations": task.samples,
        "beta": objective.get("beta", task.beta),  # of the methods that have a KL
        "max_completion_length": task.max_completion_length,
        "samples_per_test_question": task.test_samples,
    }


def sampled_in(updates: dict[str, list[float | None]], task: StudyTask) -> int:
    """Tokens sampled in training."""
    return round(task.rows_per_step * sum(length or 0.0 for length in updates.get("completions/mean_length", [])))


def write_result(result: dict[str, Any], path: Path) -> None:
    """The whole file or none."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result | {"versions": {name: version(name) for name in PACKAGES}}) + "\n")
    unfinished.rename(path)


def measured(evaluation: Evaluation, task: StudyTask) -> dict[str, Any]:
    """
    Metrics with their intervals, and the verdicts of the test questions in their order: greedy 0 or 1, right samples,
    share of the majority that is right, and the answer's mean log-prob after samples, gold rationale and nothing.
    """
    found = question_metrics(evaluation.generations, task.max_completion_length)
    samples = found["sample_accuracy"].numerator * task.test_samples
    of_majority = f"maj@{task.test_samples}"
    return {
        "metrics": {  # value, low, high
            name: [shortened(x) for x in evaluation.metrics[name]]
            for name in (*METRICS, of_majority, f"pass@{task.test_samples}")
        },
        "correlations": correlations(evaluation, task),
        "per_question": {
            "greedy": "".join(f"{value:.0f}" for value in found["greedy_accuracy"].numerator),
            "right_samples": "".join(f"{value:.0f}" for value in samples),
            of_majority: [round(float(value), 3) for value in found[of_majority].numerator],
            **{
                f"answer_logp_{name}": [
                    round(float(value), 2) for value in found[f"answer_logp_{name}_rationale"].numerator
                ]
                for name in ("sample", "gold", "no")
            },
        },
    }


def without_question_logps(measures: dict[str, Any]) -> dict[str, Any]:
    """For a smaller file: of the chosen checkpoint the verdicts are enough."""
    verdicts = {name: of for name, of in measures["per_question"].items() if not name.startswith("answer_logp")}
    return measures | {"per_question": verdicts}


def correlations(evaluation: Evaluation, task: StudyTask) -> dict[str, float | None]:
    """
    Over the samples of a test question, averaged over questions: of the answer's log-prob after a sample with whether the
    sample is right, and with its length. `None` where no question's samples differ.
    """
    samples = sorted(
        (one for one in evaluation.generations if one.kind == "sample"), key=lambda one: (one.question, one.sample)
    )
    logps, right, lengths = (
        torch.tensor(np.array(column, dtype=float))
        for column in zip(*((one.answer_logp, one.correct, one.rationale_tokens) for one in samples), strict=True)
    )
    pairs = {"reward_and_correctness": right, "reward_and_length": lengths}
    values = {name: float(group_correlation(logps, other, task.test_samples)) for name, other in pairs.items()}
    return {name: None if np.isnan(value) else shortened(value) for name, value in values.items()}
