# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A trainer whose runs can be stopped anywhere and go on as if they had not been."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl.trainer.utils import RepeatSampler

from ..model_card import add_prompting, name_local_models, plain_name
from ..prompting import find_differences, read_prompting, write_prompting
from .checkpoints import find_missing_states, remove_checkpoint, resolve_checkpoint, say_failed_write
from .hub import SayFailedPushes, saying_how_to_push_again
from .lock import locked
from .manifest import begin_manifest, write_manifest
from .processes import first_said, is_main_process
from .sampler import EpochSampler
from .trackers import TrackerRun


logger = logging.getLogger(__name__)


class DurableTrainer(Trainer):
    """
    What [`~transformers.Trainer`] and its subclasses gain in front of them: `class MyTrainer(DurableTrainer, SFTTrainer)`.

    A run resumes exactly, from the last checkpoint that is whole and in its run of the trackers; its prompts come in an
    order that depends on seed and epoch alone; a checkpoint that cannot be written, or a push that fails, says in one
    sentence what is left and how to go on; two trainings do not write to one folder.

    Attributes:
        tracker_run ([`~trl_latro.durability.trackers.TrackerRun`]): The run of wandb and trackio.
        prompting (`dict[str, Any]`): How the model is prompted, see `trl_latro/prompting.py`. It is saved beside the weights
            and said in the card; nothing is if it is empty.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.tracker_run = TrackerRun(self.args)
        self.prompting: dict[str, Any] = {}
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
        As the parent's. `resume_from_checkpoint=True` passes over checkpoints that were cut short or damaged, and a resumed
        training goes on in its run of the trackers. The output folder is locked meanwhile. Where the checkpoint's model was
        prompted in another way, the log says so.

        Raises:
            `ValueError`: there is no whole checkpoint to resume from.
            `OutputDirError`: another training is at work in the output folder, or it cannot be written to.
        """
        on_each_node = self.args.save_on_each_node
        with locked(self._get_output_dir(trial), on_each_node):
            checkpoint = resolve_checkpoint(self.args.output_dir, resume_from_checkpoint, on_each_node)
            if checkpoint is not None:
                self._say_missing_states(checkpoint)
                self._say_other_prompting(checkpoint)
            self.args.resume_from_checkpoint = checkpoint  # for callbacks, which see the arguments alone
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
        self.tracker_run.begin_evaluation(self)
        return super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

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
            if private is not None:  # transformers before 5.23 has no such argument
                kwargs["private"] = private
            return super().push_to_hub(commit_message, blocking, token, revision, **kwargs)

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """
        As the parent's, with how the model was prompted. Names are shown as they are, and a model that is not on the Hub is
        not called "None".
        """
        super().create_model_card(plain_name(model_name), dataset_name, tags)
        if not self.is_world_process_zero():
            return
        card = Path(str(self.args.output_dir)) / "README.md"
        if self.prompting:
            add_prompting(card, self.prompting)
        name_local_models(card, str(self.args.output_dir))

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(dataset)
        return EpochSampler.like(sampler) if isinstance(sampler, RepeatSampler) else sampler

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        begun = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        # The parent looks at `max_steps` behind a step: a training that is done would make one more
        return (num_train_epochs, 0) if self.state.global_step >= max_steps else begun

    # ---- checkpoints ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        As the parent's.

        Raises:
            `OutputDirError`: the model or what belongs to it could not be written; the message says how to go on.
        """
        folder = Path(str(output_dir or self.args.output_dir))
        with say_failed_write(folder, self.args.output_dir):
            self._save_prompting(folder)
            super().save_model(output_dir, _internal_call)

    def _save_prompting(self, folder: Path) -> None:
        if self.prompting and self.args.should_save:
            write_prompting(folder, self.prompting)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with say_failed_write(checkpoint):
            if self.args.should_save:
                # A killed run may have left one: written over, it would pass for whole before it is
                if checkpoint.exists():
                    remove_checkpoint(checkpoint)
                begin_manifest(checkpoint)
            if self.args.push_to_hub:
                # The parent pushes this folder, with copies of those of the checkpoint's files that it knows
                self._save_prompting(Path(str(self.args.output_dir)))
            self.accelerator.wait_for_everyone()
            with self._manifest_behind_the_state(checkpoint):
                super()._save_checkpoint(model, trial)

    @contextmanager
    def _manifest_behind_the_state(self, checkpoint: Path) -> Iterator[None]:
        # The parent writes trainer_state.json, then pushes the checkpoint and deletes older ones. The manifest comes
        # between, where nothing but the writing of the state is called on every path.
        state = self.state

        def save_to_json(json_path: str) -> None:
            type(state).save_to_json(state, json_path)
            write_manifest(checkpoint)

        state.__dict__["save_to_json"] = save_to_json
        try:
            yield
        finally:
            del state.__dict__["save_to_json"]

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # PEFT loads an adapter into float32, while TRL trains that of a quantized model in bfloat16
        dtypes = {name: parameter.dtype for name, parameter in self.model.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in self.model.named_parameters():
            parameter.data = parameter.data.to(dtypes[name])

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Of tied weights one is saved, and loaded under both names
        weights = dict(self.model.named_parameters(remove_duplicate=False))
        loaded = {id(weight) for name, weight in weights.items() if name not in load_result.missing_keys}
        missing = [name for name in load_result.missing_keys if id(weights.get(name)) not in loaded]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(
            self.state_of_process() | {"num_processes": self.args.world_size},
            self._state_file(output_dir, self.args.process_index),
        )
        # The main process writes trainer_state.json and the manifest next and last: they know the files of every process
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        path = self._state_file(checkpoint, self.args.process_index)
        device = self.accelerator.device
        # torch cannot load to an indexed "cpu:0", which the processes of a CPU run have
        location = "cpu" if device.type == "cpu" else device
        state = torch.load(path, map_location=location, weights_only=True) if path.is_file() else {}
        # All processes load theirs or none does: samples in one and none in another would not be one step
        saved_by = gather_object([state.pop("num_processes", None)])
        if saved_by == [self.args.world_size] * self.args.world_size:
            self.load_state_of_process(state)
        elif self.is_world_process_zero() and not find_missing_states(checkpoint):  # of which `train` has told
            logger.warning(
                "%s %s, so samples that were used in part are drawn again, and the training is not exactly that of an "
                "uninterrupted run.",
                checkpoint,
                self._why_without_state(checkpoint, saved_by),
            )

    def _why_without_state(self, checkpoint: str, saved_by: list[int | None]) -> str:
        others = {number for number in saved_by if number is not None} - {self.args.world_size}
        if others:
            return f"was saved by another number of processes ({max(others)}, now {self.args.world_size})"
        lacking = [index for index, number in enumerate(saved_by) if number is None]
        if len(lacking) == len(saved_by) and not list(Path(checkpoint).glob("process_state_*.pth")):
            return "has no process_state_*.pth, as one that another trainer has saved"
        return f"has no {self._state_file(checkpoint, lacking[0]).name}"

    def _say_missing_states(self, checkpoint: str) -> None:
        """Say what starts anew from a checkpoint without optimizer, schedule or random states, as the parent does not."""
        missing = first_said(find_missing_states(checkpoint) if is_main_process() else None)
        if not missing:
            return
        all_but_model = len(missing) == 3
        what = f"{checkpoint} has no {', no '.join(missing)}" + (
            ", as one that was saved with save_only_model" if all_but_model else ""
        )
        if "optimizer" in missing and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            raise ValueError(
                f"resume_from_checkpoint: {what}, and DeepSpeed and FSDP cannot resume from the model alone. Start a new "
                "training from its model, or name another checkpoint."
            )
        if self.is_world_process_zero():
            logger.warning(
                "%s: the model and the step count go on, what is missing starts anew, and the training is not that of an "
                "uninterrupted run. Checkpoints resume exactly if they are saved without save_only_model.",
                what,
            )

    def _say_other_prompting(self, checkpoint: str) -> None:
        differences = find_differences(read_prompting(checkpoint) or {}, self.prompting)
        if differences and self.is_world_process_zero():
            logger.warning(
                "%s was trained with other prompts or answers than those that the training goes on with: %s.",
                checkpoint,
                "; ".join(f"{name} was {then} and is {now}" for name, then, now in differences),
            )

    @staticmethod
    def _state_file(checkpoint: str, process: int) -> Path:
        return Path(checkpoint) / f"process_state_{process}.pth"
