# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""Pushes to the Hub that can fail: refused before the training, said in the log during it, made up for after it."""

import logging
import shlex
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import create_repo
from huggingface_hub.errors import HTTPError
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)


def make_repository(training_args: TrainingArguments) -> None:
    """
    Make the repository that the run pushes to, or find it, as the trainer does, but before anything expensive.

    Raises:
        `ValueError`: the Hub refused it or was not reached.
    """
    name = training_args.hub_model_id or Path(str(training_args.output_dir)).absolute().name
    try:
        repository = create_repo(name, private=training_args.hub_private_repo, exist_ok=True)
    except (HTTPError, OSError) as error:
        raise ValueError(
            f"push_to_hub: the repository {name!r} could not be made or found: {_one_line(error)} Log in with "
            "`hf auth login` or set HF_TOKEN, with a token that may write; or train without push_to_hub and push later."
        ) from error
    training_args.hub_model_id = repository.repo_id


class SayFailedPushes(TrainerCallback):
    """
    Says in the log that a checkpoint could not be pushed. The trainer pushes checkpoints in the background and drops
    their errors.

    Args:
        trainer ([`~transformers.Trainer`]):
            Trainer with `push_to_hub`.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.watched: set[Future] = set()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero or self.trainer.push_in_progress is None:
            return
        for job in set(self.trainer.push_in_progress.jobs) - self.watched:
            self.watched.add(job)
            job.add_done_callback(self._say_if_failed)

    def _say_if_failed(self, job: Future) -> None:
        error = job.exception()
        if error is not None:
            logger.warning(
                "A checkpoint could not be pushed to %s: %s The run goes on, the checkpoints are in %s.",
                self.trainer.hub_model_id,
                _one_line(error),
                self.trainer.args.output_dir,
            )


def push_model(trainer: Trainer, **card: Any) -> None:
    """
    Push `output_dir` with a new model card. If that fails, the program ends with exit status 1 and says what failed and
    how to push again; what the run has saved stays where it is.

    Args:
        trainer ([`~transformers.Trainer`]):
            Trainer whose training is over.
        **card:
            Arguments of the model card.
    """
    try:
        trainer.push_to_hub(**card)
    except (HTTPError, OSError, ValueError) as error:
        args = trainer.args
        command = ["hf", "upload", trainer.hub_model_id, args.output_dir, ".", "--exclude", "_*"]
        command += ["--exclude", "checkpoint-*"]
        if args.hub_revision is not None:
            command += ["--revision", args.hub_revision]
        sys.exit(
            f"The training is done and saved in {args.output_dir}, but the push to {trainer.hub_model_id} failed: "
            f"{_one_line(error)} Push again with\n{shlex.join(command)}"
        )


def _one_line(error: BaseException) -> str:
    # Without the link to a general explanation of the HTTP status
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("For more information check")]
    text = " ".join(line for line in lines if line) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
