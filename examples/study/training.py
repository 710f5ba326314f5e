# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A model trained by one of the methods, from the base model of a task, with the same questions and budget."""

from pathlib import Path
from typing import Any

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
from trl import SFTConfig, SFTTrainer

from baselines.baseline import answer_rows, gold_rows, rejection_rows
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation import Evaluation, evaluate

from .settings import BETA, LEARNING_RATE, PROMPTS, REWARDS, SAMPLES, StudyTask, training_questions


ANSWER_TEMPLATE = AnswerTemplate("The answer is {answer}.")

COMMON: dict[str, Any] = {
    "per_device_train_batch_size": PROMPTS * SAMPLES,
    "gradient_accumulation_steps": 1,
    "learning_rate": LEARNING_RATE,
    "lr_scheduler_type": "constant",
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "gradient_checkpointing": False,  # memory is not short here
}


def load_base(task: StudyTask) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model = AutoModelForCausalLM.from_pretrained(task.base_model).eval()
    return model, AutoTokenizer.from_pretrained(task.base_model)


def evaluate_model(
    task: StudyTask,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Dataset,
    num_samples: int,
    seed: int,
) -> Evaluation:
    return evaluate(
        model,
        tokenizer,
        questions,
        ANSWER_TEMPLATE.text,
        num_samples=num_samples,
        max_completion_length=task.max_completion_length,
        batch_size=500,
        seed=seed,
        progress=False,
    )


def train(
    task: StudyTask, method: str, seed: int, steps: int, output_dir: Path, callback: TrainerCallback
) -> PreTrainedModel:
    """
    The model after `steps` optimizer steps of a method of `METHODS` other than "base".

    Rejection sampling samples `SAMPLES` rationales of each question, before it trains.
    """
    if method in REWARDS:
        # The base models know the template
        objective = {"reward_type": method, "reward_tokens": "template_and_answer"}
        return train_latro(task, objective, seed, steps, output_dir, callback)
    model, tokenizer = load_base(task)
    config = SFTConfig(
        output_dir=str(output_dir),
        max_steps=steps,
        max_length=None,
        seed=seed,
        **COMMON,
    )
    rows = sft_rows(task, method, seed, training_questions(task, seed, steps), model, tokenizer)
    # Each row equally often, in random order, and as many rows in every step
    rows = rows.select([position % len(rows) for position in range(steps * PROMPTS * SAMPLES)])
    return run_trainer(SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer), callback)


def train_latro(
    task: StudyTask,
    objective: dict[str, Any],
    seed: int,
    steps: int,
    output_dir: Path,
    callback: TrainerCallback,
    trainer: type[LaTROTrainer] = LaTROTrainer,
) -> PreTrainedModel:
    """The model after `steps` optimizer steps of LaTRO. It samples `SAMPLES` rationales of each question once."""
    model, tokenizer = load_base(task)
    config = LaTROConfig(
        output_dir=str(output_dir),
        num_generations=SAMPLES,
        max_steps=steps,
        beta=BETA,
        max_completion_length=task.max_completion_length,
        answer_template=ANSWER_TEMPLATE.text,
        seed=seed,
        **objective,
        **COMMON,
    )
    questions = training_questions(task, seed, steps)
    return run_trainer(trainer(model, config, train_dataset=questions, processing_class=tokenizer), callback)


def run_trainer(trainer: Trainer, callback: TrainerCallback) -> PreTrainedModel:
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    trainer.train()
    return trainer.model.eval()


def sft_rows(
    task: StudyTask,
    method: str,
    seed: int,
    questions: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> Dataset:
    if method == "sft_answer":
        return answer_rows(questions, ANSWER_TEMPLATE)
    if method == "sft_gold":
        return gold_rows(questions, ANSWER_TEMPLATE)
    evaluation = evaluate_model(task, model, tokenizer, questions, num_samples=SAMPLES, seed=seed)
    return rejection_rows(questions, evaluation.generations, ANSWER_TEMPLATE)
