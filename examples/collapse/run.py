# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One run of the study of collapse: train, evaluate on the way, and write one small file."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from study.run import Run, make_quiet, write_result
from study.settings import BETA, LEARNING_RATE, PROMPTS, SAMPLES, TASKS, held_out_questions
from study.training import evaluate_model, load_base, train_latro
from study.watch import logged, shortened
from trl_latro.evaluation.generation import Generation

from .settings import LOOKS, OBJECTIVES, TASK, TEST_SAMPLES


# What is kept of the log of each step
STEP_METRICS = (
    "loss",
    "grad_norm",
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "kl",
    "entropy",
    "completions/mean_length",  # with the tokens of "The answer is"
    "completions/clipped_ratio",
    "latro/answer_logp",
    "latro/answer_prob",
    "latro/length_reward_corr",  # missing where no prompt has rationales of different length and reward
    "latro/policy_loss",
    "latro/answer_loss",
)
LOOK_METRICS = (
    "greedy_accuracy",
    "sample_accuracy",
    "greedy_rationale_tokens",
    "sample_rationale_tokens",
    "answer_logp_sample_rationale",
    "answer_logp_gold_rationale",
    "answer_logp_no_rationale",
)


def kind_of(completion: str, gold_rationale: str) -> str:
    """Whether a completion names rooms on the way, and the right ones."""
    if "from the" not in completion:
        return "guess"
    walk = completion.strip().partition(" The answer is")[0]
    return "right" if walk == gold_rationale.strip() else "wrong"


def by_kind(samples: list[Generation], rationales: list[str]) -> dict[str, dict[str, float]]:
    """For each kind of rationale its share, and the answer's mean log-prob and probability after it."""
    kinds = np.array([kind_of(one.completion, rationales[one.question]) for one in samples])
    logps = np.array([one.answer_logp for one in samples])
    return {
        kind: {
            "share": shortened((kinds == kind).mean()),
            "answer_logp": shortened(logps[kinds == kind].mean()),
            "answer_prob": shortened(np.exp(logps[kinds == kind]).mean()),
        }
        for kind in ("guess", "right", "wrong")
        if (kinds == kind).any()
    }


class Record(TrainerCallback):
    """The trainer's log of every step, and what the model does on the test puzzles before and after some of them."""

    def __init__(self, run: Run, tokenizer: PreTrainedTokenizerBase, questions: Dataset) -> None:
        self.run, self.tokenizer, self.questions = run, tokenizer, questions
        self.updates: dict[str, list[float | None]] = {name: [] for name in STEP_METRICS}
        self.looks: list[dict[str, Any]] = []

    def look(self, step: int, model: PreTrainedModel) -> None:
        evaluation = evaluate_model(
            TASKS[TASK], model, self.tokenizer, self.questions, TEST_SAMPLES, seed=self.run.seed
        )
        samples = [one for one in evaluation.generations if one.kind == "sample"]
        greedy = [one for one in evaluation.generations if one.kind == "greedy"]
        right = np.array([one.correct for one in samples]).reshape(-1, TEST_SAMPLES).sum(1)  # (Q,)
        self.looks.append(
            {
                "step": step,
                **{name: shortened(evaluation.metrics[name].value) for name in LOOK_METRICS},
                "right_samples": "".join(map(str, right)),  # of each test puzzle
                "right_greedy": "".join(str(int(one.correct)) for one in greedy),
                "rationales": by_kind(samples, self.questions["rationale"]),
            }
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(0, kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:  # the last log is the training's summary
            for name, values in self.updates.items():
                values.append(logged(logs, name))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in LOOKS or state.global_step == state.max_steps:
            self.look(state.global_step, kwargs["model"])


def do_run(run: Run, output_dir: Path) -> dict[str, Any]:
    """Train and evaluate, and write the file at the very end: a stopped run leaves none."""
    make_quiet()
    task = TASKS[TASK]
    questions, _ = held_out_questions(task, run.test_puzzles)
    transformers.set_seed(run.seed)
    record = Record(run, load_base(task)[1], questions)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        objective = OBJECTIVES[run.method]
        train_latro(task, objective.settings, run.seed, run.steps, Path(folder), record, objective.trainer)
    result = {
        **run._asdict(),
        "looks": record.looks,
        "updates": record.updates,
        "seconds": round(time.perf_counter() - start, 1),
        "settings": {
            "learning_rate": LEARNING_RATE,
            "prompts": PROMPTS,
            "num_generations": SAMPLES,
            "beta": BETA,
            "max_completion_length": task.max_completion_length,
            "samples_per_test_question": TEST_SAMPLES,
        },
    }
    write_result(result, run.path(output_dir))
    return result
