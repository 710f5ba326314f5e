# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""What every training script does, whatever it trains with: where it starts, what it refuses, on which machine."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig
from trl.import_utils import is_vllm_available

from ..durability.checkpoints import (
    OutputDirError,
    check_writable,
    list_checkpoints,
    remove_checkpoint,
    resolve_checkpoint,
)
from ..durability.hub import PushError, make_repository, saying_how_to_push_again
from ..loading import ADAPTER_CONFIG, check_weights, load_config, load_tokenizer, read_json_object
from .task_arguments import TaskArguments


logger = logging.getLogger(__name__)

HAS_GPU = torch.accelerator.is_available()

BITSANDBYTES_OPTIMIZERS = ("8bit", "paged_", "_bnb", "ademamix")  # parts of their names


@contextmanager
def saying_what_is_wrong(program: str) -> Iterator[None]:
    """Where the input is bad, the program ends with its name, one sentence and exit status 1, without a traceback."""
    try:
        yield
    except (FileNotFoundError, FloatingPointError, OutputDirError, ValueError) as error:
        sys.exit(f"{program}: {error}")


@dataclass
class TrainArguments(TaskArguments):
    """
    Arguments of every training script, beside the trainer's and [`~trl.ModelConfig`]: those of [`TaskArguments`] and

    Args:
        overwrite_output_dir (`bool`, *optional*, defaults to `False`):
            Whether to delete the checkpoints that `output_dir` already holds and to start anew.
    """

    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Whether to delete the checkpoints that `output_dir` already holds and to start anew."},
    )


@dataclass
class AnyMachine:
    """
    What a trainer's config gets for scripts: the same command runs on a machine without GPU, where `use_cpu` is
    `True` and `bf16` is `False` unless set, and the processes that a launcher started talk through gloo. It stands
    in front of the config among a dataclass's bases.
    """

    if TYPE_CHECKING:
        deepspeed: dict | str | None = None  # the config's own fields
        hub_token: str | None = None

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
        if self.hub_token is not None:
            raise ValueError(
                "hub_token would be written to training_args.bin, which is pushed with the model, and into the command "
                "that trackers record. Leave it out and log in with `hf auth login` or set HF_TOKEN."
            )
        if self.deepspeed and "LOCAL_RANK" not in os.environ:
            raise ValueError(
                f"`deepspeed` is {str(self.deepspeed)!r}, but no launcher started this script, so DeepSpeed has no "
                "processes to talk to. Start it with `deepspeed script.py ...` or `accelerate launch script.py ...`, the command "
                "`trl-latro train` with `deepspeed --module trl_latro train ...`."
            )
        if isinstance(self.deepspeed, str):
            check_deepspeed_file(self.deepspeed)
        if not HAS_GPU and os.environ.get("RANK", "0") == "0":
            logger.warning("No GPU found: running with use_cpu=%s and bf16=%s.", self.use_cpu, self.bf16)
        if self.use_cpu and self.deepspeed:
            import deepspeed

            # DeepSpeed takes the world size from its own process group, not from the one that accelerate makes: without
            # this it would count one process.
            deepspeed.init_distributed("gloo")
        super().__post_init__()  # type: ignore[misc]


def check_deepspeed_file(deepspeed: str) -> None:
    """Raises `ValueError` where DeepSpeed's settings are not a JSON file with one object; they may be text themselves."""
    if os.path.exists(deepspeed):
        read_json_object(Path(deepspeed), f"--deepspeed {deepspeed}")
    elif deepspeed.endswith(".json"):
        raise ValueError(f"--deepspeed {deepspeed}: there is no such file (seen from {Path.cwd()}).")


def find_checkpoint(
    output_dir: str, resume_from_checkpoint: str | bool | None, overwrite: bool, on_each_node: bool = False
) -> str | None:
    """
    Decide where training starts, before anything expensive.

    Args:
        output_dir (`str`):
            Folder that the run writes to.
        resume_from_checkpoint (`str` or `bool`, *optional*):
            `"true"` or `"last"` for the last whole checkpoint in `output_dir`, or the path of a checkpoint.
        overwrite (`bool`):
            Whether checkpoints in `output_dir` may be deleted.
        on_each_node (`bool`, *optional*, defaults to `False`):
            Whether each node has a folder of its own (`save_on_each_node`).

    Returns:
        `str | None`: the checkpoint to resume from, or `None` to start anew.

    Raises:
        `ValueError`: `output_dir` holds checkpoints and the user said neither what to do with them; or there is no
        checkpoint to resume from, see [`resolve_checkpoint`].
    """
    if not resume_from_checkpoint:
        checkpoints = list_checkpoints(output_dir)
        if checkpoints and not overwrite:
            raise ValueError(
                f"output_dir {output_dir!r} already holds checkpoints (the last is {checkpoints[0].name}). Continue with "
                "--resume_from_checkpoint last, delete them with --overwrite_output_dir, or choose another --output_dir."
            )
    elif overwrite:
        raise ValueError("--resume_from_checkpoint and --overwrite_output_dir exclude each other: choose one.")
    return resolve_checkpoint(output_dir, resume_from_checkpoint, on_each_node)


def check_model(training_args: TrainingArguments, model_args: ModelConfig) -> None:
    """
    Raises:
        `ValueError`: no model; low-precision weights without masters.
    """
    if model_args.model_name_or_path is None:
        raise ValueError("--model_name_or_path is missing: the name or path of the model to train.")
    if model_args.dtype != "float32" and not model_args.use_peft and training_args.deepspeed_plugin is None:
        raise ValueError(
            f"--dtype {model_args.dtype} for full fine-tuning: weights without float32 masters do not move at a "
            f"learning rate of {training_args.learning_rate}. Use --dtype float32, --use_peft, or DeepSpeed, which keeps "
            "masters."
        )


def check_packages(training_args: TrainingArguments, model_args: ModelConfig) -> None:
    """
    Raises:
        `ValueError`: a package is not installed that only the model's loading or the first step would ask for.
    """
    needing = [f"--{name}" for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)]
    optim = str(getattr(training_args.optim, "value", training_args.optim))
    if any(part in optim for part in BITSANDBYTES_OPTIMIZERS):
        needing.append(f"--optim {optim}")
    if needing and not is_bitsandbytes_available():
        raise ValueError(
            f"{needing[0]} needs bitsandbytes, which is not installed: `pip install bitsandbytes`, or leave {needing[0]} "
            "out."
        )
    if getattr(training_args, "use_vllm", False):
        check_vllm()


def check_vllm() -> None:
    """Raises `ValueError` where vLLM is not installed."""
    if not is_vllm_available():
        raise ValueError(
            "--use_vllm: vLLM is not installed. Install it with `pip install '.[vllm]'` in a clone, or leave --use_vllm out."
        )


def prepare(
    task_args: TrainArguments, training_args: TrainingArguments, model_args: ModelConfig
) -> tuple[str | None, PreTrainedTokenizerBase]:
    """
    Find out where training starts, make the Hub's repository, load the tokenizer, see that the model can be loaded, hand
    its settings on to the trainer, and clear the output folder if asked to.

    Returns:
        `tuple[str | None, PreTrainedTokenizerBase]`: the checkpoint to resume from, and the tokenizer.

    Raises:
        `ValueError`: see [`find_start`], [`load_training_tokenizer`] and [`check_model_loads`].
        `OutputDirError`: the output folder cannot be written to.
    """
    checkpoint = find_start(task_args, training_args)
    tokenizer = load_training_tokenizer(training_args, model_args)
    check_model_loads(training_args, model_args)
    clear_output_dir(task_args, training_args)
    return checkpoint, tokenizer


def find_start(task_args: TrainArguments, training_args: TrainingArguments) -> str | None:
    """
    The checkpoint to resume from, once the output folder is seen to be writable; and the Hub's repository is made.

    Raises:
        `ValueError`: see [`find_checkpoint`] and [`make_repository`].
        `OutputDirError`: the output folder cannot be written to.
    """
    output_dir = str(training_args.output_dir)
    check_writable(output_dir)
    checkpoint = find_checkpoint(
        output_dir,
        training_args.resume_from_checkpoint,
        task_args.overwrite_output_dir,
        training_args.save_on_each_node,
    )
    if training_args.push_to_hub and training_args.process_index == 0:
        make_repository(training_args)
    return checkpoint


def load_training_tokenizer(training_args: TrainingArguments, model_args: ModelConfig) -> PreTrainedTokenizerBase:
    """
    The model's tokenizer; the model's settings are handed on to the trainer.

    Raises:
        `ValueError`: see [`check_packages`] and [`load_tokenizer`]; an adapter, which is no whole model.
    """
    check_packages(training_args, model_args)
    name, revision = str(model_args.model_name_or_path), model_args.model_revision
    if (Path(name) / ADAPTER_CONFIG).is_file() and not (Path(name) / "config.json").is_file():
        raise ValueError(
            f"--model_name_or_path {name!r} is an adapter, but training starts from a whole model: name its base model, or "
            "merge the two (`merge_and_unload` of PEFT) and save the result."
        )
    training_args.model_init_kwargs = {
        "revision": revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }
    with training_args.main_process_first(local=True):  # the others find the Hub's files in the cache
        return load_tokenizer(
            name, revision, training_args.trust_remote_code, truncation_side="left", padding_side="left"
        )


def check_model_loads(training_args: TrainingArguments, model_args: ModelConfig) -> None:
    """Raises `ValueError` where the model cannot be loaded, see [`check_weights`]; of one on the Hub it is fetched."""
    name, revision = str(model_args.model_name_or_path), model_args.model_revision
    with training_args.main_process_first(local=True):
        load_config(name, revision, training_args.trust_remote_code)
        check_weights(
            name, revision, training_args.trust_remote_code, model_args.attn_implementation, model_args.dtype
        )


def clear_output_dir(task_args: TrainArguments, training_args: TrainingArguments) -> None:
    """Delete the checkpoints of the output folder if asked to, as the last thing before training."""
    if task_args.overwrite_output_dir:
        with training_args.main_process_first(local=False):
            if training_args.process_index == 0:
                for old in list_checkpoints(str(training_args.output_dir)):
                    remove_checkpoint(old)


@contextmanager
def last_push(trainer: Trainer) -> Iterator[None]:
    """
    For the push of a training that is done and saved. If it fails, the program ends with exit status 1 and says what
    failed and how to push again.
    """
    try:
        with saying_how_to_push_again(trainer):
            yield
    except PushError as error:
        sys.exit(f"The training is done and saved in {trainer.args.output_dir}, but {error.failure}")
