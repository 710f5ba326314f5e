# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""One run of wandb and trackio for one training, however often it is resumed."""

import os
import secrets
from pathlib import Path

from transformers import Trainer, TrainingArguments
from transformers.integrations import TrackioCallback, WandbCallback


RUN_ID_FILE = "_tracker_run_id"  # a push to the Hub leaves out what begins with "_"


class TrackerRun:
    """
    The run of wandb and trackio that a trainer logs to, from its first training or evaluation on.

    A training's id is kept in `output_dir`, for the time when it is resumed. trackio knows a run by its name: without
    `run_name`, what is logged after a resume or after the training would be a run of its own. A run of wandb that the
    user has opened stays, and so do `WANDB_RUN_ID` and `WANDB_RESUME`.

    Args:
        args ([`~transformers.TrainingArguments`]):
            Arguments of the trainer. `run_name` is set as soon as the run has an id, unless the user gave one.
    """

    def __init__(self, args: TrainingArguments):
        self.args = args
        self.id: str | None = None
        self._opened: str | None = None  # the run of wandb that is not the user's
        in_a_space = args.trackio_space_id is not None or "TRACKIO_SPACE_ID" in os.environ
        if args.trackio_static_space_id is None and not in_a_space:
            # `None` publishes the logs of a local trackio, completions too, whenever the model is pushed: in a public
            # Space, for a private repository as well, and where that fails the training ends.
            args.trackio_static_space_id = False

    def begin_training(self, trainer: Trainer, resumed: bool) -> None:
        """
        Open the run of the training in `output_dir` that is resumed, or else the one that the trainer's evaluations
        have opened, or a new one.

        Args:
            trainer ([`~transformers.Trainer`]):
                Trainer that is about to train.
            resumed (`bool`):
                Whether it starts from a checkpoint.
        """
        if not self._is_tracked:
            return
        file = Path(str(self.args.output_dir)).absolute() / RUN_ID_FILE
        if resumed and file.is_file():
            self._open(trainer, file.read_text())
        else:
            self._open(trainer, self.id or self._new_id())
            file.write_text(str(self.id))

    def begin_evaluation(self, trainer: Trainer) -> None:
        """
        Open the run where none is open: before the training, and after it, whose end is the end of trackio's run for
        transformers. TRL logs how long a generation takes, and fails without a run of trackio.
        """
        if self._is_tracked:
            self._open(trainer, self.id or self._new_id())

    @property
    def _is_tracked(self) -> bool:
        return self.args.process_index == 0 and not {"wandb", "trackio"}.isdisjoint(self.args.report_to)

    def _new_id(self) -> str:
        if "wandb" in self.args.report_to:
            import wandb

            if wandb.run is not None:
                return wandb.run.id
        return secrets.token_hex(4)

    def _open(self, trainer: Trainer, run_id: str) -> None:
        before, self.id = self.id, run_id
        prefix = Path(str(self.args.output_dir)).absolute().name
        if self.args.run_name in (None, f"{prefix}-{before}"):
            self.args.run_name = f"{prefix}-{run_id}"
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, WandbCallback) and self._open_wandb(moves=before not in (None, run_id)):
                callback.setup(self.args, trainer.state, trainer.model)
            if isinstance(callback, TrackioCallback) and self._trackio_is_elsewhere():
                callback.setup(self.args, trainer.state, trainer.model)

    def _open_wandb(self, moves: bool) -> bool:
        import wandb

        if moves and wandb.run is not None and wandb.run.id == self._opened:
            wandb.finish()  # an evaluation before a resumed training
        if wandb.run is not None:
            return False
        # As the callback would, but with the id. wandb does not read WANDB_RUN_ID again after `wandb.login()`, and to set it
        # would give the id to other trainers of this process.
        run = wandb.init(
            project=os.getenv("WANDB_PROJECT", "huggingface"),
            name=self.args.run_name,
            id=None if "WANDB_RUN_ID" in os.environ else self.id,
            resume=None if "WANDB_RESUME" in os.environ else "allow",
        )
        self._opened = run.id
        return True

    def _trackio_is_elsewhere(self) -> bool:
        import trackio

        run = trackio.context_vars.current_run.get()
        return run is None or run.name != self.args.run_name
