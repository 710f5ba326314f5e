# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""Pushes to the Hub that can fail: refused before the training, said in the log during it, made up for after it."""

import logging
import shlex
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
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
    name = _repository_name(training_args)
    try:
        repository = create_repo(
            name, token=training_args.hub_token, private=training_args.hub_private_repo, exist_ok=True
        )
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


class PushError(Exception):
    """
    A push to the Hub failed. Nothing that was saved is lost, and the message says how to push again.

    Attributes:
        failure (`str`): What failed and the command that pushes again, as the end of a sentence.
    """

    def __init__(self, output_dir: str, repository: str, error: Exception, options: list[str]):
        command = [
            "hf",
            "upload",
            repository,
            output_dir,
            ".",
            "--exclude",
            "_*",
            "--exclude",
            "checkpoint-*",
            *options,
        ]
        self.failure = f"the push to {repository} failed: {_one_line(error)} Push again with\n{shlex.join(command)}"
        super().__init__(f"What was saved in {output_dir} is still there, but {self.failure}")


@contextmanager
def saying_how_to_push_again(
    trainer: Trainer, revision: str | None = None, private: bool | None = None
) -> Iterator[None]:
    """
    For a push by the trainer within the `with` block; `revision` and `private` are those of the push, where they are not
    those of the trainer's arguments.

    Raises:
        [`PushError`]: the push failed.
    """
    args = trainer.args
    revision = revision or args.hub_revision
    try:
        yield
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # hf_xet raises a bare RuntimeError
        options = ["--private"] if private or args.hub_private_repo else []
        if revision is not None:
            options += ["--revision", revision]
        raise PushError(
            str(args.output_dir), trainer.hub_model_id or _repository_name(args), error, options
        ) from error


def _repository_name(args: TrainingArguments) -> str:
    return args.hub_model_id or Path(str(args.output_dir)).absolute().name


def _one_line(error: BaseException) -> str:
    # Without the link to a general explanation of the HTTP status
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("For more information check")]
    text = " ".join(line for line in lines if line) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
