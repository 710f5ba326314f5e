# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""From the command line to a trained model: `trl-latro train` and the example scripts, whatever the task."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import ModelConfig, get_peft_config, get_quantization_config

from ..checks import check_evaluation
from ..collapse_monitor import CollapseMonitor, find_last_checkpoint, say_last_checkpoint
from ..durability.checkpoints import guess_checkpoint, say_failed_write
from ..durability.lock import locked
from ..durability.metrics_file import METRICS_FILE, MetricsFile
from ..durability.preemption import SaveOnSigterm
from ..latro_config import LaTROConfig
from ..latro_trainer import LaTROTrainer
from ..outside_rewards import function_name
from ..prompting import read_prompting
from ..tasks.sources import HubSource
from ..tasks.task import Task
from .budget import budget
from .common import (
    AnyMachine,
    check_model,
    check_model_loads,
    clear_output_dir,
    find_start,
    last_push,
    load_training_tokenizer,
)
from .console import Bars, Console
from .noise import is_watched, reduce_noise
from .parser import CommandParser
from .reward_arguments import RewardArguments
from .summary import evaluation_command, first_and_last, save_curves
from .task_arguments import try_grader


@dataclass
class ScriptConfig(AnyMachine, LaTROConfig):
    """[`LaTROConfig`] for scripts, see [`AnyMachine`], which log each step: it takes seconds to minutes."""

    logging_steps: float = field(
        default=1,
        metadata={
            "help": "Log after so many steps, or, below 1, after this share of all steps. Defaults to every step."
        },
    )


@dataclass
class ResumeArguments:
    """Those of [`LaTROConfig`] that say where a training starts."""

    output_dir: str = "trainer_output"
    resume_from_checkpoint: str | None = None

    def read_prompting(self) -> dict[str, Any] | None:
        """How the checkpoint's model was prompted, `None` without a checkpoint and where it does not say."""
        checkpoint = guess_checkpoint(os.path.expanduser(self.output_dir), self.resume_from_checkpoint)
        return None if checkpoint is None else read_prompting(checkpoint)


def make_parser(prog: str | None = None, **defaults: Any) -> CommandParser:
    """Parser of the command line and of `--config` files; `defaults` are those of the script's task."""
    parser = CommandParser([RewardArguments, ScriptConfig, ModelConfig], prog=prog)
    parser.set_defaults_with_config(**defaults)
    return parser


def check_arguments(task_args: RewardArguments, training_args: LaTROConfig, model_args: ModelConfig) -> None:
    """
    Check what can go wrong late, before anything expensive: what only the evaluation reads is read after the training.

    Raises:
        `ValueError`: a reward function that cannot be found; no model; low-precision weights without masters; an evaluation
        without questions, or that would split a prompt's samples; a metric that no evaluation has.
    """
    names = [
        "accuracy" if function is None else function_name(function) for function in task_args.find_reward_functions()
    ]
    check_model(training_args, model_args)
    if task_args.validation_size != 0:
        check_evaluation(training_args, [""], names)
        return
    for name in ("eval_on_start", "load_best_model_at_end", "eval_strategy"):
        value = getattr(training_args, name)
        if value not in (False, "no"):
            raise ValueError(
                f"--{name} is {getattr(value, 'value', value)}, but --validation_size 0 leaves no questions to evaluate on: "
                "change one of them."
            )


def train(
    task_args: RewardArguments,
    training_args: LaTROConfig,
    model_args: ModelConfig,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """
    Train, save the model with its card, evaluate on the validation set and, if asked for, push to the Hub. On SIGTERM,
    save a checkpoint after the step under way and end. A model that collapsed (`stop_on_collapse`) is neither saved nor
    pushed: the last checkpoint before it is what the user finds.

    Args:
        task_args ([`RewardArguments`]):
            What to train on.
        training_args ([`LaTROConfig`]):
            Arguments of the trainer.
        model_args ([`~trl.ModelConfig`]):
            Model, precision, LoRA and quantization.
        callbacks (`Sequence[TrainerCallback]`, *optional*):
            What a script adds to the trainer's callbacks.
    """
    task = task_args.get_task()
    check_arguments(task_args, training_args, model_args)
    # From the first look at the folder on: another training's checkpoints are not cleared away under its feet
    with locked(str(training_args.output_dir), training_args.save_on_each_node):
        _train(task, task_args, training_args, model_args, callbacks)


def _train(
    task: Task,
    task_args: RewardArguments,
    training_args: LaTROConfig,
    model_args: ModelConfig,
    callbacks: Sequence[TrainerCallback],
) -> None:
    output_dir = str(training_args.output_dir)
    checkpoint = find_start(task_args, training_args)
    tokenizer = load_training_tokenizer(training_args, model_args)
    reading = (tokenizer, training_args.answer_template)
    train_dataset = task_args.load("train", *reading)
    eval_dataset = task_args.load("validation", *reading) if task_args.validation_size > 0 else None
    if eval_dataset is not None:
        try_grader(task.grader, eval_dataset[0])
    check_model_loads(training_args, model_args)
    command = evaluation_command(task_args, training_args, output_dir)
    training_args.disable_tqdm = training_args.disable_tqdm or not is_watched()
    preemption = SaveOnSigterm()
    trainer = LaTROTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        grader=task.grader,
        reward_funcs=task_args.make_reward_functions(tokenizer, training_args),
        callbacks=[preemption, MetricsFile(), *callbacks],
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.prompting |= task_args.prompting()
    if not task_args.verbose:
        show_lines(trainer)
    trainer.accelerator.print(budget(training_args, len(train_dataset)))
    trainer.accelerator.print("`trl-latro probe` tells beforehand whether the reward suits the model.")
    clear_output_dir(task_args, training_args)
    trainer.train(resume_from_checkpoint=checkpoint)
    if preemption.stopped:
        trainer.accelerator.print(
            f"Ended by SIGTERM after step {trainer.state.global_step}, with a checkpoint. Continue with "
            "--resume_from_checkpoint last."
        )
        trainer.accelerator.end_training()
        return
    if has_collapsed(trainer):
        # What is left, here and on the Hub, is the last checkpoint before it
        last = find_last_checkpoint(training_args, trainer.state.global_step)
        trainer.accelerator.print(
            f"Ended by --stop_on_collapse after step {trainer.state.global_step}, whose model is neither saved nor pushed. "
            f"{say_last_checkpoint(last)}"
        )
        if last is not None:
            trainer.accelerator.print(f"To evaluate it:\n\n{evaluation_command(task_args, training_args, last)}\n")
        trainer.accelerator.end_training()
        return

    from_hub = task_args.dataset_path is None
    dataset_name = task.source.name if from_hub and isinstance(task.source, HubSource) else None
    with say_failed_write(Path(output_dir)):
        trainer.save_model(output_dir, _internal_call=True)  # without a push: it comes last, with card and evaluation
        trainer.create_model_card(model_name=Path(output_dir).name, dataset_name=dataset_name)
    if eval_dataset is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    summarize(trainer, command)
    try:
        if training_args.push_to_hub:
            with last_push(trainer):
                trainer.push_to_hub(dataset_name=dataset_name)
    finally:
        trainer.accelerator.end_training()


def has_collapsed(trainer: LaTROTrainer) -> bool:
    """Whether the trainer is left with the model that `CollapseMonitor` ended the training for, and not with a better one."""
    monitors = [one for one in trainer.callback_handler.callbacks if isinstance(one, CollapseMonitor)]
    loaded_best = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None
    return any(monitor.stopped for monitor in monitors) and not loaded_best


def show_lines(trainer: LaTROTrainer) -> None:
    """A line for each log in place of all its metrics."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Console())
    # TRL's table of completions would begin in the middle of a bar
    if not trainer.args.disable_tqdm and not trainer.args.log_completions:
        trainer.add_callback(Bars())


def summarize(trainer: LaTROTrainer, command: str) -> None:
    """Say how the training went, where the model is, and the `command` that evaluates it."""
    if not trainer.is_world_process_zero():
        return
    output_dir = Path(str(trainer.args.output_dir))
    with say_failed_write(output_dir):
        curves = save_curves(trainer.state.log_history, output_dir)
    print(f"\n{first_and_last(trainer.state.log_history)}\n")
    print(f"Model saved to {output_dir}.")
    print(f"Metrics: {output_dir / METRICS_FILE}." + ("" if curves is None else f" Curves: {curves}."))
    print(f"To evaluate it:\n\n{command}\n", flush=True)


def main(argv: list[str] | None = None, **defaults: Any) -> None:
    """
    Run a training: parse the command line and train.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.
        **defaults:
            Defaults of a script, which `--config` files and the command line override.
    """
    reduce_noise()
    # The answer template is the task's unless the user names another one, and a resumed training's that of its checkpoint, as
    # are the prompts: so both are looked at first
    prog = None if argv is None else "trl-latro train"  # a script has its own name
    parser = CommandParser([RewardArguments, ResumeArguments], prog=prog, add_help=False)
    parser.set_defaults_with_config(**defaults)
    task_args, resume_args, *_ = parser.parse_args_and_config(argv, return_remaining_strings=True)
    if task_args.task is not None:
        defaults = {"answer_template": task_args.get_task().answer_template.text, **defaults}
    defaults |= task_args.defaults_of(resume_args.read_prompting())
    parser = make_parser(prog, **defaults)
    task_args, training_args, model_args = parser.parse_args_and_config(argv)
    train(task_args, training_args, model_args)
