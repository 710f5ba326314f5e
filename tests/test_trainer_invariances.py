# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What must not change the result does not, and what a run promises to write it writes."""

import json
import math
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from datasets import Dataset
from huggingface_hub import ModelCard
from peft import get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

import tiny
from given import (
    END,
    SAMPLES,
    TrainerGivenCompletions,
    cpu_config,
    lora_config,
    perturb,
    sample_ids,
    scored_completions,
    snapshot,
    watch_completions,
)
from reference import surprise
from trl_latro import LaTROTrainer


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
INPUTS = [{"prompt": prompt, "answer": answer} for prompt, answer, _ in SAMPLES]


def model_at(path: Path, tokenizer: PreTrainedTokenizerFast = TOKENIZER, **overrides: Any) -> PreTrainedModel:
    """A tiny model that was loaded from `path`: where the trainer loads its reference model from."""
    if not (path / "config.json").exists():
        tiny.tiny_model(tokenizer, **{"initializer_range": 0.2, **overrides}).save_pretrained(path)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def trainer_given_samples(
    path: Path, tokenizer: PreTrainedTokenizerFast = TOKENIZER, model: nn.Module | None = None, **settings: Any
) -> TrainerGivenCompletions:
    """A trainer on `SAMPLES`, its policy moved away from the reference model."""
    completions = {
        tuple(tokenizer(prompt)["input_ids"]): [sample_ids(tokenizer, text, how) for text, how in samples]
        for prompt, _, samples in SAMPLES
    }
    trainer = TrainerGivenCompletions(
        model_at(path, tokenizer) if model is None else model,
        cpu_config(str(path), **settings),
        Dataset.from_list(INPUTS),
        processing_class=tokenizer,
        completions=completions,
    )
    perturb(trainer.model, seed=1)
    return trainer


def sampling_trainer(path: Path, **arguments: Any) -> LaTROTrainer:
    """A trainer that really samples. Stop strings of one or two letters, so that a tiny model writes them often."""
    settings = {
        "max_completion_length": 8,
        "answer_template": "e: {answer}",
        "rationale_stop_strings": ["e", "t "],
        "max_steps": 2,
        "learning_rate": 1e-3,
        **arguments.pop("settings", {}),
    }
    model = arguments.pop("model", None)
    dataset = arguments.pop("train_dataset", tiny.tiny_dataset(8))
    return LaTROTrainer(
        model_at(path) if model is None else model,
        cpu_config(str(path), **settings),
        dataset,
        processing_class=TOKENIZER,
        **arguments,
    )


def repeated(inputs: list[Any], times: int = 4) -> list[Any]:
    return [row for row in inputs for _ in range(times)]


def compare_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


# ---- what must not change the result ----


@pytest.mark.parametrize(("kind", "pad_is_eos"), [("qwen2", False), ("gpt2", True)])
def test_a_prompt_is_scored_alone_as_beside_longer_ones(tmp_path, kind, pad_is_eos):
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, pad_is_eos=pad_is_eos)
    trainer = trainer_given_samples(tmp_path, tokenizer, model_at(tmp_path, tokenizer, kind=kind))
    together = scored_completions(trainer, repeated(INPUTS))
    for i, row in enumerate(INPUTS):
        alone = scored_completions(trainer, repeated([row]))
        rows = slice(4 * i, 4 * i + 4)
        for name in ("old_logps", "advantages"):
            torch.testing.assert_close(alone[name], together[name][rows], rtol=1e-5, atol=1e-5)
        width = alone["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask", "rationale_mask", "answer_mask", "answer_weights"):
            torch.testing.assert_close(alone[name], together[name][rows, : alone[name].shape[1]], msg=name)
        assert not together["attention_mask"][rows, width:].any()
    assert together["attention_mask"].sum(1).unique().numel() > 6, "rows of one length would prove nothing"


def test_pad_to_multiple_of_changes_shapes_only(tmp_path):
    widths, states, losses = [], [], []
    for multiple in (None, 64):
        trainer = trainer_given_samples(
            tmp_path, pad_to_multiple_of=multiple, share_prompts=False, max_steps=2, optim="sgd"
        )
        trainer.model.register_forward_pre_hook(
            lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        trainer.train()
        states.append(snapshot(trainer.model))
        losses.append([log["loss"] for log in trainer.state.log_history[:-1]])
    assert set(widths[len(widths) // 2 :]) == {64}
    assert 64 not in widths[: len(widths) // 2]
    compare_states(*states, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*map(torch.tensor, losses))


@pytest.mark.parametrize(
    "reward",
    [
        {"reward_type": "logprob"},
        {"reward_type": "jepo"},
        {"reward_type": "jepo", "jepo_floor": 1e-20},
        {"reward_type": "power", "reward_power": 0.1, "reward_power_end": 0.02},
    ],
    ids=str,
)
def test_accumulation_changes_nothing(tmp_path, reward):
    """4 micro-batches of 1, 2 of 2, and 1 of 4 make the same two updates."""
    names = ("loss", "grad_norm", "reward", "kl", "latro/policy_loss", "latro/answer_loss", "latro/answer_logp")
    states, logs = [], []
    for rows, accumulation in ((1, 4), (2, 2), (4, 1)):
        trainer = trainer_given_samples(
            tmp_path,
            **reward,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            optim="sgd",
            learning_rate=1e-2,
        )
        start = snapshot(trainer.model)
        trainer.train()
        states.append(snapshot(trainer.model))
        logs.append([[log[name] for name in names] for log in trainer.state.log_history[:-1]])
    assert any((states[0][name] - start[name]).abs().max() > 1e-3 for name in start), "nothing moved"
    for state, log in zip(states[1:], logs[1:], strict=True):
        compare_states(state, states[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.tensor(log), torch.tensor(logs[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "more"),
    [
        (8, {}),
        (5, {}),
        # A generation batch lasts for four updates, a line of the log for three
        (16, {"steps_per_generation": 4, "num_iterations": 2, "logging_steps": 3, "gradient_accumulation_steps": 2}),
        (8, {"reward_type": "power", "reward_power": 0.4, "reward_power_end": 0.1}),
    ],
    ids=["within an epoch", "after the first epoch", "within a generation batch", "a schedule of the reward"],
)
@pytest.mark.parametrize("several", [False, True], ids=["one answer", "several answers"])
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, prompts, more, several):
    """Really sampling, with an evaluation between; two prompts make an update."""
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 4}
    settings |= {
        "gradient_accumulation_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "reward_type": "prob",
    } | more

    def run(checkpoint: str | None) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        trainer = sampling_trainer(
            tmp_path,
            train_dataset=tiny.tiny_dataset(prompts, several_answers=several),
            eval_dataset=tiny.tiny_dataset(2, several_answers=several),
            settings=settings,
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        # times, and the mean loss of the updates that this process made
        left_out = ("runtime", "per_second", "step_time", "total_flos", "train_loss")
        history = [
            {name: value for name, value in log.items() if not any(word in name for word in left_out)}
            for log in trainer.state.log_history
        ]
        return history, snapshot(trainer.model)

    history, state = run(None)
    resumed_history, resumed_state = run(str(tmp_path / "checkpoint-2"))
    assert len(history) == (1 if "logging_steps" in more else 4) + 3  # updates, two evaluations, the end
    assert resumed_history == history
    compare_states(resumed_state, state, rtol=0, atol=0)


def test_the_power_of_the_reward_goes_linearly_over_the_steps_and_evaluation_takes_the_present_one(tmp_path):
    settings = {"reward_type": "power", "reward_power": 0.4, "reward_power_end": 0.0, "unfinished_penalty": 0.0}
    settings |= {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 2}
    settings |= {"num_generations_eval": 1, "per_device_eval_batch_size": 1}
    trainer = sampling_trainer(tmp_path, eval_dataset=tiny.tiny_dataset(1), settings=settings)
    evaluations = [trainer.evaluate()]  # before the training
    trainer.train()
    log = trainer.state.log_history
    evaluations += [one for one in log if "eval_reward" in one]
    assert [one["latro/reward_power"] for one in log if "loss" in one] == pytest.approx(
        [0.35, 0.15]
    )  # of two steps each
    for one, tau in zip(evaluations, (0.4, 0.3, 0.2, 0.1, 0.0), strict=True):
        p = one["eval_latro/answer_prob"]  # of the one sample
        assert 0 < p < 0.1
        assert one["eval_reward"] == pytest.approx((p**tau - 1) / tau if tau > 0 else math.log(p), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_scoring_leaves_parameters_and_random_state_alone(tmp_path, beta):
    trainer = trainer_given_samples(tmp_path, beta=beta)
    before = snapshot(trainer.model)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    trainer.model.train()
    batch = scored_completions(trainer, repeated(INPUTS))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])
    compare_states(snapshot(trainer.model), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.model.training
    assert not any(value.requires_grad for value in batch.values())


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_kl_is_zero_at_the_first_step(tmp_path, kind):
    trainer = sampling_trainer(tmp_path, model=model_at(tmp_path, kind=kind), settings={"beta": 0.1})
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(trainer.state.log_history[1]["kl"]) > 1e-6, "after an update it is not"


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_kl_of_a_new_adapter_is_zero_at_the_first_step(tmp_path, dropout):
    trainer = sampling_trainer(tmp_path, peft_config=lora_config(dropout), settings={"beta": 0.1})
    trainer.train()
    assert trainer.ref_model is None
    assert trainer.state.log_history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(trainer.state.log_history[1]["kl"]) > 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_kl_of_a_given_adapter_is_zero_at_the_first_step(tmp_path, dropout):
    """The reference of a given adapter is its own first copy. Its weights are not zero, so dropout would show."""
    model = get_peft_model(model_at(tmp_path), lora_config(dropout))
    perturb(model, seed=3)
    trainer = sampling_trainer(tmp_path, model=model, settings={"beta": 0.1})
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(trainer.state.log_history[1]["kl"]) > 1e-6


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(
    ("settings", "policy_passes"),
    [
        ({}, 1),
        ({"normalize_advantages": True}, 2),
        ({"num_iterations": 2}, 2),
        ({"share_prompts": False}, 2),
    ],
    ids=["scored in the loss", "normalized", "two iterations", "separate rows"],
)
def test_an_update_makes_one_policy_pass_where_it_can_and_one_reference_pass(tmp_path, beta, settings, policy_passes):
    # The monitor scores some answers without a rationale, beside the update
    trainer = trainer_given_samples(tmp_path, beta=beta, max_steps=1, monitor_collapse=False, **settings)
    passes = {"policy": 0, "reference": 0}
    trainer.model.register_forward_pre_hook(lambda *_: passes.update(policy=passes["policy"] + 1))
    assert (trainer.ref_model is None) == (beta == 0.0)
    if beta != 0.0:
        trainer.ref_model.register_forward_pre_hook(lambda *_: passes.update(reference=passes["reference"] + 1))
    trainer.train()
    assert passes["policy"] == policy_passes
    assert passes["reference"] == (beta != 0.0)
    assert ("kl" in trainer.state.log_history[0]) == (beta != 0.0)


def test_dropout_is_off(tmp_path):
    model = model_at(tmp_path, kind="gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    trainer = trainer_given_samples(tmp_path, model=model)
    assert trainer.args.disable_dropout
    trainer.model.train()
    first = scored_completions(trainer, repeated(INPUTS))
    second = scored_completions(trainer, repeated(INPUTS))
    torch.testing.assert_close(first["old_logps"], second["old_logps"], rtol=0, atol=0)


# ---- sampling ----


@pytest.mark.parametrize("evaluating", [False, True])
def test_sampling_ends_with_the_token_that_completes_a_stop_string(tmp_path, evaluating):
    limit = 6
    settings = {"max_completion_length": limit, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32}
    trainer = sampling_trainer(tmp_path, settings=settings)
    trainer.model.train(not evaluating)
    completions = watch_completions(trainer)
    batch = scored_completions(trainer, repeated(list(tiny.tiny_dataset(8))))
    sampled = [completion.sampled_ids for completion in completions]
    stops, ended, unfinished = trainer.args.rationale_stop_strings, 0, 0
    for ids, kept in zip(sampled, batch["rationale_mask"].sum(1).tolist(), strict=True):
        end = ids[-1] == TOKENIZER.eos_token_id
        text_ids = ids[:-1] if end else ids
        assert len(text_ids) <= limit
        assert TOKENIZER.eos_token_id not in text_ids
        assert not any(stop in TOKENIZER.decode(text_ids[:-1]) for stop in stops), "it went on after the stop string"
        if any(stop in TOKENIZER.decode(text_ids) for stop in stops):
            ended += 1
            assert kept < len(text_ids)
        elif not end:
            unfinished += 1
            assert len(ids) == kept == limit, "it ended without a reason"
    assert ended >= 8, "too few reached a stop string to prove anything"
    assert len({len(ids) for ids in sampled}) > 3
    columns = trainer._rollouts["eval" if evaluating else "train"].scored().columns
    assert columns.finished.mean().item() == pytest.approx(1 - unfinished / 32)
    assert columns.sampled_lengths.max() <= limit, "more tokens were counted than were sampled"


def test_samples_of_a_prompt_differ_and_the_seed_decides(tmp_path):
    def sampled(seed: int) -> list[list[int]]:
        trainer = sampling_trainer(tmp_path, settings={"seed": seed, "max_steps": 1})
        completions = watch_completions(trainer)
        trainer.train()
        return [completion.sampled_ids for completion in completions]

    first = sampled(1)
    assert len({tuple(ids) for ids in first}) > 6
    assert sampled(1) == first
    assert sampled(2) != first


# ---- evaluation, datasets, logs, files ----

METRICS = [
    "reward",
    "kl",
    "entropy",
    "completions/mean_length",
    "completions/min_length",
    "completions/max_length",
    "latro/answer_logp",
    "latro/answer_prob",
    "latro/answer_prob_if_right",
    "latro/multi_sample_bound",
    "latro/policy_loss",
    "latro/answer_loss",
    "latro/finished_ratio",
    "latro/length_reward_corr",
]


def test_every_metric_is_logged_in_training_and_in_evaluation(tmp_path):
    settings = {"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8}
    trainer = sampling_trainer(tmp_path, eval_dataset=tiny.tiny_dataset(3), settings=settings)
    trainer.train()
    training, evaluation = trainer.state.log_history[:2]
    for name in METRICS:
        assert isinstance(training[name], float), name
        assert isinstance(evaluation[f"eval_{name}"], float), name
    assert evaluation["eval_reward"] != training["reward"]
    assert 0 <= training["latro/finished_ratio"] <= 1
    assert 0 < training["latro/answer_prob"] < 1
    assert -1 <= training["latro/length_reward_corr"] <= 1
    assert training["entropy"] > 0


def test_evaluation_with_a_single_generation(tmp_path):
    settings = {"num_generations_eval": 1, "per_device_eval_batch_size": 3}
    trainer = sampling_trainer(tmp_path, eval_dataset=tiny.tiny_dataset(3), settings=settings)
    metrics = trainer.evaluate()
    assert np.isfinite(metrics["eval_reward"])
    assert np.isfinite(metrics["eval_latro/answer_logp"])


@pytest.mark.parametrize("metric", ["reward", "latro/answer_logp"])
def test_the_best_model_is_chosen_by_a_metric_of_the_evaluation(tmp_path, metric):
    settings = {
        "max_steps": 3,
        "learning_rate": 3e-2,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": True,
    }
    trainer = sampling_trainer(tmp_path, eval_dataset=tiny.tiny_dataset(2), settings=settings)
    trainer.train()
    values = {log["step"]: log[f"eval_{metric}"] for log in trainer.state.log_history if f"eval_{metric}" in log}
    best = max(values, key=values.__getitem__)
    assert len(set(values.values())) == 3
    assert trainer.state.best_metric == values[best]
    assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{best}"
    saved = AutoModelForCausalLM.from_pretrained(trainer.state.best_model_checkpoint, dtype=torch.float32)
    compare_states(snapshot(saved), snapshot(trainer.model), rtol=0, atol=0)


def test_iterable_datasets_train_and_evaluate_as_the_others(tmp_path):
    trainer = sampling_trainer(
        tmp_path,
        train_dataset=tiny.tiny_dataset(8).to_iterable_dataset(),
        eval_dataset=tiny.tiny_dataset(2).to_iterable_dataset(),
        settings={"eval_strategy": "steps", "eval_steps": 2},
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert any("eval_reward" in log for log in trainer.state.log_history)
    prompts = list(trainer._logs["prompt"])[-8:]  # the evaluation's
    assert prompts == repeated([prompts[0], prompts[4]]), "the samples of a prompt stand together"


def test_unused_columns_may_be_there_or_be_removed(tmp_path):
    dataset = tiny.tiny_dataset(4).add_column("note", list("abcd"))
    for remove in (False, True):
        settings = {"max_steps": 1, "remove_unused_columns": remove}
        trainer = sampling_trainer(tmp_path, train_dataset=dataset, settings=settings)
        trainer.train()
        assert "latro/answer_logp" in trainer.state.log_history[0]


def test_completions_table(tmp_path, monkeypatch, capsys, own_wandb):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("COLUMNS", "400")  # so that rich does not break the texts
    trainer = trainer_given_samples(tmp_path, max_steps=1, log_completions=True, report_to="wandb")
    trainer.train()
    wandb.finish()  # it may still be writing

    tables = list(tmp_path.glob("wandb/offline-run-*/files/media/table/completions_*.table.json"))
    table = json.loads(min(tables).read_text())  # of the update: TRL writes it again at the end
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 12
    assert {row["step"] for row in rows} == {1}
    assert {"prompt", "rationale", "answer", "answer_logp", "reward", "advantage"} <= set(table["columns"])
    prompt, answer, samples = SAMPLES[0]
    seen = {row["rationale"]: row for row in rows if row["prompt"] == prompt}
    row = seen["I guess."]
    assert samples[1] == ("I gu|ess.", END)
    assert row["answer"] == answer
    assert row["answer_logp"] < 0
    assert row["reward"] == pytest.approx(row["answer_logp"], rel=1e-5), "finished: no penalty, and no KL in it"
    assert seen["First, double it"]["reward"] == pytest.approx(seen["First, double it"]["answer_logp"] - 2, rel=1e-5)
    assert sum(row["advantage"] for row in seen.values()) == pytest.approx(0, abs=1e-3)
    assert "First, double it" in capsys.readouterr().out, "rich prints the table too"


def test_model_card(tmp_path):
    trainer = sampling_trainer(tmp_path, settings={"max_steps": 1, "save_strategy": "steps", "save_steps": 1})
    trainer.train()
    card = ModelCard.load(tmp_path / "README.md")
    assert {"trl", "latro"} <= set(card.data.tags)
    assert "rloo" not in card.data.tags
    assert "LaTRO" in card.text
    assert "2411.04282" in card.text
    assert "RLOO" not in card.text
    assert "2402.14740" not in card.text, "the paper of RLOO"
    assert {"trl", "latro"} <= set(trainer.model.model_tags)


def test_the_card_of_a_local_model_says_so_and_shows_names_as_they_are(tmp_path):
    folder = tmp_path / "[run](x) <b> `1`"
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = sampling_trainer(folder, settings=settings)
    trainer.train()
    text = (folder / "README.md").read_text()
    assert "None" not in text
    assert "fine-tuned version of a model that is not on the Hub" in text
    assert r"# Model Card for \[run\]\(x\) \<b\> \`1\`" in text
    assert 'model="[run](x) <b> `1`"' in text


def test_a_reward_of_the_users_own_trains_and_is_saved(tmp_path):
    settings = {"reward_type": surprise, "max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = sampling_trainer(tmp_path, settings=settings)
    trainer.train()
    assert np.isfinite(trainer.state.log_history[0]["reward"])
    args = torch.load(tmp_path / "checkpoint-1" / "training_args.bin", weights_only=False)
    assert args.reward_type is surprise
    assert "surprise" in json.loads(args.to_json_string())["reward_type"]
    assert "surprise" in args.to_sanitized_dict()["reward_type"]


def test_the_hubs_token_is_neither_saved_nor_reported(tmp_path):
    args = cpu_config(str(tmp_path), hub_token="hf_secret")
    assert args.hub_token == "hf_secret"
    saved = pickle.dumps(args)
    assert b"hf_secret" not in saved
    assert pickle.loads(saved).output_dir == args.output_dir
    assert "hf_secret" not in args.to_json_string()
