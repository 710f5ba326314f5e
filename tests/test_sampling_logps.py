# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Engines that give the log-probs of what they sample."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from given import SAMPLES, TrainerGivenCompletions, cpu_config, perturb, sample_ids, snapshot
from trl_latro.rollout.engine import Sampled


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)


def make_trainer(path: Path, sampled_by_another: bool = True, **settings: Any) -> TrainerGivenCompletions:
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer, _ in SAMPLES]
    completions = {
        tuple(TOKENIZER(prompt)["input_ids"]): [sample_ids(TOKENIZER, *sample) for sample in samples]
        for prompt, _, samples in SAMPLES
    }
    args = cpu_config(str(path), **{"beta": 0.0, "max_steps": 1, "learning_rate": 1e-2, **settings})
    trainer = TrainerGivenCompletions(
        tiny.tiny_model(TOKENIZER),
        args,
        tiny.Dataset.from_list(rows),
        processing_class=TOKENIZER,
        completions=completions,
    )
    if sampled_by_another:
        trainer.engine.sampler = tiny.tiny_model(TOKENIZER)
        perturb(trainer.engine.sampler, seed=1, size=0.02)
    return trainer


def change_first_logp(trainer: TrainerGivenCompletions, logp: Any) -> None:
    """Of the first completion, which is of the first prompt that is drawn."""
    generate = trainer.engine.generate

    def changed(*args: Any) -> list[Sampled]:
        first, *others = generate(*args)
        assert first.logps is not None
        return [Sampled(first.ids, [logp, *first.logps[1:]]), *others]

    trainer.engine.generate = changed


def names(trainer: TrainerGivenCompletions) -> set[str]:
    return {name for name in trainer.state.log_history[0] if "sampling" in name}


def test_without_log_probs_nothing_is_logged_or_corrected(tmp_path: Path) -> None:
    states = []
    for correction in (True, False):
        trainer = make_trainer(tmp_path, False, vllm_importance_sampling_correction=correction)
        trainer.train()
        assert names(trainer) == set()
        states.append(snapshot(trainer.model))
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)


def test_an_engine_with_the_policys_own_log_probs_has_ratios_of_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.engine.sampler = trainer.model
    trainer.train()
    logged = trainer.state.log_history[0]
    assert len(names(trainer)) == 5
    assert logged["latro/sampling_logp_difference/max"] < 1e-4
    for which in ("min", "mean", "max"):
        assert logged[f"latro/importance_sampling_ratio/{which}"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("batches", [{}, {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}])
@pytest.mark.parametrize("logp", [None, float("-inf")])
def test_a_log_prob_that_is_not_finite_ends_training(
    tmp_path: Path, logp: float | None, batches: dict[str, int], correction: bool
) -> None:
    """It comes from logits that were not finite: the samples are of no model, corrected or not."""
    trainer = make_trainer(tmp_path, vllm_importance_sampling_correction=correction, **batches)
    change_first_logp(trainer, logp)
    with pytest.raises(
        FloatingPointError,
        match="A log-prob of a sampled token, as the engine gives it, is not finite in step 1, from 1 pr",
    ):
        trainer.train()


@pytest.mark.parametrize("logp", [None, float("-inf")])
def test_a_step_with_a_log_prob_that_is_not_finite_is_skipped_where_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, logp: float | None
) -> None:
    trainer = make_trainer(tmp_path, skip_nonfinite_steps=True)
    before = snapshot(trainer.model)
    change_first_logp(trainer, logp)
    trainer.train()
    assert "A log-prob of a sampled token, as the engine gives it, is not finite in step 1" in caplog.text
    for name, tensor in snapshot(trainer.model).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_token_that_the_engine_finds_all_but_impossible_is_truncated(tmp_path: Path) -> None:
    """vLLM's server has -9999 for a log-prob of minus infinity; the ratio is then infinite in float32."""
    trainer = make_trainer(tmp_path)
    change_first_logp(trainer, -9999.0)
    trainer.train()
    assert trainer.state.log_history[0]["latro/importance_sampling_ratio/max"] == 3.0
    assert trainer.state.log_history[0]["latro/sampling_logp_difference/max"] > 9000


def test_a_resumed_run_goes_on_with_the_ratios_of_its_samples(tmp_path: Path) -> None:
    """The second step has samples that were drawn before the checkpoint."""
    settings = {
        "per_device_train_batch_size": 6,
        "steps_per_generation": 2,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    trainer = make_trainer(tmp_path, **settings)
    trainer.train()
    plain = make_trainer(tmp_path / "plain", vllm_importance_sampling_correction=False, **settings)
    plain.train()
    resumed = make_trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    state = snapshot(trainer.model)
    for name, tensor in snapshot(resumed.model).items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)
    assert any(not torch.equal(tensor, state[name]) for name, tensor in snapshot(plain.model).items())


def test_the_log_says_what_the_reward_is_about_where_it_is_not_the_papers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "The reward is about the answer alone"
    make_trainer(tmp_path)
    assert said not in caplog.text
    make_trainer(tmp_path, reward_type="prob")
    assert caplog.text.count(said) == 1
