# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import logging
import math
from typing import Any

from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)


class StepGuard(TrainerCallback):
    """
    Ends training before a step whose rewards or gradient are NaN or infinite, and names the prompts. A training that comes
    to its end without any step is an error too.

    Args:
        skip (`bool`):
            Whether to go on without such a step instead.

    Attributes:
        prompts_of_step (`list[str]`): The prompts of this process whose samples the gradient is made of.
        grad_norm (`float` or `torch.Tensor`, *optional*): The norm of the gradient.
    """

    def __init__(self, skip: bool):
        self.skip = skip
        self.prompts_of_step: list[str] = []
        self.grad_norm: Any = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.prompts_of_step.clear()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        # With fp16 the gradient scaler leaves such steps out, that is how it finds its scale
        if model is None or self.grad_norm is None or math.isfinite(self.grad_norm) or args.fp16:
            return
        self.report("The gradient", gather_object(self.prompts_of_step), "train", args, state)
        model.zero_grad(set_to_none=True)  # parameters without gradient are not updated

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0 and state.max_steps > 0:
            raise ValueError(
                "The training ended without a step: `train_dataset` has fewer rows than one generation batch takes prompts "
                "(`generation_batch_size` divided by `num_generations`). Add rows, or lower `gradient_accumulation_steps` or "
                "`per_device_train_batch_size`."
            )

    def report(self, what: str, prompts: list[str], mode: str, args: TrainingArguments, state: TrainerState) -> None:
        """
        Say what is not finite, with the prompts of all processes. An evaluation (`mode` is `"eval"`) goes on.

        Raises:
            `FloatingPointError`: in training, unless `skip` says to go on.
        """
        named = list(dict.fromkeys(prompts))
        when = f"step {state.global_step + 1}" if mode == "train" else "an evaluation"
        message = f"{what} is not finite in {when}, from {len(named)} prompts: " + "; ".join(
            repr(prompt if len(prompt) <= 100 else f"{prompt[:97]}...") for prompt in named
        )
        if mode == "eval":
            logger.warning("%s. Metrics that it is part of are not finite either.", message)
            return
        if self.skip:
            logger.warning("%s. The step is skipped.", message)
            return
        raise FloatingPointError(
            f"{message}. Training ends here, and the checkpoints in {args.output_dir!r} are as they were. Resume from one "
            "with a lower learning rate or in bf16 instead of fp16, without these prompts, or with "
            "`skip_nonfinite_steps=True`."
        )
