# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""From the command line to a trained model: `trl-latro train` and the example scripts, whatever the task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from ..durability.checkpoints import say_failed_write
from ..durability.preemption import SaveOnSigterm
from ..latro_config import LaTROConfig
from ..latro_trainer import LaTROTrainer
from ..tasks.sources import HubSource
from .budget import budget
from .common import AnyMachine, TrainArguments, check_model, last_push, prepare


@dataclass
class ScriptConfig(AnyMachine, LaTROConfig):
    """[`LaTROConfig`] for scripts, see [`AnyMachine`]."""


def make_parser(**defaults: Any) -> TrlParser:
    """Parser of the command line and of `--config` files; `defaults` are those of the script's task."""
    parser = TrlParser([TrainArguments, ScriptConfig, ModelConfig])
    parser.set_defaults_with_config(**defaults)
    return parser


def check_arguments(task_args: TrainArguments, training_args: LaTROConfig, model_args: ModelConfig) -> None:
    """
    Check what can go wrong late, before anything expensive.

    Raises:
        `ValueError`: no model; low-precision weights without masters; evaluation that would split a prompt's samples.
    """
    check_model(training_args, model_args)
    num_generations = training_args.num_generations_eval or training_args.num_generations
    batch_size = training_args.per_device_eval_batch_size * training_args.world_size
    if task_args.validation_size > 0 and batch_size % num_generations != 0:
        raise ValueError(
            f"Evaluation takes {training_args.per_device_eval_batch_size} samples on each of "
            f"{training_args.world_size} processes, {batch_size} in all, which {num_generations} samples per prompt do "
            "not divide: change --per_device_eval_batch_size or --num_generations_eval."
        )


def train(task_args: TrainArguments, training_args: LaTROConfig, model_args: ModelConfig) -> None:
    """
    Train, save the model with its card, evaluate on the validation set and, if asked for, push to the Hub. On SIGTERM,
    save a checkpoint after the step under way and end.

    Args:
        task_args ([`TrainArguments`]):
            What to train on.
        training_args ([`LaTROConfig`]):
            Arguments of the trainer.
        model_args ([`~trl.ModelConfig`]):
            Model, precision, LoRA and quantization.
    """
    task = task_args.get_task()
    check_arguments(task_args, training_args, model_args)
    output_dir = str(training_args.output_dir)
    checkpoint, tokenizer = prepare(task_args, training_args, model_args)
    train_dataset = task_args.load("train", tokenizer)
    eval_dataset = task_args.load("validation", tokenizer) if task_args.validation_size > 0 else None
    preemption = SaveOnSigterm()
    trainer = LaTROTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        grader=task.grader,
        callbacks=[preemption],
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.accelerator.print(budget(training_args, len(train_dataset)))
    trainer.train(resume_from_checkpoint=checkpoint)
    if preemption.stopped:
        trainer.accelerator.print(
            f"Ended by SIGTERM after step {trainer.state.global_step}, with a checkpoint. Continue with "
            "--resume_from_checkpoint last."
        )
        trainer.accelerator.end_training()
        return

    from_hub = task_args.dataset_path is None
    dataset_name = task.source.name if from_hub and isinstance(task.source, HubSource) else None
    with say_failed_write(Path(output_dir)):
        trainer.save_model(output_dir, _internal_call=True)  # without a push: it comes last, with card and evaluation
        trainer.create_model_card(model_name=Path(output_dir).name, dataset_name=dataset_name)
    trainer.accelerator.print(f"Model saved to {output_dir}.")
    if eval_dataset is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    try:
        if training_args.push_to_hub:
            with last_push(trainer):
                trainer.push_to_hub(dataset_name=dataset_name)
    finally:
        trainer.accelerator.end_training()


def main(argv: list[str] | None = None, **defaults: Any) -> None:
    """
    Run a training: parse the command line and train.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.
        **defaults:
            Defaults of a script, which `--config` files and the command line override.
    """
    # The answer template is the task's unless the user names another one, so the task is looked at first
    parser = TrlParser([TrainArguments], add_help=False)
    parser.set_defaults_with_config(**defaults)
    task_args, *_ = parser.parse_args_and_config(argv, return_remaining_strings=True)
    if task_args.task is not None:
        defaults = {"answer_template": task_args.get_task().answer_template.text, **defaults}
    task_args, training_args, model_args = make_parser(**defaults).parse_args_and_config(argv)
    train(task_args, training_args, model_args)
