# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Rationales are samples of the model itself, whatever its file or the defaults of transformers say."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import PreTrainedModel

import tiny
from given import cpu_config, lora_config
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation.transformers_model import TransformersModel


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
PROMPT = "1 + 2?"
NUM_SAMPLES = 8192
# Settings that a `generation_config.json` may have; each forbids or favours tokens
OF_THE_FILE = [
    {"do_sample": True, "top_k": 20, "top_p": 0.8, "temperature": 0.6},
    {"min_p": 0.2},
    {"epsilon_cutoff": 0.05, "eta_cutoff": 0.05},
    {"typical_p": 0.3},
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram_size": 1},
    {"suppress_tokens": list(range(10, 200))},
    {"begin_suppress_tokens": list(range(10, 200))},
    {"bad_words_ids": [[token] for token in range(10, 200)]},
    {"sequence_bias": [[[20], 5.0]]},
    {"min_new_tokens": 1, "min_length": 30},
    {"exponential_decay_length_penalty": [0, 3.0]},
    {"forced_eos_token_id": 0},
    {"guidance_scale": 2.0},
]


def model_with(settings: dict[str, Any], lora: bool = False) -> PreTrainedModel:
    model = tiny.tiny_model(TOKENIZER, kind="llama", seed=3)
    with torch.no_grad():
        model.lm_head.weight.mul_(4.0)  # likely and unlikely tokens
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    return get_peft_model(model, lora_config()) if lora else model


def make_trainer(path: Path, model: PreTrainedModel, **settings: Any) -> LaTROTrainer:
    args = cpu_config(str(path), beta=0.0, max_completion_length=1, **settings)
    return LaTROTrainer(model, args, tiny.tiny_dataset(3), processing_class=TOKENIZER)


def assert_frequencies(counts: torch.Tensor, probabilities: torch.Tensor) -> None:
    """Two-sided, for all tokens: within five standard deviations of the expected count (and a rare one for the rarest)."""
    expected = counts.sum() * probabilities
    deviations = (counts - expected).abs() / (expected * (1 - probabilities)).sqrt().clamp(min=1.0)
    assert deviations.max() < 5.0, f"token {deviations.argmax()}: {counts.max()} of {expected.max():.1f} expected"
    # No part of the distribution is cut off: the unlikely tokens together have the mass that they should have
    unlikely = probabilities < 0.02
    mass = probabilities[unlikely].sum()
    share = counts[unlikely].sum() / counts.sum()
    assert mass > 0.1, "a distribution of likely tokens alone would prove nothing"
    assert (share - mass).abs() < 5.0 * (mass * (1 - mass) / counts.sum()).sqrt()


@torch.no_grad()
def next_token_probabilities(model: PreTrainedModel) -> torch.Tensor:
    return model(torch.tensor([TOKENIZER(PROMPT)["input_ids"]])).logits[0, -1].double().softmax(0)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("settings", [{}, *OF_THE_FILE], ids=lambda settings: "+".join(settings) or "none")
def test_samples_have_the_models_probabilities(tmp_path: Path, settings: dict[str, Any], lora: bool) -> None:
    trainer = make_trainer(tmp_path, model_with(settings, lora), top_k=None)
    prompts = [TOKENIZER(PROMPT)["input_ids"]] * NUM_SAMPLES
    torch.manual_seed(0)
    completions = trainer.engine.roll_out(prompts, NUM_SAMPLES)
    counts = torch.bincount(
        torch.tensor([one.ids[0] for one in completions]), minlength=trainer.model.config.vocab_size
    )
    assert_frequencies(counts, next_token_probabilities(trainer.model))


@pytest.mark.parametrize("settings", [OF_THE_FILE[0], OF_THE_FILE[6]], ids=str)
def test_evaluation_samples_the_same(settings: dict[str, Any]) -> None:
    policy = model_with(settings)
    model = TransformersModel(policy, TOKENIZER, AnswerTemplate(), max_completion_length=1, answer_budget=0)
    (completions,) = model.generate([TOKENIZER(PROMPT)["input_ids"]], NUM_SAMPLES, greedy=False, seed=0)
    counts = torch.bincount(torch.tensor([ids[0] for ids in completions]), minlength=policy.config.vocab_size)
    assert_frequencies(counts, next_token_probabilities(policy))


def test_the_log_says_what_is_left_out_of_the_models_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trl_latro")
    make_trainer(tmp_path, model_with({"temperature": 0.6, "top_p": 0.95, "eos_token_id": [0, 1], "use_cache": True}))
    assert "without {'temperature': 0.6, 'top_p': 0.95} of its generation config" in caplog.text
    caplog.clear()
    make_trainer(tmp_path, model_with({"temperature": 1.0, "top_p": 1.0}))
    assert "generation config" not in caplog.text


def test_the_models_own_settings_are_saved_as_they_were(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, model_with({"do_sample": True, "temperature": 0.6}), max_steps=1)
    trainer.train()
    assert trainer.model.generation_config.temperature == 0.6


@pytest.mark.parametrize(
    "kwargs",
    [
        {"do_sample": False},
        {"num_beams": 2},
        {"max_new_tokens": 3},
        {"max_length": 30},
        {"min_new_tokens": 2},
        {"num_return_sequences": 2},
        {"penalty_alpha": 0.6},
        {"stop_strings": ["x"]},
        {"max_time": 1.0},
        {"guidance_scale": 1.5},
        {"forced_eos_token_id": 0},
        {"n": 2},
        {"max_tokens": 3},
        {"ignore_eos": True},
        {"tempreature": 0.5},
    ],
    ids=str,
)
def test_settings_that_do_not_sample_from_the_model_are_refused(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    ((name, value),) = kwargs.items()
    with pytest.raises(ValueError, match=f"`generation_kwargs` has {name}={value!r}".replace("[", r"\[")):
        cpu_config(str(tmp_path), generation_kwargs=kwargs)


@pytest.mark.parametrize("kwargs", [{"typical_p": 0.9}, {"suppress_tokens": [5]}, {"presence_penalty": 0.5}], ids=str)
def test_settings_that_bias_the_samples_are_warned_of(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="distribution.*biased"):
        cpu_config(str(tmp_path), generation_kwargs=kwargs)


@pytest.mark.filterwarnings("error:.*biased")
@pytest.mark.parametrize(
    "kwargs",
    [
        {"do_sample": True, "temperature": 1.0, "top_k": 0},
        {"cache_implementation": "static"},
        {"seed": 3},
        {"disable_compile": False},
    ],
    ids=str,
)
def test_settings_that_change_nothing_are_taken(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    assert isinstance(cpu_config(str(tmp_path), generation_kwargs=kwargs), LaTROConfig)
