# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The model as training has it, adapter included, without its weights: shapes and types only."""

from typing import NamedTuple

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from trl import ModelConfig, get_peft_config

from ..loading import reading_model


# Bytes per weight in bitsandbytes' formats: the numbers, and one scale per block of 64 numbers (float32; with nested
# quantization 8 bit and one float32 per 256 scales). The 8-bit format has a float32 per row, which is next to nothing.
FOUR_BIT, FOUR_BIT_NESTED, EIGHT_BIT = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256), 1.0


def build_skeleton(
    config: PreTrainedConfig, model_args: ModelConfig, trust_remote_code: bool, sixteen_bit: torch.dtype | None
) -> PreTrainedModel | PeftModel:
    """
    The model on the meta device, which holds no numbers, as TRL would load it.

    Args:
        config ([`~transformers.PreTrainedConfig`]):
            Config of the model.
        model_args ([`~trl.ModelConfig`]):
            Type of the weights, LoRA and quantization. Quantized weights stand here in their type of computation.
        trust_remote_code (`bool`):
            Whether a model may bring code of its own.
        sixteen_bit (`torch.dtype`, *optional*):
            Type to which DeepSpeed casts all weights, adapters too.
    """
    dtype = config.dtype if model_args.dtype == "auto" else getattr(torch, str(model_args.dtype))
    with torch.device("meta"):
        with reading_model(str(model_args.model_name_or_path), "the model"):
            model = AutoModelForCausalLM.from_config(
                config,
                dtype=dtype,
                attn_implementation=model_args.attn_implementation,
                trust_remote_code=trust_remote_code,
            )
        if model_args.use_peft:
            model = get_peft_model(model, get_peft_config(model_args))
    if is_quantized(model_args):  # TRL keeps the adapter of a quantized model in bfloat16
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    return model if sixteen_bit is None else model.to(sixteen_bit)


def is_quantized(model_args: ModelConfig) -> bool:
    return model_args.load_in_4bit or model_args.load_in_8bit


class Parameters(NamedTuple):
    """
    Numbers and bytes of the weights.

    Args:
        total (`int`): All parameters.
        trainable (`int`): Those that are trained.
        largest_module (`int`): Those of the largest single module, which ZeRO-3 gathers as a whole.
        frozen_bytes (`int`): Bytes of the weights that are not trained.
        trainable_bytes (`int`): Bytes of those that are.
        trained_embeddings (`int`): Trained parameters in embeddings, for which 8-bit optimizers keep 32 bits.
    """

    total: int
    trainable: int
    largest_module: int
    frozen_bytes: int
    trainable_bytes: int
    trained_embeddings: int


def count_parameters(model: PreTrainedModel | PeftModel, model_args: ModelConfig) -> Parameters:
    """Count the weights of a skeleton; tied ones count once."""
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    quantized: set[torch.Tensor] = set()
    if is_quantized(model_args):
        # bitsandbytes replaces every linear layer but the head; adapters stay as they are
        head = model.get_output_embeddings()
        linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        quantized = {module.weight for module in linear if not module.weight.requires_grad}
    if model_args.load_in_8bit:
        bytes_per_weight = EIGHT_BIT
    else:
        bytes_per_weight = FOUR_BIT_NESTED if model_args.use_bnb_nested_quant else FOUR_BIT
    frozen_bytes = sum(
        parameter.numel() * (bytes_per_weight if parameter in quantized else parameter.itemsize)
        for parameter in parameters
        if not parameter.requires_grad
    )
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return Parameters(
        total=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in trained),
        largest_module=max(
            sum(parameter.numel() for parameter in module.parameters(recurse=False)) for module in model.modules()
        ),
        frozen_bytes=int(frozen_bytes),
        trainable_bytes=sum(parameter.nbytes for parameter in trained),
        trained_embeddings=sum(parameter.numel() for parameter in trained if parameter in embeddings),
    )
