# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Every field of the config that LaTRO reads has its type and its bounds."""

import json
import math
from typing import Any

import torch
from transformers import SchedulerType, get_scheduler

from .objective import REWARD_TOKENS
from .thinking import check_thinking_tags


# Field: least value, and the reason where it is not plain
_WHOLE = {
    "num_generations": (
        2,
        "the leave-one-out baseline of a rationale is the mean reward of the others of its prompt (the paper uses 16)",
    ),
    "max_completion_length": (1, "a rationale needs a length limit (the paper uses 500)"),
    "per_device_train_batch_size": (1, ""),
    "per_device_eval_batch_size": (1, ""),
    "gradient_accumulation_steps": (1, ""),
    "num_iterations": (1, ""),
}
_WHOLE_OR_NONE = {
    "num_generations_eval": (1, ""),
    "steps_per_generation": (1, ""),
    "generation_batch_size": (1, ""),
    "answer_max_length": (1, "an answer needs a token"),
}
_NOT_NEGATIVE = {
    "learning_rate": "it would climb the loss",
    "beta": "it would reward rationales for leaving the reference model",
    "answer_coef": "it would push the answer's likelihood down",
    "self_reward_weight": "it would push the answer's likelihood down",
    "unfinished_penalty": "it would push rationales to the length limit",
    "epsilon": "the clipping range [1 - epsilon, 1 + epsilon] would be empty",
}
_NOT_NEGATIVE_OR_NONE = {"epsilon_high": "the clipping range [1 - epsilon, 1 + epsilon_high] would be empty"}
_SHARES = {
    "reward_power": "1 is the probability of the answer, 0 its logarithm",
    "jepo_floor": "it is about the probability of a guess",
}
_SHARES_OR_NONE = {"reward_power_end": _SHARES["reward_power"]}
_FLAGS = (
    *(
        "share_prompts",
        "truncate_answers",
        "skip_nonfinite_steps",
        "monitor_collapse",
        "stop_on_collapse",
        "normalize_advantages",
        "mask_truncated_completions",
    ),
    *("disable_dropout", "use_vllm", "use_transformers_continuous_batching", "shuffle_dataset"),
    "vllm_importance_sampling_correction",
)
_CHOICES = {"self_reward_when": ("always", "unverified"), "scorer": ("policy", "reference")}
_TEXTS = ("answer_template", "answer_separator")
_MAPPINGS = ("chat_template_kwargs", "generation_kwargs", "model_init_kwargs")
# The parent sets the process's environment by them
_COMPILING = ("torch_compile", "torch_compile_backend", "torch_compile_mode")


def check_fields(fields: dict[str, Any]) -> None:
    """
    Check the fields of a [`LaTROConfig`] by their names.

    Raises:
        `ValueError`: a field of another type, or out of its bounds.
    """
    for name, (least, reason) in {**_WHOLE, **_WHOLE_OR_NONE}.items():
        value = fields[name]
        if value is None and name in _WHOLE_OR_NONE:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            because = f": {reason}" if reason else ""
            raise ValueError(f"`{name}` is {value!r}, but must be a whole number of {least} or more{because}.")
    for name, reason in {**_NOT_NEGATIVE, **_NOT_NEGATIVE_OR_NONE}.items():
        value = fields[name]
        if value is None and name in _NOT_NEGATIVE_OR_NONE:
            continue
        if not _is_finite(value) or value < 0:
            raise ValueError(f"`{name}` is {value!r}, but must be a number and not negative: {reason}.")
    for name, reason in {**_SHARES, **_SHARES_OR_NONE}.items():
        value = fields[name]
        if value is None and name in _SHARES_OR_NONE:
            continue
        if not _is_finite(value) or not 0 <= value <= 1:
            raise ValueError(f"`{name}` is {value!r}, but must be a number from 0 to 1: {reason}.")
    for name in _FLAGS:
        if not isinstance(fields[name], bool):
            raise ValueError(f"`{name}` is {fields[name]!r}, but must be True or False.")
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            raise ValueError(f"`{name}` is {fields[name]!r}, but must be one of {list(choices)}.")
    for name in _TEXTS:
        if not isinstance(fields[name], str):
            raise ValueError(f"`{name}` is {fields[name]!r}, but must be a text.")
    for name in _MAPPINGS:
        if isinstance(fields[name], str):  # of the command line, which the parent reads once more
            read_mapping(fields[name], f"`{name}`")
        elif not isinstance(fields[name], dict | None):
            raise ValueError(f"`{name}` is {fields[name]!r}, but must be a mapping of names to values.")
    if fields["reward_tokens"] not in (None, *REWARD_TOKENS):
        raise ValueError(
            f"`reward_tokens` is {fields['reward_tokens']!r}, but must be one of {list(REWARD_TOKENS)}, or unset to go by the "
            "reward."
        )
    clip_max = fields["vllm_importance_sampling_clip_max"]
    if not _is_finite(clip_max) or clip_max < 1:
        raise ValueError(
            f"`vllm_importance_sampling_clip_max` is {clip_max!r}, but must be a number of 1 or more, which is the ratio of "
            "a sample that policy and engine agree on. To switch the correction off, set "
            "`vllm_importance_sampling_correction=False`."
        )
    check_stop_texts(fields["rationale_stop_strings"])
    check_thinking_tags(fields["thinking_tags"])
    _check_clip_range(fields["reward_clip_range"])
    if fields["neftune_noise_alpha"] is not None:
        raise ValueError(
            f"`neftune_noise_alpha` is {fields['neftune_noise_alpha']!r}, but rewards are log-probs of the model, which the "
            "noise would blur, as dropout would. Leave it unset."
        )
    for name in _COMPILING:
        if fields[name]:
            raise ValueError(
                f"`{name}` is {fields[name]!r}, but rows have other lengths in every step, and a compiled model cannot "
                "generate with settings of its own. Leave it unset."
            )


def check_schedule(schedule: SchedulerType, kwargs: dict[str, Any] | None) -> None:
    """
    Build the learning rate's schedule once, because the trainer builds its own when the model has been loaded.

    Raises:
        `ValueError`: an argument is missing, or one too many.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    try:
        get_scheduler(schedule, optimizer, num_warmup_steps=1, num_training_steps=2, scheduler_specific_kwargs=kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`lr_scheduler_kwargs` is {kwargs!r}, from which the schedule {schedule.value!r} cannot be built: {error}."
        ) from error


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_mapping(text: str, name: str) -> dict[str, Any]:
    """A JSON object of the command line; raises `ValueError` where the text is none."""
    try:
        mapping = json.loads(text)
    except json.JSONDecodeError:
        mapping = None
    if not isinstance(mapping, dict):
        raise ValueError(f"{name} is {text!r}, but must be a JSON object, as in '{{\"enable_thinking\": false}}'.")
    return mapping


def check_stop_texts(stop_strings: Any) -> None:
    """
    Raises:
        `ValueError`: neither `None` nor a list of texts with something in them.
    """
    if isinstance(stop_strings, str):
        raise ValueError(
            f"`rationale_stop_strings` is the text {stop_strings!r}, but must be a list: pass [{stop_strings!r}]."
        )
    if stop_strings is None:
        return
    if not isinstance(stop_strings, list) or not all(isinstance(stop, str) for stop in stop_strings):
        raise ValueError(f"`rationale_stop_strings` is {stop_strings!r}, but must be a list of texts.")
    if not all(stop.strip() for stop in stop_strings):
        raise ValueError(
            f"`rationale_stop_strings` is {stop_strings} and has an empty or blank string, at which every rationale would "
            "end. Remove it."
        )


def _check_clip_range(clip_range: Any) -> None:
    if clip_range is None:
        return
    if (
        not isinstance(clip_range, list | tuple)
        or len(clip_range) != 2
        or not all(map(_is_finite, clip_range))
        or clip_range[0] >= clip_range[1]
    ):
        raise ValueError(
            f"`reward_clip_range` is {clip_range!r}, but must be two numbers, the lower one first, as in (-10.0, 0.0)."
        )
