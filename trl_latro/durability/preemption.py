# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A node that is about to be taken away sends SIGTERM: save a checkpoint after the step under way, and stop."""

import signal
from types import FrameType
from typing import Any

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class SaveOnSigterm(TrainerCallback):
    """
    Ends training with a checkpoint when a process gets SIGTERM.

    The checkpoint is one of those that training writes between two steps, so that the run continues exactly. All
    processes stop at the same step, also if only one of them got the signal. (The just-in-time checkpoint of
    transformers may save in the middle of a step, and each process by itself.)

    Attributes:
        stopped (`bool`): Whether training was ended.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._received = False
        self._old_handler: Any = None

    def _receive(self, signal_number: int, frame: FrameType | None) -> None:
        self._received = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._old_handler = signal.signal(signal.SIGTERM, self._receive)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_if_received(args, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_if_received(args, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The checkpoint of this step is written: another evaluation, and a second save over it, would only take time
        if self.stopped:
            control.should_evaluate = control.should_save = False

    def _stop_if_received(self, args: TrainingArguments, control: TrainerControl) -> None:
        received = reduce(torch.tensor(float(self._received), device=args.device), reduction="sum")
        if received.item() > 0:
            self.stopped = control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        signal.signal(signal.SIGTERM, self._old_handler)
