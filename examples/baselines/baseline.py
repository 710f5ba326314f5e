# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the baselines share: rows for TRL's `SFTTrainer` out of the rows that `LaTROTrainer` trains on, and the training.

The prompts are the same, text or messages, and every completion ends with the answer text that LaTRO scores.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import (
    ModelConfig,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_peft_config,
    get_quantization_config,
    is_conversational,
)

from trl_latro import LaTROConfig
from trl_latro.answer_template import AnswerTemplate, list_answers
from trl_latro.cli.common import AnyMachine, TrainArguments, check_model, last_push, prepare
from trl_latro.durability.checkpoints import say_failed_write
from trl_latro.durability.trainer import DurableTrainer
from trl_latro.evaluation.generation import Generation
from trl_latro.prompting import find_prompting


SEPARATOR = LaTROConfig.answer_separator  # between prompt, rationale and answer


def answer_rows(dataset: Dataset, answer_template: AnswerTemplate) -> Dataset:
    """Rows without rationale: the answer right behind the prompt."""
    return Dataset.from_list(
        [_row(row["prompt"], SEPARATOR + answer_template.fill(list_answers(row["answer"])[0])) for row in dataset]
    )


def gold_rows(dataset: Dataset, answer_template: AnswerTemplate) -> Dataset:
    """Rows with the rationale that comes with the data, and the answer behind it."""
    if "rationale" not in dataset.column_names:
        raise ValueError(
            f"The data have no gold rationales, only {dataset.column_names}. Take another task, name their column with "
            "--rationale_column, or run sft_answer.py or rejection_sampling.py, which need none."
        )
    rows = []
    for row in dataset:
        # Behind a text prompt on a line of its own, as in a prompt with solved questions, unless it says otherwise
        lead = "" if row["rationale"][0].isspace() else "\n"
        rows.append(
            _row(
                row["prompt"],
                lead + row["rationale"] + SEPARATOR + answer_template.fill(list_answers(row["answer"])[0]),
            )
        )
    return Dataset.from_list(rows)


def rejection_rows(dataset: Dataset, generations: list[Generation], answer_template: AnswerTemplate) -> Dataset:
    """
    Rows with the model's own rationales that led to the right answer. Each right sample is a row, so a rationale weighs as
    much as the model writes it: with each different one kept once, lucky guesses would weigh as much as the reasoning that
    a question's samples agree on.

    Raises:
        `ValueError`: the generations are those of other questions, or no sample is right.
    """
    for one in generations:
        if one.question >= len(dataset) or one.prompt != dataset[one.question]["prompt"]:
            raise ValueError(
                f"Question {one.question} of the generations, {one.prompt!r}, is not that of the training data. Make "
                "them with `trl-latro evaluate --split train` and the same task, validation_size and num_shots."
            )
    rows = []
    for one in generations:
        if one.kind == "sample" and one.correct:
            rationale = one.completion
            for stop in answer_template.stop_strings:
                rationale = rationale.partition(stop)[0]
            rows.append(
                _row(one.prompt, rationale + answer_template.fill(list_answers(dataset[one.question]["answer"])[0]))
            )
    if not rows:
        raise ValueError(
            f"None of the model's samples for {len(dataset)} questions is right: there is nothing to keep."
        )
    return Dataset.from_list(rows)


@dataclass
class BaselineConfig(AnyMachine, SFTConfig):
    """
    [`~trl.SFTConfig`] with as many steps and rows as LaTRO's runs have (117 of 384 on 8 GPUs), and without a length at
    which rows are truncated.
    """

    max_steps: int = field(default=117, metadata={"help": "Number of optimizer steps."})
    per_device_train_batch_size: int = field(default=4, metadata={"help": "Rows per device and forward."})
    gradient_accumulation_steps: int = field(
        default=12, metadata={"help": "Number of forwards and backwards whose gradients make one step."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Truncate longer rows. Not set: no row is truncated."}
    )


class BaselineTrainer(DurableTrainer, SFTTrainer):
    """TRL's [`~trl.SFTTrainer`], whose runs resume, push and log as those of `LaTROTrainer` do."""


def make_parser(*more: type) -> TrlParser:
    """Parser of the command line and of `--config` files; `more` are dataclasses of arguments of one baseline."""
    return TrlParser([TrainArguments, BaselineConfig, ModelConfig, *more])


def train(
    task_args: TrainArguments,
    training_args: BaselineConfig,
    model_args: ModelConfig,
    make_rows: Callable[[Dataset, AnswerTemplate], Dataset],
) -> None:
    """Train on the rows that `make_rows` makes of the training questions and the answer template, and save the model."""
    task = task_args.get_task()
    check_model(training_args, model_args)
    output_dir = str(training_args.output_dir)
    checkpoint, tokenizer = prepare(task_args, training_args, model_args)
    # Without the validation questions, as for LaTRO
    rows = make_rows(task_args.load("train", tokenizer), task.answer_template)
    trainer = BaselineTrainer(
        model_args.model_name_or_path,
        training_args,
        train_dataset=rows,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    answers = {"answer_template": task.answer_template.text, "answer_separator": SEPARATOR}
    trainer.prompting = find_prompting(answers) | task_args.prompting()
    trainer.train(resume_from_checkpoint=checkpoint)
    with say_failed_write(Path(output_dir)):
        trainer.save_model(output_dir, _internal_call=True)  # without a push: it comes last, with the card
        trainer.create_model_card(model_name=Path(output_dir).name)
    trainer.accelerator.print(f"Trained on {len(rows)} rows. Model saved to {output_dir}.")
    try:
        if training_args.push_to_hub:
            with last_push(trainer):
                trainer.push_to_hub()
    finally:
        trainer.accelerator.end_training()


def _row(prompt: Any, text: str) -> dict[str, Any]:
    if is_conversational({"prompt": prompt}):
        return {"prompt": prompt, "completion": [{"role": "assistant", "content": text.lstrip()}]}
    return {"prompt": prompt, "completion": text}
