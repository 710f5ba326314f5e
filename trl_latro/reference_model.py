# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The reference model, of the KL and as a scorer: the initial state of the model that is trained."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, Trainer
from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.callbacks import SyncRefModelCallback
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from .latro_config import LaTROConfig


def copy_initial_model(
    model: str | PreTrainedModel | PeftModel, args: LaTROConfig, peft_config: PeftConfig | None
) -> PreTrainedModel | None:
    """
    A copy of a loaded model that is trained with all of its weights.

    The trainer's parent would load the reference by the model's name, also where the weights that were passed are others.
    `None` where that is right (a name), or where there is no reference model of its own (none is needed, adapters).

    Raises:
        `ValueError`: the model's parameters are spread over processes, of which each has a part.
    """
    if isinstance(model, (str, PeftModel)) or peft_config is not None or not args.needs_reference:
        return None
    if any(parameter.numel() == 0 for parameter in model.parameters()):
        raise ValueError(
            "The model was loaded in parts (DeepSpeed ZeRO-3) and cannot be copied for the reference model. Pass its name or "
            "path instead of the model, or set `beta=0.0` and `scorer='policy'`."
        )
    return copy.deepcopy(model)


@contextmanager
def settings_of_reference(args: LaTROConfig, initial_model: PreTrainedModel | None) -> Iterator[None]:
    """
    Within, a trainer loads a reference model if one is needed, for a scorer too, and none if there is a copy of the initial
    model. TRL's goes by `beta`.
    """
    beta, sync = args.beta, args.sync_ref_model
    if initial_model is not None:
        args.beta, args.sync_ref_model = 0.0, False
    elif beta == 0.0 and args.needs_reference:
        args.beta = 1.0
    try:
        yield
    finally:
        args.beta, args.sync_ref_model = beta, sync


def prepare_reference(model: PreTrainedModel, trainer: Trainer, args: LaTROConfig) -> PreTrainedModel:
    """Make a copied model what the parent makes of a loaded one: without dropout, with TRL's fused LM head, on the device."""
    model.eval()
    if args.disable_dropout:
        disable_dropout_in_model(model)
    add_fused_lm_head(model, temperature=args.temperature)
    if trainer.is_deepspeed_enabled:
        model = prepare_deepspeed(model, trainer.accelerator)
    elif trainer.is_fsdp_enabled:
        model = prepare_fsdp(model, trainer.accelerator)
    else:
        model = trainer.accelerator.prepare_model(model, evaluation_mode=True)
    if args.sync_ref_model:
        trainer.add_callback(SyncRefModelCallback(ref_model=model, accelerator=trainer.accelerator))
    return model
