# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""From the command line to a trained model: `trl-latro train` and the example scripts, whatever the task."""

import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from ..latro_config import LaTROConfig
from ..latro_trainer import LaTROTrainer
from ..tasks.sources import HubSource
from .task_arguments import TaskArguments


logger = logging.getLogger(__name__)

HAS_GPU = torch.accelerator.is_available()


@dataclass
class TrainArguments(TaskArguments):
    """
    Arguments of the training scripts, beside those of [`LaTROConfig`] and [`~trl.ModelConfig`]: those of
    [`TaskArguments`] and

    Args:
        overwrite_output_dir (`bool`, *optional*, defaults to `False`):
            Whether to delete the checkpoints that `output_dir` already holds and to start anew.
    """

    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Whether to delete the checkpoints that `output_dir` already holds and to start anew."},
    )


@dataclass
class ScriptConfig(LaTROConfig):
    """
    [`LaTROConfig`] for scripts: the same command runs on a machine without GPU, where `use_cpu` is `True` and `bf16` is
    `False` unless set, and the processes that a launcher started talk through gloo.
    """

    use_cpu: bool = field(
        default=not HAS_GPU, metadata={"help": "Whether to run on CPU. Defaults to `True` without a GPU."}
    )
    bf16: bool | None = field(
        default=None if HAS_GPU else False,
        metadata={
            "help": "Whether to use bf16 mixed precision. If not set, `True` unless `fp16` is; `False` without a GPU."
        },
    )

    def __post_init__(self) -> None:
        if self.deepspeed and "LOCAL_RANK" not in os.environ:
            raise ValueError(
                f"`deepspeed` is {str(self.deepspeed)!r}, but no launcher started this script, so DeepSpeed has no "
                "processes to talk to. Start it with `deepspeed script.py ...` or `accelerate launch script.py ...`."
            )
        if not HAS_GPU and os.environ.get("RANK", "0") == "0":
            logger.warning("No GPU found: running with use_cpu=%s and bf16=%s.", self.use_cpu, self.bf16)
        if self.use_cpu and self.deepspeed:
            import deepspeed

            # DeepSpeed takes the world size from its own process group, not from the one that accelerate makes: without
            # this it would count one process.
            deepspeed.init_distributed("gloo")
        super().__post_init__()


def make_parser(**defaults: Any) -> TrlParser:
    """Parser of the command line and of `--config` files; `defaults` are those of the script's task."""
    parser = TrlParser([TrainArguments, ScriptConfig, ModelConfig])
    parser.set_defaults_with_config(**defaults)
    return parser


def find_checkpoint(output_dir: str, resume_from_checkpoint: str | bool | None, overwrite: bool) -> str | None:
    """
    Decide where training starts, before anything expensive.

    Args:
        output_dir (`str`):
            Folder that the run writes to.
        resume_from_checkpoint (`str` or `bool`, *optional*):
            `"true"` or `"last"` for the last whole checkpoint in `output_dir`, or the path of a checkpoint.
        overwrite (`bool`):
            Whether checkpoints in `output_dir` may be deleted.

    Returns:
        `str | None`: the checkpoint to resume from, or `None` to start anew.

    Raises:
        `ValueError`: `output_dir` holds checkpoints and the user said neither what to do with them; or there is no
        checkpoint to resume from.
    """
    checkpoints = sorted(Path(output_dir).glob("checkpoint-*"), key=_step_of, reverse=True)
    if not resume_from_checkpoint:
        if checkpoints and not overwrite:
            raise ValueError(
                f"output_dir {output_dir!r} already holds checkpoints (the last is {checkpoints[0].name}). Continue with "
                "--resume_from_checkpoint last, delete them with --overwrite_output_dir, or choose another --output_dir."
            )
        return None
    if overwrite:
        raise ValueError("--resume_from_checkpoint and --overwrite_output_dir exclude each other: choose one.")
    if str(resume_from_checkpoint).lower() not in ("true", "last"):
        if not is_whole(Path(str(resume_from_checkpoint))):
            raise ValueError(
                f"--resume_from_checkpoint: {str(resume_from_checkpoint)!r} is not a complete checkpoint, it has no "
                "whole trainer_state.json."
            )
        return str(resume_from_checkpoint)
    for checkpoint in checkpoints:
        if is_whole(checkpoint):
            return str(checkpoint)
        logger.warning("%s was cut short while it was written, it is passed over.", checkpoint)
    raise ValueError(f"--resume_from_checkpoint {resume_from_checkpoint}: {output_dir!r} holds no checkpoint.")


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: `trainer_state.json` is what is written last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def check_arguments(task_args: TrainArguments, training_args: LaTROConfig, model_args: ModelConfig) -> None:
    """
    Check what can go wrong late, before anything expensive.

    Raises:
        `ValueError`: no model; low-precision weights without masters; evaluation that would split a prompt's samples.
    """
    if model_args.model_name_or_path is None:
        raise ValueError("--model_name_or_path is missing: the name or path of the model to train.")
    if model_args.dtype != "float32" and not model_args.use_peft and training_args.deepspeed_plugin is None:
        raise ValueError(
            f"--dtype {model_args.dtype} for full fine-tuning: weights without float32 masters do not move at a "
            f"learning rate of {training_args.learning_rate}. Use --dtype float32, --use_peft, or DeepSpeed, which keeps "
            "masters."
        )
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
    Train, save the model with its card, evaluate on the validation set and, if asked for, push to the Hub.

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
    checkpoint = find_checkpoint(
        output_dir, training_args.resume_from_checkpoint, overwrite=task_args.overwrite_output_dir
    )
    if task_args.overwrite_output_dir:
        with training_args.main_process_first(local=False):
            if training_args.process_index == 0:
                for old in Path(output_dir).glob("checkpoint-*"):
                    shutil.rmtree(old)

    tokenizer = AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        trust_remote_code=training_args.trust_remote_code,
        truncation_side="left",
        padding_side="left",
    )
    train_dataset = task_args.load("train", tokenizer)
    eval_dataset = task_args.load("validation", tokenizer) if task_args.validation_size > 0 else None
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }
    trainer = LaTROTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        grader=task.grader,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.train(resume_from_checkpoint=checkpoint)

    from_hub = task_args.dataset_path is None
    dataset_name = task.source.name if from_hub and isinstance(task.source, HubSource) else None
    trainer.save_model(output_dir)
    trainer.create_model_card(model_name=Path(output_dir).name, dataset_name=dataset_name)
    trainer.accelerator.print(f"Model saved to {output_dir}.")
    if eval_dataset is not None:
        trainer.save_metrics("eval", trainer.evaluate())
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
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
        defaults = {"answer_template": task_args.get_task().answer_template, **defaults}
    task_args, training_args, model_args = make_parser(**defaults).parse_args_and_config(argv)
    train(task_args, training_args, model_args)
