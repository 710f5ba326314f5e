# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Samples are samples of the model itself: temperature 1, every token, one after the other.

The rule: the settings that `generate` (or vLLM) runs with in the end change nothing about that. The model's file has no say
in them but for its EOS tokens. What the user asks for is refused, or, where it only biases the samples, warned of.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig, PreTrainedModel


logger = logging.getLogger(__name__)

# Values that leave the model's distribution as it is; `None` does for every setting but `do_sample` and `top_k`, for which
# `generate` would put in values of its own
_NEUTRAL: dict[str, Any] = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "guidance_scale": 1.0,
    "length_penalty": 1.0,
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "token_healing": False,
    # vLLM's
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "n": 1,
    "min_tokens": 0,
    "ignore_eos": False,
}
# They change the next token's distribution
_BIASES = {
    *("top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty"),
    *("no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
    *("exponential_decay_length_penalty", "remove_invalid_values", "renormalize_logits", "watermarking_config"),
    # vLLM's
    *("presence_penalty", "frequency_penalty", "logit_bias", "bad_words", "allowed_token_ids", "structured_outputs"),
}
# They say how tokens are computed or written down
_COMPUTATION = {
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile"),
    *("prefill_chunk_size", "low_memory", "continuous_batching_config"),
    # vLLM's
    *("seed", "detokenize", "skip_special_tokens", "spaces_between_special_tokens"),
}
# They name tokens, files and outputs
_IDENTITY = {
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "transformers_version", "max_length"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("_from_model_config", "_name_or_path", "trust_remote_code", "chat_format"),
}


def is_neutral(name: str, value: Any) -> bool:
    """Whether a setting leaves the model's distribution as it is."""
    return value is None or (name in _NEUTRAL and value == _NEUTRAL[name])


def check_sampling_settings(settings: dict[str, Any], generation_kwargs: dict[str, Any]) -> None:
    """
    Check what the user asks for.

    Args:
        settings (`dict[str, Any]`):
            Fields of the config: `temperature`, `top_k` and so on.
        generation_kwargs (`dict[str, Any]`):
            Further settings of `generate` or vLLM, which go before them.

    Raises:
        `ValueError`: a setting with which the completions are not samples of the model.
    """
    temperature = {**settings, **generation_kwargs}["temperature"]
    if not is_neutral("temperature", temperature):
        raise ValueError(
            f"`temperature` is {temperature}, but LaTRO needs 1.0: TRL divides the logits by the temperature when "
            "it scores, so the reward would not be log p(answer), and the rationales would not be samples of the "
            "policy whose gradient is taken."
        )
    for name, value in generation_kwargs.items():
        if name not in _BIASES | _COMPUTATION and not is_neutral(name, value):
            raise ValueError(
                f"`generation_kwargs` has {name}={value!r}, but the gradient is that of samples of the model, drawn token by "
                "token up to a stop string, an EOS token or `max_completion_length`. Leave it out; the config has the fields "
                "`max_completion_length`, `rationale_stop_strings` and `num_generations`."
            )
    changed = {
        name: value
        for name, value in {**settings, **generation_kwargs}.items()
        if name in _BIASES and not is_neutral(name, value)
    }
    if changed:
        warnings.warn(
            f"{changed} changes the distribution that rationales are sampled from, but the gradient is taken as "
            "if they came from the model itself, so it is biased. Leave these settings at their defaults.",
            stacklevel=5,
        )


def make_generation_config(settings: dict[str, Any], model: PreTrainedModel) -> GenerationConfig:
    """
    Settings of `generate` that sample from the model, but for those that are given in `settings` and not `None`. The log
    says which settings of the model's file are left out.
    """
    left_out = settings_of_file(model.generation_config)
    if left_out:
        logger.warning("Rationales are samples of the model itself, without %s of its generation config.", left_out)
    given = {name: value for name, value in settings.items() if value is not None}
    return GenerationConfig(**{"do_sample": True, "top_k": 0, "disable_compile": True, **given})


def settings_of_file(generation_config: GenerationConfig) -> dict[str, Any]:
    """What a model's own generation config asks for, and samples of the model itself leave out."""
    return {
        name: value
        for name, value in generation_config.to_dict().items()
        if name not in _COMPUTATION | _IDENTITY and not is_neutral(name, value)
    }


@contextmanager
def only_generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Within, `generate` runs with `config` alone: elsewhere it fills what a config leaves open from the model's own."""
    models = [model] if isinstance(model, PreTrainedModel) else [model, model.get_base_model()]  # a PeftModel has two
    saved = [one.generation_config for one in models]
    for one in models:
        one.generation_config = config
    try:
        yield
    finally:
        for one, its_config in zip(models, saved, strict=True):
            one.generation_config = its_config
