# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The shapes of the models that are measured. The weights are random, so nothing is downloaded."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Phi3Config, PreTrainedConfig, Qwen2Config


@dataclass(frozen=True)
class Shape:
    """
    A model's sizes, and the settings it is measured with unless the command says otherwise.

    Args:
        config_class (`type`): The architecture.
        vocab_size, hidden_size, intermediate_size, layers, heads, key_value_heads (`int`): Sizes.
        tied (`bool`): Whether the LM head is the embedding.
        dtype (`torch.dtype`): Type of the weights; with bfloat16 every forward runs under autocast, as in TRL.
        gradient_checkpointing (`bool`): Whether the layers' activations are computed twice to save memory.
    """

    config_class: type[PreTrainedConfig]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    tied: bool = False
    dtype: torch.dtype = torch.bfloat16
    gradient_checkpointing: bool = True

    def config(self, eos_token_id: int, pad_token_id: int) -> PreTrainedConfig:
        return self.config_class(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            tie_word_embeddings=self.tied,
            max_position_embeddings=8192,
            sliding_window=None,
            bos_token_id=None,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
        )


CPU = {"dtype": torch.float32, "gradient_checkpointing": False}
SHAPES = {
    "llama-3.1-8b": Shape(LlamaConfig, 128256, 4096, 14336, 32, 32, 8),
    "mistral-7b": Shape(MistralConfig, 32768, 4096, 14336, 32, 32, 8),
    "phi-3.5-mini": Shape(Phi3Config, 32064, 3072, 8192, 32, 32, 32),
    "qwen2.5-0.5b": Shape(Qwen2Config, 151936, 896, 4864, 24, 14, 2, tied=True),
    "smollm2-135m": Shape(LlamaConfig, 49152, 576, 1536, 30, 9, 3, tied=True, gradient_checkpointing=False),
    # For a laptop: a body that outweighs the LM head, as in a large model, and a vocabulary as large as Llama's
    "tiny": Shape(LlamaConfig, 2048, 256, 1024, 6, 8, 4, **CPU),
    "vocab128k": Shape(LlamaConfig, 128256, 64, 256, 2, 4, 2, **CPU),
}


def body_to_head(shape: Shape) -> float:
    """Parameters that a token is multiplied with in the layers, over those in the LM head."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config(eos_token_id=0, pad_token_id=1))
    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    return sum(module.weight.numel() for module in layers) / head.weight.numel()
