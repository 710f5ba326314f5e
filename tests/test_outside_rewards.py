# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Reward functions beside the self-reward: what they are given, what is made of their rewards, and what they log."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification, TrainerCallback
from trl import RLOOConfig, RLOOTrainer

import tiny
from given import SAMPLES, SHARES, TrainerGivenCompletions, cpu_config, perturb, sample_ids, share, snapshot, verdict
from trl_latro import LaTROTrainer
from trl_latro.cli.reward_arguments import find_reward_function
from trl_latro.latro_config import LaTROConfig
from trl_latro.objective import Mixture, assign_credit, likelihood_credit, log_mean_prob
from trl_latro.outside_rewards import AccuracyReward, mix


RLVR = {"self_reward_weight": 0.0, "answer_coef": 0.0}
TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
PROMPT_IDS = [TOKENIZER(prompt)["input_ids"] for prompt, _, _ in SAMPLES]
COMPLETIONS = {
    tuple(ids): [sample_ids(TOKENIZER, *sample) for sample in samples]
    for ids, (_, _, samples) in zip(PROMPT_IDS, SAMPLES, strict=True)
}
ROWS = Dataset.from_list([{"prompt": prompt, "answer": answer} for prompt, answer, _ in SAMPLES])


def given_trainer(
    path: Path, reward_funcs: Any, reward_processing_classes: Any = None, **settings: Any
) -> TrainerGivenCompletions:
    model = tiny.tiny_model(TOKENIZER, initializer_range=0.2)
    args = cpu_config(str(path), max_steps=1, max_grad_norm=0.0, **settings)
    rewards = {"reward_funcs": reward_funcs, "reward_processing_classes": reward_processing_classes}
    return TrainerGivenCompletions(model, args, ROWS, ROWS, TOKENIZER, completions=COMPLETIONS, **rewards)


class Gradient(TrainerCallback):
    """Keeps the gradient of the last step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.of = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class RLOOGivenCompletions(RLOOTrainer):
    """TRL's own trainer with the same completions."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        return [COMPLETIONS[tuple(ids)][k % 4] for k, ids in enumerate(prompt_ids)]


@pytest.mark.parametrize(
    ("functions", "settings"),
    [
        ([verdict], {}),
        ([verdict, share], {"reward_weights": [1.0, 0.5]}),
        ([share], {}),
        ([verdict], {"beta": 0.0, "reward_clip_range": (0.0, 0.5)}),
    ],
    ids=["verdict", "weighed", "some without", "clipped"],
)
def test_without_the_reference_answer_the_gradient_is_that_of_trls_rloo(
    tmp_path: Path, functions: list[Callable], settings: dict[str, Any]
) -> None:
    settings = {"beta": 0.1, **settings}
    tiny.tiny_model(TOKENIZER, initializer_range=0.2).save_pretrained(tmp_path / "model")
    ours = given_trainer(tmp_path, functions, unfinished_penalty=0.0, **RLVR, **settings)
    args = {name: vars(ours.args)[name] for name in ("num_generations", "per_device_train_batch_size", "bf16")}
    args |= {"max_completion_length": 64, "max_steps": 1, "max_grad_norm": 0.0, "disable_dropout": True}
    args |= {"gradient_checkpointing": False, "use_cpu": True, "report_to": "none", "save_strategy": "no"}
    theirs = RLOOGivenCompletions(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32),
        functions,
        RLOOConfig(str(tmp_path), logging_steps=1, **args, **settings),
        ROWS,
        processing_class=TOKENIZER,
    )
    gradients = []
    for trainer in (ours, theirs):
        gradient = Gradient()
        trainer.add_callback(gradient)
        perturb(trainer.model, seed=2)
        trainer.train()
        gradients.append(gradient.of)
    largest = max(g.abs().max() for g in gradients[1].values())
    assert largest > 1e-2, "a gradient of zero proves nothing"
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=0, atol=1e-5 * largest.item())
    logs = [trainer.state.log_history[0] for trainer in (ours, theirs)]
    same = {name for name in logs[1] if name.startswith(("reward", "frac_reward", "completions/m", "kl", "num_tok"))}
    assert {"reward", "reward_std", f"rewards/{functions[0].__name__}/mean"} <= same
    assert "completions/mean_length" in same and ("kl" in same) == (settings["beta"] > 0)
    for name in same - {name for name in same if "terminated" in name}:
        assert logs[0][name] == pytest.approx(logs[1][name], abs=1e-4), name
    assert not [name for name in logs[0] if "answer_logp" in name or "answer_prob" in name]


def mixture_of(successes: list[float], self_weight: float = 0.0) -> Mixture:
    outside = torch.tensor(successes, dtype=torch.double)
    return Mixture(torch.full_like(outside, self_weight), outside, torch.ones_like(outside, dtype=torch.bool))


@pytest.mark.parametrize("successes", [[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], ids=str)
def test_a_verdict_as_a_likelihood_is_maxrl(successes: list[float]) -> None:
    """The mean over the successes of grad log pi, less the mean over all; nothing without success."""
    logits = torch.randn(6, dtype=torch.double, generator=torch.Generator().manual_seed(0)).requires_grad_()
    drawn = [0, 3, 3, 5]

    def grad_of(k: int) -> Tensor:
        return torch.autograd.grad(logits.log_softmax(0)[drawn[k]], logits)[0]

    expected = torch.zeros(6, dtype=torch.double)
    if any(successes):
        of_successes = [grad_of(k) for k in range(4) if successes[k]]
        expected = sum(of_successes) / len(of_successes) - sum(grad_of(k) for k in range(4)) / 4
    zeros = torch.zeros(4, dtype=torch.double)
    credit = assign_credit(
        zeros,
        zeros,
        zeros + 1,
        4,
        of_group=log_mean_prob,
        beta=0.1,
        unfinished_penalty=2.0,
        mixture=mixture_of(successes),
    )
    (found,) = torch.autograd.grad((credit.advantages * logits.log_softmax(0)[drawn]).mean(), logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(credit.rewards, torch.tensor(successes, dtype=torch.double))


def test_likelihoods_too_small_for_a_float_still_have_their_shares() -> None:
    logps = torch.tensor([-900.0, -901.0, -902.0, -999.0], dtype=torch.double)
    _, advantages = likelihood_credit(logps, mixture_of([0, 0, 0, 0], self_weight=1.0), 4)
    torch.testing.assert_close(advantages, 4 * logps.softmax(0) - 1)


def test_the_self_reward_is_left_out_where_something_is_verified() -> None:
    outside = torch.tensor([[0.0, 5.0], [1.0, 0.0], [0.0, 5.0], [math.nan, 5.0]])  # the second one is only logged
    mixture = mix(outside, torch.arange(4), torch.tensor([1.0, 0.0]), 0.5, "unverified", 2)
    assert mixture is not None
    assert mixture.self_weights.tolist() == [0.0, 0.0, 0.5, 0.5]
    assert mixture.outside.tolist() == [0.0, 1.0, 0.0, 0.0]
    always = mix(outside, torch.tensor([2, 3]), torch.ones(2), 0.5, "always", 2)
    assert always is not None and always.self_weights.tolist() == [0.5, 0.5]
    assert mix(None, torch.arange(4), torch.ones(0), 1.0, "always", 2) is None


def test_a_sample_without_any_reward_is_in_no_baseline() -> None:
    outside = torch.tensor([[1.0], [math.nan], [0.0], [math.nan], [3.0], [math.nan]])
    mixture = mix(outside, torch.arange(6), torch.ones(1), 0.0, "always", 3)
    credit = assign_credit(
        torch.zeros(6),
        torch.zeros(6),
        torch.ones(6),
        3,
        of_group=None,
        beta=0.0,
        unfinished_penalty=0.0,
        mixture=mixture,
    )
    assert credit.advantages.tolist() == [1.0, 0.0, -1.0, 0.0, 0.0, 0.0], "one alone in its group has nothing to beat"
    assert credit.rewards.isnan().tolist() == [False, True, False, True, False, True]


def says_more(
    completions: list[Any], note: list[str], log_extra: Callable, log_metric: Callable, **kwargs: Any
) -> list:
    """A reward function that uses all of TRL's ways to log, and a column of the dataset."""
    log_extra("note_seen", note)
    log_metric("longest", max(map(len, completions)))
    return [float(len(completion)) for completion in completions]


def test_what_functions_log_is_in_metrics_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_wandb: None
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    noted = ROWS.add_column("note", list("abc"))
    model = tiny.tiny_model(TOKENIZER, initializer_range=0.2)
    settings = {"log_completions": True, "report_to": "wandb", "eval_strategy": "steps", "eval_steps": 1}
    args = cpu_config(str(tmp_path), max_steps=1, per_device_eval_batch_size=12, **settings)
    functions = [says_more, verdict, share]
    trainer = TrainerGivenCompletions(
        model, args, noted, noted, TOKENIZER, reward_funcs=functions, completions=COMPLETIONS
    )
    trainer.train()
    training, evaluation = trainer.state.log_history[:2]
    shares = torch.tensor([value for of_prompt in SHARES for value in of_prompt if value is not None])
    for logged, prefix in ((training, ""), (evaluation, "eval_")):
        assert logged[f"{prefix}longest"] == len("So the answer is not known") + len("Then add 5. ")
        assert logged[f"{prefix}rewards/verdict/mean"] == pytest.approx(3 / 12)
        assert logged[f"{prefix}rewards/share/mean"] == pytest.approx(shares.mean().item())
        assert logged[f"{prefix}rewards/share/std"] == pytest.approx(shares.std().item())
    table = json.loads(min(tmp_path.glob("wandb/offline-run-*/files/media/table/*.table.json")).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert {row["note_seen"] for row in rows if row["prompt"] == SAMPLES[1][0]} == {"b"}
    of_first = {row["completion"]: row["verdict"] for row in rows if row["prompt"] == SAMPLES[0][0]}
    assert of_first == {"1 + 2 = 3. The answer is": 1.0, "I guess.": 0.0, "First, double it": 0.0, "": 1.0}
    assert {"says_more", "share", "reward", "advantage", "answer_logp"} <= set(table["columns"])


def counted_twice(completions: list[Any], log_extra: Callable, **kwargs: Any) -> list[float]:
    log_extra("count", [1] * (len(completions) + 1))
    return [0.0] * len(completions)


def takes_a_column(completions: list[Any], log_extra: Callable, **kwargs: Any) -> list[float]:
    log_extra("rationale", [1] * len(completions))
    return [0.0] * len(completions)


def infinite(completions: list[Any], **kwargs: Any) -> list[float]:
    return [math.inf] * len(completions)


def too_large(completions: list[Any], **kwargs: Any) -> list[float]:
    return [1.5] * len(completions)


def reward(completions: list[Any], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("functions", "settings", "message"),
    [
        (None, {"self_reward_weight": 0.0}, "`self_reward_weight` is 0, but there are no `reward_funcs`"),
        (None, {"reward_weights": [1.0]}, "there are 0 `reward_funcs`: give each its weight"),
        (None, {"self_reward_when": "unverified"}, "without `reward_funcs` nothing is verified"),
        (None, {"self_reward_weight": 0.5, "reward_type": "jepo"}, "without `reward_funcs` it changes nothing"),
        ([verdict], {"reward_weights": [1.0, 2.0]}, "there are 1 `reward_funcs` \\(verdict\\)"),
        ([verdict], {"reward_weights": [0.0], "self_reward_weight": 0.0}, "no sample would have a reward"),
        ([verdict], {"reward_weights": [-1.0], "reward_type": "jepo"}, "cannot be negative"),
        ([verdict, verdict], {}, "each needs a name of its own"),
        (reward, {}, "'reward' is their sum: rename 'reward'"),
        ([verdict], {"metric_for_best_model": "rewards/verdicts/mean"}, "evaluation logs .*eval_rewards/verdict/mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_combinations_without_meaning_are_refused(
    tmp_path: Path, functions: Any, settings: dict[str, Any], message: str
) -> None:
    settings = {"per_device_eval_batch_size": 12, **settings}
    with pytest.raises(ValueError, match=message):
        given_trainer(tmp_path, functions, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"self_reward_weight": -1.0}, "`self_reward_weight` is -1.0"),
        ({"self_reward_when": "never"}, "must be one of \\['always', 'unverified'\\]"),
        ({"scorer": "engine"}, "must be one of \\['policy', 'reference'\\]"),
        ({"self_reward_weight": 0.0, "self_reward_when": "unverified"}, "no self-reward to add"),
        ({"self_reward_weight": 0.0, "scorer": "reference"}, "no self-reward to score"),
        ({**RLVR, "stop_on_collapse": True}, "no answer is scored"),
        ({**RLVR, "answer_max_length": 8}, "`answer_max_length` is 8, but .* no answer is scored"),
        ({"truncate_answers": True}, "nothing to truncate to"),
        ({"reward_type": "jepo", "reward_clip_range": (0.0, 1.0)}, "cannot be clipped row by row"),
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu_config(str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("function", "settings", "error", "message"),
    [
        (counted_twice, {}, ValueError, "13 values for 12 completions"),
        (takes_a_column, {}, ValueError, "the completions table has this column"),
        (infinite, {}, FloatingPointError, "A reward of `reward_funcs` is not finite in step 1"),
        (too_large, {"reward_type": "jepo"}, ValueError, "'too_large' gives 1.5, but .* from 0 to 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_that_gives_what_cannot_be_used_is_named(
    tmp_path: Path, function: Callable, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    trainer = given_trainer(tmp_path, function, **settings)
    before = snapshot(trainer.model)
    with pytest.raises(error, match=message):
        trainer.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in snapshot(trainer.model).items())


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("by_name", [False, True], ids=["an object", "by name"])
def test_a_reference_that_scores_is_the_initial_model(tmp_path: Path, by_name: bool, beta: float) -> None:
    path = tiny.save_model(TOKENIZER, tmp_path / "model")
    model = path if by_name else AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    args = cpu_config(str(tmp_path), beta=beta, scorer="reference", max_steps=1)
    trainer = LaTROTrainer(model, args, ROWS, processing_class=TOKENIZER)
    assert trainer.args.beta == trainer.beta == beta
    assert trainer.ref_model is not None and trainer.ref_model is not trainer.model
    initial = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).state_dict()
    perturb(trainer.model, seed=1)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert ("kl" in logged) == (beta > 0)
    for name, tensor in trainer.ref_model.state_dict().items():
        torch.testing.assert_close(tensor, initial[name])


ACCURACY = AccuracyReward(TOKENIZER, LaTROConfig("unused", bf16=False, use_cpu=True, report_to="none"))


def test_accuracy_is_that_of_the_completions_own_answer() -> None:
    texts = ["It is 4. The answer is 7.", "The answer is 4.", "So 7.", ""]
    rewards = ACCURACY(
        prompts=["1 + 6?"] * 4, completions=texts, trainer_state=None, answer=["7"] * 4, completion_ids=[[]] * 4
    )
    assert rewards == [1.0, 0.0, 0.0, 0.0]


def test_accuracy_is_looked_for_behind_the_block_of_thinking() -> None:
    chat = tiny.byte_level_tokenizer(num_merges=120, chat=True)
    args = LaTROConfig("unused", bf16=False, use_cpu=True, thinking_tags=["<think>", "</think>"])
    texts = [
        "<think>The answer is 7.</think> The answer is 4.",
        "<think>The answer is 4.</think> So. The answer is 7.",
        "<think>The answer is 7.",
        "The answer is 7.",
    ]
    rewards = AccuracyReward(chat, args)(
        prompts=[[{"role": "user", "content": "1 + 6?"}]] * 4,
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        trainer_state=None,
        answer=["7"] * 4,
    )
    assert rewards == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("by_name", [False, True], ids=["an object", "by name"])
def test_a_reward_model_scores_whole_completions_in_its_own_tokens(tmp_path: Path, by_name: bool) -> None:
    tokenizer = tiny.byte_level_tokenizer()  # not that of the policy
    config = {**tiny.tiny_model(tokenizer, kind="llama").config.to_dict(), "num_labels": 1}
    torch.manual_seed(0)
    LlamaForSequenceClassification(LlamaConfig(**config)).save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    judge = LlamaForSequenceClassification.from_pretrained(tmp_path / "judge", dtype=torch.float32).eval()
    scores = [
        judge(torch.tensor([tokenizer(prompt + text.replace("|", ""))["input_ids"]])).logits.item()
        for prompt, _, samples in SAMPLES
        for text, _ in samples
    ]
    given = str(tmp_path / "judge") if by_name else judge
    trainer = given_trainer(
        tmp_path, [verdict, given], reward_processing_classes=None if by_name else [None, tokenizer]
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["rewards/judge/mean"] == pytest.approx(sum(scores) / 12, abs=1e-5)
    assert logged["rewards/judge/std"] == pytest.approx(torch.tensor(scores).std().item(), abs=1e-5)
    assert logged["rewards/judge/std"] > 1e-2 and logged["rewards/verdict/mean"] == pytest.approx(3 / 12)


@pytest.mark.parametrize(
    ("functions", "processing", "message"),
    [
        (["accuracy"], None, "`reward_funcs` has 'accuracy', which should be .* a reward model, but cannot be read"),
        ([verdict, share], TOKENIZER, "`reward_processing_classes` has 1 tokenizers, but there are 2 `reward_funcs`"),
        (None, [TOKENIZER], "`reward_processing_classes` has 1 tokenizers, but there are 0 `reward_funcs`"),
    ],
    ids=["no model", "too few", "without functions"],
)
def test_reward_models_that_cannot_be_are_refused(
    tmp_path: Path, functions: Any, processing: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        given_trainer(tmp_path, functions, reward_processing_classes=processing)


def test_completions_go_on_to_their_answer_for_functions(tmp_path: Path) -> None:
    seen: list[tuple[str, list[int]]] = []

    def watch(completions: list[str], completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        seen.extend(zip(completions, completion_ids, strict=True))
        return [0.0] * len(completions)

    model = tiny.tiny_model(TOKENIZER, initializer_range=0.2)
    args = cpu_config(str(tmp_path), max_steps=1, max_completion_length=8, rationale_stop_strings=["e"])
    trainer = LaTROTrainer(model, args, ROWS, processing_class=TOKENIZER, reward_funcs=watch)
    trainer.train()
    behind = [text.partition("e")[2] for text, _ in seen if "e" in text]
    assert len(seen) == 12 and any(behind), "nothing came after a stop string"
    unfinished = [len(ids) for text, ids in seen if "e" not in text and ids[-1] != TOKENIZER.eos_token_id]
    assert set(unfinished) == {8}, "they end at the length limit"


def tenths(completions: list[str], log_metric: Callable, **kwargs: Any) -> list[float]:
    log_metric("longest", max(map(len, completions)))
    return [len(completion) / 10 for completion in completions]


async def vowels(completions: list[str], **kwargs: Any) -> list[float | None]:
    """Not of every sample."""
    return [sum(map(text.count, "aeiou")) if len(text) % 3 else None for text in completions]


@pytest.mark.parametrize("settings", [{}, {"steps_per_generation": 2}, RLVR], ids=str)
def test_a_resumed_training_with_rewards_from_outside_ends_as_one_never_stopped(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """The checkpoint lies between two lines of the log, and in the second case between steps on samples drawn together."""
    settings = {"self_reward_weight": 0.5, "reward_weights": [1.0, 0.5], **settings}
    trainers = []
    for name in ("whole", "resumed"):
        args = cpu_config(
            str(tmp_path / name),
            **{"per_device_train_batch_size": 4, "max_completion_length": 8, "max_steps": 4, "logging_steps": 2},
            **{"save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-2, **settings},
        )
        functions, data = [tenths, vowels], tiny.tiny_dataset(8)
        model = tiny.tiny_model(TOKENIZER)
        trainers.append(LaTROTrainer(model, args, data, processing_class=TOKENIZER, reward_funcs=functions))
    whole, resumed = trainers
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for name, tensor in snapshot(whole.model).items():
        torch.testing.assert_close(snapshot(resumed.model)[name], tensor, rtol=0, atol=0)
    logs = [
        {name: value for name, value in trainer.state.log_history[1].items() if name != "step_time"}
        for trainer in trainers
    ]
    assert logs[0] == logs[1] and {"longest", "rewards/tenths/mean", "rewards/vowels/mean"} <= logs[0].keys()


def test_a_reward_function_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_of_my_own.py").write_text(
        "def short(completions, **kwargs):\n    return [-len(c) for c in completions]\n"
        "def one(completion):\n    return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find_reward_function("rewards_of_my_own.short")(completions=["abc"]) == [-3]
    for name, message in {
        "short": "reward_funcs is 'short', but should be 'accuracy' or 'module.function'",
        "rewards_of_my_own.long": "has no 'long'",
        "rewards_of_my_own.one": "whose arguments are \\(completion\\), but it should take completions and more",
        "builtins.eval": "belongs to Python itself",
    }.items():
        with pytest.raises(ValueError, match=message):
            find_reward_function(name)
