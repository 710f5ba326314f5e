# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The models whose computation the package arranges in its own way; all others take that of transformers and TRL."""

import transformers
from packaging.version import Version
from peft import LoraConfig, PeftModel
from transformers import (
    Gemma3ForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)


# What the KV cache is called among the arguments and outputs of a model
CACHE = "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"

# Classes that the tests have compared: tokens meet in attention only, know their positions from `position_ids` only, and the
# cache can be reduced to some of its rows. A model's own code from the Hub is none of them.
MODEL_CLASSES = (
    Gemma3ForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Phi3ForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)


def why_unknown(model: PreTrainedModel | PeftModel) -> str | None:
    """Why nothing is known of a model, or `None` where it is one of [`MODEL_CLASSES`], as it is or with LoRA."""
    if isinstance(model, PeftModel):
        adapter = model.active_peft_config
        # An activated LoRA looks for its tokens in each row
        if type(adapter) is not LoraConfig or adapter.alora_invocation_tokens is not None:
            return f"the adapter, {type(adapter).__name__}, is not plain LoRA"
        model = model.get_base_model()
    if type(model) not in MODEL_CLASSES:
        names = ", ".join(model_class.__name__ for model_class in MODEL_CLASSES)
        return f"{type(model).__name__} is none of {names}"
    return None
