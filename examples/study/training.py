# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A model trained by one of the methods, from the base model of a task, with the same questions and budget."""

import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)
from trl import RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from baselines.baseline import answer_rows, gold_rows, rejection_rows
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.answer_template import AnswerTemplate
from trl_latro.collapse_monitor import CollapseMonitor
from trl_latro.evaluation import Evaluation, evaluate
from trl_latro.outside_rewards import AccuracyReward

from .methods import ALL_METHODS
from .settings import training_questions
from .task import StudyTask


ANSWER_TEMPLATE = AnswerTemplate("The answer is {answer}.")


class Trained(NamedTuple):
    """
    A model after training, how many tokens were sampled before it (rejection and prompt posterior sampling draw
    `task.samples` rationales of each question), and the step at which [`CollapseMonitor`] warned.
    """

    model: PreTrainedModel
    sampled_before: int = 0
    warned_at: int | None = None


def load_base(task: StudyTask, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    base = task.find_base()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(task.device).eval()
    return model, AutoTokenizer.from_pretrained(base)


def evaluate_model(
    task: StudyTask,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Dataset,
    num_samples: int,
    seed: int,
) -> Evaluation:
    if task.training["bf16"]:
        rounded, _ = load_base(task, torch.bfloat16)
        rounded.load_state_dict(model.state_dict())
        model = rounded
    return evaluate(
        model,
        tokenizer,
        questions,
        ANSWER_TEMPLATE.text,
        task.grader,
        num_samples=num_samples,
        max_completion_length=task.max_completion_length,
        batch_size=500,
        seed=seed,
        progress=False,
    )


def train(task: StudyTask, method: str, seed: int, steps: int, output_dir: Path, callback: TrainerCallback) -> Trained:
    """The model after `steps` optimizer steps of a method of `ALL_METHODS` other than "base"."""
    questions = training_questions(task, seed, steps)
    if ALL_METHODS[method].is_control:
        questions = permute_answers(questions, seed)
    objective = ALL_METHODS[method].objective
    if objective is not None:
        return train_latro(task, objective, seed, steps, output_dir, callback, questions=questions)
    model, tokenizer = load_base(task)
    settings = trainer_settings(task, seed, steps, output_dir)
    if method == "rloo":
        return Trained(run_trainer(make_rloo(task, model, tokenizer, questions, settings), callback))
    rows, tokens = sft_rows(task, method, seed, questions, model, tokenizer)
    # Each row equally often, in random order, and as many rows in every step
    rows = rows.select([position % len(rows) for position in range(steps * task.rows_per_step)])
    config = SFTConfig(max_length=None, **settings)
    trainer = SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer)
    return Trained(run_trainer(trainer, callback), tokens)


def trainer_settings(task: StudyTask, seed: int, steps: int, output_dir: Path) -> dict[str, Any]:
    return {
        "output_dir": str(output_dir),
        "max_steps": steps,
        "seed": seed,
        "use_cpu": task.device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        **task.training,
    }


def train_latro(
    task: StudyTask,
    objective: dict[str, Any],
    seed: int,
    steps: int,
    output_dir: Path,
    callback: TrainerCallback,
    trainer: type[LaTROTrainer] = LaTROTrainer,
    questions: Dataset | None = None,
) -> Trained:
    """
    The model after `steps` optimizer steps of LaTRO, on the task's training questions if no others are given. It samples
    `task.samples` rationales of each question once.
    """
    model, tokenizer = load_base(task)
    config = LaTROConfig(
        num_generations=task.samples,
        max_completion_length=task.max_completion_length,
        answer_template=ANSWER_TEMPLATE.text,
        **{"beta": task.beta} | objective,
        **trainer_settings(task, seed, steps, output_dir),
    )
    questions = training_questions(task, seed, steps) if questions is None else questions
    # Without a reward of its own it has that of a verifier (RLVR)
    reward_funcs = None if config.scores_answers else AccuracyReward(tokenizer, config, task.grader)
    data: dict[str, Any] = {"train_dataset": questions, "processing_class": tokenizer, "reward_funcs": reward_funcs}
    latro = trainer(model, config, **data)
    trained = run_trainer(latro, callback)
    monitors = [one for one in latro.callback_handler.callbacks if isinstance(one, CollapseMonitor)]
    return Trained(trained, warned_at=monitors[0].collapsed_at if monitors else None)  # RLVR has none


def make_rloo(
    task: StudyTask,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Dataset,
    settings: dict[str, Any],
) -> RLOOTrainer:
    """TRL's own trainer with the reward of RLVR. It does not stop at the answer, for which there is room."""
    answer_tokens = ANSWER_TEMPLATE.token_budget(tokenizer, questions["answer"])
    config = RLOOConfig(
        num_generations=task.samples,
        beta=task.beta,
        max_completion_length=task.max_completion_length + answer_tokens,
        **settings,
    )
    answers = LaTROConfig(answer_template=ANSWER_TEMPLATE.text, **settings)
    return RLOOTrainer(
        model, AccuracyReward(tokenizer, answers, task.grader), config, questions, processing_class=tokenizer
    )


def run_trainer(trainer: Trainer, callback: TrainerCallback) -> PreTrainedModel:
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    trainer.train()
    return trainer.model.eval()


def permute_answers(questions: Dataset, seed: int) -> Dataset:
    """Each question with the answer of another one: nothing can be learnt from them but how often an answer is right."""
    order = random.Random(seed).sample(range(len(questions)), len(questions))
    following = dict(zip(order, order[1:] + order[:1], strict=True))  # one circle: nobody keeps its own
    answers = [questions[following[row]]["answer"] for row in range(len(questions))]
    return questions.remove_columns("answer").add_column("answer", answers)


def sft_rows(
    task: StudyTask,
    method: str,
    seed: int,
    questions: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Dataset, int]:
    """Rows of a method of SFT, and how many tokens were sampled for them."""
    if method == "sft_answer":
        return answer_rows(questions, ANSWER_TEMPLATE), 0
    if method == "sft_gold":
        return gold_rows(questions, ANSWER_TEMPLATE), 0
    asked = questions if method == "rejection" else questions.map(tell_answer, load_from_cache_file=False)
    evaluation = evaluate_model(task, model, tokenizer, asked, num_samples=task.samples, seed=seed)
    # The model is trained to write them without being told
    generations = [one._replace(prompt=questions[one.question]["prompt"]) for one in evaluation.generations]
    tokens = sum(one.rationale_tokens for one in generations if one.kind == "sample")
    return rejection_rows(questions, generations, ANSWER_TEMPLATE), tokens


def tell_answer(row: dict[str, Any]) -> dict[str, Any]:
    """
    The question with its answer: prompt posterior sampling (https://huggingface.co/papers/2512.20169) draws rationales
    given both, and keeps those that lead there.
    """
    hint = f" (Hint: {ANSWER_TEMPLATE.fill(row['answer'])})"
    if isinstance(row["prompt"], str):
        return {"prompt": row["prompt"] + hint}
    *before, question = row["prompt"]
    return {"prompt": [*before, question | {"content": question["content"] + hint}]}
