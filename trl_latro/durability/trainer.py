# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A trainer whose runs can be stopped anywhere and go on as if they had not been."""

import logging
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl.trainer.utils import RepeatSampler

from .checkpoints import remove_checkpoint, resolve_checkpoint, say_failed_write
from .hub import SayFailedPushes, saying_how_to_push_again
from .sampler import EpochSampler
from .trackers import TrackerRun


logger = logging.getLogger(__name__)


class DurableTrainer(Trainer):
    """
    What [`~transformers.Trainer`] and its subclasses gain in front of them: `class MyTrainer(DurableTrainer, SFTTrainer)`.

    A run resumes exactly, from the last checkpoint that is whole and in its run of the trackers; its prompts come in an
    order that depends on seed and epoch alone; a checkpoint that cannot be written, or a push that fails, says in one
    sentence what is left and how to go on.

    Attributes:
        tracker_run ([`~trl_latro.durability.trackers.TrackerRun`]): The run of wandb and trackio.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.tracker_run = TrackerRun(self.args)
        if self.args.push_to_hub:
            self.add_callback(SayFailedPushes(self))

    # ---- train, evaluate, push ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """
        As the parent's. `resume_from_checkpoint=True` passes over checkpoints that were cut short, and a resumed training
        goes on in its run of the trackers.
        """
        checkpoint = resolve_checkpoint(self.args.output_dir, resume_from_checkpoint)
        self.tracker_run.begin_training(self, resumed=checkpoint is not None)
        return super().train(checkpoint, trial, ignore_keys_for_eval)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As the parent's, also outside of the training, where no tracker has a run open."""
        self.begin_evaluation()
        return super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    def begin_evaluation(self) -> None:
        """What comes before the first batch of an evaluation."""
        self.tracker_run.begin_evaluation(self)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        As the parent's.

        Raises:
            [`~trl_latro.durability.hub.PushError`]: the push failed; the message says how to push again.
        """
        if not self.args.push_to_hub:
            self.save_model(_internal_call=True)  # the parent makes the repository before it saves
        if token is not None:
            token = token.strip()  # as `LaTROConfig` does
        with saying_how_to_push_again(self, revision, private):
            return super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(dataset)
        return EpochSampler.like(sampler) if isinstance(sampler, RepeatSampler) else sampler

    # ---- checkpoints ----

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with say_failed_write(checkpoint):
            # A killed run may have left one: written over, it would pass for whole before it is
            if self.args.should_save and checkpoint.exists():
                remove_checkpoint(checkpoint)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)

    def state_of_process(self) -> dict[str, Any]:
        """
        What each process saves in a checkpoint beside the parent's random states, and [`load_state_of_process`] gets back:
        tensors and plain values, in dictionaries and lists. Here what the next line of the log is a mean of.
        """
        return {"loss": self._tr_loss, "step_of_last_log": self._globalstep_last_logged}

    def load_state_of_process(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_of_process`] has saved."""
        self._tr_loss = state["loss"]
        self._total_loss_scalar -= self._tr_loss.item()  # the final `train_loss` is that of this process's steps
        self._globalstep_last_logged = state["step_of_last_log"]

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self.state_of_process(), self._state_file(output_dir))
        # The main process writes trainer_state.json next and last: where it stands, the files of every process do
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        path = self._state_file(checkpoint)
        if not path.is_file():
            logger.warning(
                "%s has no %s: it was saved by another number of processes, so samples that were used in part are drawn "
                "again, and the training is not exactly that of an uninterrupted run.",
                checkpoint,
                path.name,
            )
            return
        device = self.accelerator.device
        # torch cannot load to an indexed "cpu:0", which the processes of a CPU run have
        location = "cpu" if device.type == "cpu" else device
        self.load_state_of_process(torch.load(path, map_location=location, weights_only=True))

    def _state_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"process_state_{self.args.process_index}.pth"
