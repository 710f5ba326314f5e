# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""One run of wandb or trackio for one training, however often it is resumed."""

import os
import secrets
from pathlib import Path

from transformers import Trainer, TrainingArguments
from transformers.integrations import TrackioCallback


RUN_ID_FILE = "_tracker_run_id"  # a push to the Hub leaves out what begins with "_"


def set_up_trackers(training_args: TrainingArguments, checkpoint: str | None) -> None:
    """
    Give the run the id that it had before the checkpoint, or a new one, which `output_dir` keeps.

    wandb takes the id from `WANDB_RUN_ID`, which the user may set. trackio knows a run by its name: without `run_name`,
    what is logged after a resume or after the training would be a run of its own.

    Args:
        training_args ([`~transformers.TrainingArguments`]):
            Arguments of the trainer; `run_name` is set unless the user gave one.
        checkpoint (`str`, *optional*):
            Checkpoint to resume from, `None` for a new run.
    """
    if training_args.trackio_space_id is None and training_args.trackio_static_space_id is None:
        # `None` publishes the logs of a local trackio, completions too, whenever the model is pushed: in a public Space,
        # for a private repository as well, and where that fails the training ends.
        training_args.trackio_static_space_id = False
    if training_args.process_index != 0 or not {"wandb", "trackio"} & set(training_args.report_to):
        return
    output_dir = Path(str(training_args.output_dir)).absolute()
    file = output_dir / RUN_ID_FILE
    if checkpoint is None or not file.is_file():
        output_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(4))
    run_id = file.read_text()
    if training_args.run_name is None:
        training_args.run_name = f"{output_dir.name}-{run_id}"
    if "wandb" in training_args.report_to:
        os.environ.setdefault("WANDB_RUN_ID", run_id)
        os.environ.setdefault("WANDB_RESUME", "allow")


def reopen_trackio(trainer: Trainer) -> None:
    """
    Go on with trackio's run after the training, whose end is the run's end for transformers. TRL logs how long a
    generation takes, and fails where no run is open.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TrackioCallback):
            callback.setup(trainer.args, trainer.state, trainer.model)
