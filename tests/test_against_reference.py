# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Whole updates of the trainer agree with the slow reference of `reference.py`.

Only the sampling is replaced: the completions are written down below. Everything that follows from them (rewards,
advantages, KL, answer log-probs, and the parameter gradient of every update) is compared at float32 precision. The
policy is moved away from the reference model before the first update, so that the KL is not zero.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

import reference
import tiny
from given import (
    END,
    LIMIT,
    NUM_GENERATIONS,
    OTHER_END,
    SAMPLES,
    SHARES,
    STOP,
    VERDICTS,
    Generation,
    TrainerGivenCompletions,
    cpu_config,
    lora_config,
    perturb,
    sample_ids,
    share,
    snapshot,
    verdict,
)
from reference import Row, Scores, Settings


TOLERANCE = 1e-5
ALL_TOKENS, ANSWER_TOKENS = "template_and_answer", "answer"
DEFAULT_TOKENS: dict[Any, str] = dict.fromkeys(("prob", "mean_prob", "geometric_mean", "power"), ANSWER_TOKENS)


@dataclass
class Case:
    """One configuration to compare: what differs from the plainest one."""

    config: dict[str, Any] = field(default_factory=dict)
    kind: str = "qwen2"
    conversational: bool = False
    pad_is_eos: bool = False
    several_end_tokens: bool = False
    adapter: str | None = None  # "new" (peft_config) or "given" (a PeftModel)
    answers: list[Any] | None = None  # for each prompt, instead of those of given.py
    reward_funcs: list[Callable] = field(default_factory=list)  # `verdict` and `share` of given.py
    engine_logps: bool = False  # the completions come from a model near the policy, with its log-probs
    steps: int = 1
    must_clip: bool = False


@dataclass
class Update:
    """One optimizer step: the parameters before it, its gradient, the ids of its rows, and what was logged."""

    policy: dict[str, torch.Tensor]
    gradient: dict[str, torch.Tensor]
    rows: list[tuple[int, ...]]
    generation: int
    logs: dict[str, list[float]]


class Recorder(TrainerCallback):
    """Watches the trainer from outside: the rows of the losses, gradients before the optimizer step."""

    def __init__(self, trainer: TrainerGivenCompletions):
        self.trainer = trainer
        self.updates: list[Update] = []
        self.rows: list[tuple[int, ...]] = []
        compute_loss = trainer.compute_loss

        def see_rows(model, inputs, **kwargs):
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
                self.rows.append(tuple(ids[mask.bool()].tolist()))
            return compute_loss(model, inputs, **kwargs)

        trainer.compute_loss = see_rows

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        logs = {
            "reward": list(self.trainer._logs["rewards"]["reward"]),
            "advantage": list(self.trainer._logs["advantages"]),
            "answer_logp": list(self.trainer._logs["extra"]["answer_logp"]),
        }
        generation = len(self.trainer.engine.generations) - 1
        self.updates.append(Update(snapshot(model), gradient, self.rows, generation, logs))
        self.rows = []


@dataclass
class Run:
    """A finished training run with what is needed to repeat it slowly."""

    trainer: TrainerGivenCompletions
    updates: list[Update]
    policy_with: Callable[[dict[str, torch.Tensor]], nn.Module]
    reference_model: nn.Module | None
    tokenizer: PreTrainedTokenizerFast
    answers: dict[tuple[int, ...], str | list[str]]
    end_of_turn_id: int
    settings: Settings
    sampler: nn.Module | None
    given: dict[tuple[int, ...], list[list[float | None]] | None]  # rewards of functions


def train(case: Case, path: str) -> Run:
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, pad_is_eos=case.pad_is_eos, chat=case.conversational)
    if case.several_end_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": [tiny.END_OF_TURN]})
    model = tiny.tiny_model(tokenizer, kind=case.kind, initializer_range=0.2)
    end_token_ids = [tokenizer.eos_token_id]
    if case.conversational or case.several_end_tokens:
        end_token_ids.append(tokenizer.convert_tokens_to_ids(tiny.END_OF_TURN))
    model.generation_config = GenerationConfig(eos_token_id=end_token_ids)
    model.save_pretrained(path)

    prompts: list[Any] = [prompt for prompt, _, _ in SAMPLES]
    if case.conversational:
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
        all_ids = [tokenizer.apply_chat_template(p, add_generation_prompt=True)["input_ids"] for p in prompts]
    else:
        all_ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    completions, answers = {}, {}
    of_prompts = case.answers or [answer for _, answer, _ in SAMPLES]
    for ids, answer, (_, _, samples) in zip(all_ids, of_prompts, SAMPLES, strict=True):
        ends = itertools.cycle([END, OTHER_END] if len(end_token_ids) > 1 else [END])
        completions[tuple(ids)] = [
            sample_ids(tokenizer, text, next(ends) if how == END else how) for text, how in samples
        ]
        answers[tuple(ids)] = answer

    settings = {"beta": 0.1, "reward_type": "logprob", **case.config}
    settings.setdefault("per_device_train_batch_size", 6)
    settings.setdefault("gradient_accumulation_steps", 2)
    args = cpu_config(
        path,
        learning_rate=2e-3,
        max_grad_norm=0.0,
        max_steps=case.steps,
        gradient_checkpointing=True,  # TRL's default
        **settings,
    )

    def fresh() -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    policy: Any = fresh()
    if case.adapter == "given":
        policy = get_peft_model(policy, lora_config())
        perturb(policy, seed=1)
        first_adapter = snapshot(policy)

    def policy_with(state: dict[str, torch.Tensor]) -> nn.Module:
        """The model as it was built, but for the trainer's own changes to it, with the given parameters."""
        model = fresh() if case.adapter is None else get_peft_model(fresh(), lora_config())
        model.load_state_dict({name: tensor for name, tensor in state.items() if ".ref." not in name})
        return model.double().eval()

    trainer = TrainerGivenCompletions(
        policy,
        args,
        Dataset.from_dict({"prompt": prompts, "answer": of_prompts}),
        processing_class=tokenizer,
        peft_config=lora_config() if case.adapter == "new" else None,
        completions=completions,
        reward_funcs=case.reward_funcs,
    )
    perturb(trainer.model, seed=2)
    if case.engine_logps:
        trainer.engine.sampler = policy_with(snapshot(trainer.model)).float()
        perturb(trainer.engine.sampler, seed=3, size=0.04)
    recorder = Recorder(trainer)
    trainer.add_callback(recorder)
    trainer.train()

    template = settings.get("answer_template", "The answer is {answer}.")
    reference_model = policy_with(first_adapter) if case.adapter == "given" else fresh().double().eval()
    return Run(
        trainer,
        recorder.updates,
        policy_with,
        None if settings["beta"] == 0 and settings.get("scorer") is None else reference_model,
        tokenizer,
        answers,
        end_token_ids[-1] if case.conversational else tokenizer.eos_token_id,
        Settings(
            reward_type=settings["reward_type"],
            reward_power=settings.get("reward_power", 0.5),
            reward_power_end=settings.get("reward_power_end"),
            jepo_floor=settings.get("jepo_floor", 0.0),
            reward_tokens=settings.get("reward_tokens") or DEFAULT_TOKENS.get(settings["reward_type"], ALL_TOKENS),
            answer_coef=settings.get("answer_coef", 1.0),
            beta=settings["beta"],
            unfinished_penalty=settings.get("unfinished_penalty", 2.0),
            answer_template=template,
            answer_separator=settings.get("answer_separator", " "),
            reward_clip_range=settings.get("reward_clip_range"),
            stop_strings=tuple(settings.get("rationale_stop_strings", [template.split("{answer}")[0].rstrip()])),
            mask_unfinished=settings.get("mask_truncated_completions", False),
            importance_sampling_correction=settings.get("vllm_importance_sampling_correction", True),
            importance_sampling_clip_max=settings.get("vllm_importance_sampling_clip_max", 3.0),
            reward_weights=tuple(settings.get("reward_weights", [1.0] * len(case.reward_funcs))),
            self_reward_weight=settings.get("self_reward_weight", 1.0),
            self_reward_when=settings.get("self_reward_when", "always"),
            scorer=settings.get("scorer", "policy"),
            answer_max_length=settings.get("answer_max_length"),
        ),
        trainer.engine.sampler,
        {tuple(ids): given for ids, given in zip(all_ids, given_rewards(case.reward_funcs), strict=True)},
    )


def given_rewards(reward_funcs: list[Callable]) -> list[list[list[float | None]] | None]:
    """For each prompt, what each of its samples gets from each function; `None` without functions."""
    if not reward_funcs:
        return [None] * len(SAMPLES)
    tables = [{"verdict": VERDICTS, "share": SHARES}[function.__name__] for function in reward_funcs]
    return [[list(of_sample) for of_sample in zip(*of_prompt, strict=True)] for of_prompt in zip(*tables, strict=True)]


def close(actual: Any, expected: Any, what: str, scale: float = 1.0) -> None:
    """Equal to `TOLERANCE` of the largest value (of `scale`, where `expected` is a part of something larger)."""
    actual, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (actual, expected))
    assert actual.shape == expected.shape, f"{what}: {actual.shape} instead of {expected.shape}"
    scale = max(1.0, scale, expected.abs().max().item())
    error = (actual - expected).abs().max().item()
    assert error <= TOLERANCE * scale, f"{what}: off by {error:.2e} (largest value {scale:.2e})\n{actual}\n{expected}"


def score_generation(run: Run, number: int) -> tuple[list[Row], list[Scores]]:
    """All rows of a generation in their order, and the scores of each prompt's group."""
    generation: Generation = run.trainer.engine.generations[number]
    old_policy = run.policy_with(generation.policy)
    step = [update.generation for update in run.updates].index(number)
    settings = run.settings.after(step, len(run.updates))
    rows, scores = [], []
    for prompt_ids, samples in generation.groups:
        group = [
            reference.make_row(
                run.tokenizer,
                prompt_ids,
                sample,
                run.answers[tuple(prompt_ids)],
                run.trainer.eos_token_ids,
                run.end_of_turn_id,
                run.settings,
            )
            for sample in samples
        ]
        rows += group
        scores.append(
            reference.score_group(old_policy, run.reference_model, group, settings, run.given[tuple(prompt_ids)])
        )
    assert len({row.ids_with_others for row in rows}) == len(rows), "rows are told apart by their ids"
    return rows, scores


def joined(scores: list[Scores], what: str) -> list:
    return [value for group in scores for value in getattr(group, what)]


def row_factors(run: Run, rows: list[Row], scores: list[Scores]) -> list[float]:
    """What the rows count; without log-probs of the engine they are those of the policy."""
    factors = []
    for k, group in enumerate(scores):
        of_prompt, sampled = rows[NUM_GENERATIONS * k : NUM_GENERATIONS * (k + 1)], group.rationale_logp
        if run.sampler is not None:
            with torch.no_grad():
                sampled = [reference.token_logps(run.sampler, row)[0].sum().item() for row in of_prompt]
        factors += reference.row_factors(of_prompt, group.rationale_logp, sampled, run.settings)
    return factors


def compare(run: Run) -> list[float]:
    """Compares every update of the run, and returns all probability ratios that occurred."""
    all_ratios = []
    for number, update in enumerate(run.updates):
        rows, scores = score_generation(run, update.generation)
        if not run.settings.whole_completions:
            close(update.logs["answer_logp"], joined(scores, "answer_logp"), f"update {number}, answer log-probs")
        rewards = [torch.tensor(one, dtype=torch.float64) for one in (update.logs["reward"], joined(scores, "reward"))]
        close(*(one.nan_to_num(nan=-1000.0) for one in rewards), f"update {number}, rewards")
        advantages = joined(scores, "advantage")
        # Differences of rewards, and rounded as these are in float32
        size_of_rewards = max(abs(reward) for reward in joined(scores, "reward") if not math.isnan(reward))
        if run.trainer.args.normalize_advantages:
            advantages = reference.normalized(advantages, joined(scores, "reward"))
            size_of_rewards = 1.0
        close(update.logs["advantage"], advantages, f"update {number}, advantages", size_of_rewards)

        old_logps, weights = joined(scores, "rationale_logp"), joined(scores, "weights")
        factors = row_factors(run, rows, scores)
        of_rows = zip(rows, old_logps, advantages, weights, factors, strict=True)
        samples = {sample[0].ids_with_others: sample for sample in of_rows}
        assert set(update.rows) <= samples.keys(), f"update {number} trained on rows that were never sampled"
        gradient, ratios = reference.update_gradient(
            run.policy_with(update.policy), [samples[ids] for ids in update.rows], run.settings
        )
        all_ratios += ratios
        trained = {name: g for name, g in update.gradient.items() if ".ref." not in name}
        assert trained.keys() == gradient.keys()
        largest = max(g.abs().max().item() for g in gradient.values())
        assert largest > 0.1, "a gradient of zero proves nothing"
        for name, expected in gradient.items():
            close(trained[name], expected, f"update {number}, gradient of {name}", largest)
    return all_ratios


WHOLE = {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 1}
REWARDS = ["logprob", "prob", "mean_prob", "geometric_mean", "jepo", "power", reference.surprise]
# The answers of these samples have probabilities from e^-71 to e^-38, the template among them
FLOOR = {"reward_type": "jepo", "jepo_floor": 1e-20}

# Lists of different lengths; one of a single answer, one in which the same answer stands twice. Some are as likely as others,
# so that they have shares
SEVERAL = [["3", "4", "three (3)"], ["nine (9)"], ["14", "9 or 14", " 14\n", "15"]]

CASES = {
    **{f"{getattr(r, '__name__', r)}": Case({"reward_type": r}) for r in REWARDS},
    **{
        f"{getattr(r, '__name__', r)}, {tokens}": Case({"reward_type": r, "reward_tokens": tokens})
        for r in REWARDS
        for tokens in (ALL_TOKENS, ANSWER_TOKENS)
        if tokens != DEFAULT_TOKENS.get(r, ALL_TOKENS)
    },
    **{
        f"{getattr(r, '__name__', r)}, beta 0": Case({"reward_type": r, "beta": 0.0})
        for r in ("logprob", "prob", "jepo")
    },
    **{
        f"{reward}, answer_coef {coef}": Case({"reward_type": reward, "answer_coef": coef})
        for reward in ("logprob", "prob", "jepo")
        for coef in (0.0, 0.3)
    },
    "without accumulation": Case(WHOLE, steps=2),
    **{f"{kind}, without accumulation": Case(WHOLE, kind=kind) for kind in ("llama", "mistral", "phi3", "qwen3")},
    "jepo, without accumulation": Case({"reward_type": "jepo", **WHOLE}),
    "prob, without accumulation": Case({"reward_type": "prob", **WHOLE}),
    "new adapter, without accumulation": Case(WHOLE, adapter="new"),
    "given adapter, without accumulation": Case(WHOLE, adapter="given"),
    "separate rows": Case({"share_prompts": False}),
    "separate rows, without accumulation": Case({"share_prompts": False, **WHOLE}, steps=2),
    "whole groups in a micro-batch": Case({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}),
    "one row in a micro-batch": Case({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 12}),
    "jepo, groups split over micro-batches": Case(
        {"reward_type": "jepo", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 6}
    ),
    "two updates per generation": Case(
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "steps_per_generation": 4}, steps=4
    ),
    "three updates per generation, whole groups in a micro-batch": Case(
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "steps_per_generation": 3}, steps=3
    ),
    **{
        f"{reward}, two passes": Case({"reward_type": reward, "num_iterations": 2, **WHOLE}, steps=2, must_clip=True)
        for reward in ("logprob", "prob", "jepo")
    },
    "two passes with accumulation": Case({"num_iterations": 2}, steps=4, must_clip=True),
    "conversational": Case(conversational=True),
    "conversational, pad is eos": Case(conversational=True, pad_is_eos=True),
    "pad is eos": Case(pad_is_eos=True),
    "several end tokens": Case(several_end_tokens=True),
    "absolute positions": Case(kind="gpt2"),
    "absolute positions, pad is eos, jepo": Case({"reward_type": "jepo"}, kind="gpt2", pad_is_eos=True),
    "llama": Case(kind="llama"),
    "new adapter": Case(adapter="new"),
    "new adapter, two passes": Case({"num_iterations": 2, **WHOLE}, adapter="new", steps=2, must_clip=True),
    "given adapter": Case(adapter="given", steps=2),
    "given adapter, jepo": Case({"reward_type": "jepo"}, adapter="given"),
    "own penalty": Case({"unfinished_penalty": 0.5}),
    "no penalty": Case({"unfinished_penalty": 0.0}),
    "own template": Case({"answer_template": "Result: {answer}", "answer_separator": "\n"}),
    "own stop strings": Case({"rationale_stop_strings": ["answer is", "12 - "]}),
    "clipped rewards": Case({"reward_clip_range": (-64.0, -37.0)}),
    "normalized advantages": Case({"normalize_advantages": True}),
    **{
        f"{reward} of the answer, {name}": Case({"reward_type": reward, "reward_tokens": ANSWER_TOKENS, **more})
        for reward in ("logprob", "prob", "jepo")
        for name, more in {
            "without accumulation": WHOLE,
            "separate rows": {"share_prompts": False},
            "without the unfinished": {"mask_truncated_completions": True},
            "half the answer term": {"answer_coef": 0.5},
            "in a box": {"answer_template": "So it is [{answer}]!"},
            "without text before it": {"answer_template": "{answer}.", "rationale_stop_strings": ["The answer is"]},
        }.items()
    },
    **{
        f"log-probs of the engine, {name}": Case(more, engine_logps=True)
        for name, more in {
            "scores first": {},
            "without accumulation": WHOLE,
            "separate rows": {"share_prompts": False},
            "jepo": {"reward_type": "jepo", **WHOLE},
            "prob": {"reward_type": "prob"},
            "another limit": {"vllm_importance_sampling_clip_max": 1.2},
            "no correction": {"vllm_importance_sampling_correction": False},
        }.items()
    },
    "log-probs of the engine, new adapter": Case(WHOLE, adapter="new", engine_logps=True),
    "log-probs of the engine, two passes": Case(
        {"num_iterations": 2, **WHOLE}, steps=2, must_clip=True, engine_logps=True
    ),
    "log-probs of the engine, two updates per generation": Case(
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
        steps=4,
        engine_logps=True,
    ),
    **{
        f"{reward} and functions, {name}": Case({"reward_type": reward, **more}, reward_funcs=[verdict, share])
        for reward in ("logprob", "prob", "jepo")
        for name, more in {
            "added": {},
            "without accumulation": WHOLE,
            "weighed": {"reward_weights": [2.0, 0.5], "self_reward_weight": 0.3},
            "one only logged": {"reward_weights": [0.0, 1.0], "self_reward_weight": 0.0},
            "where unverified": {"self_reward_when": "unverified", **WHOLE},
            "alone beside the answer term": {"self_reward_weight": 0.0},
            "alone": {"self_reward_weight": 0.0, "answer_coef": 0.0},
            "alone, without accumulation": {"self_reward_weight": 0.0, "answer_coef": 0.0, **WHOLE},
            "alone, beta 0": {"self_reward_weight": 0.0, "answer_coef": 0.0, "beta": 0.0},
        }.items()
    },
    "functions alone, some samples without reward": Case(
        {"self_reward_weight": 0.0, "normalize_advantages": True}, reward_funcs=[share]
    ),
    "jepo and functions, some samples without reward": Case(
        {"reward_type": "jepo", "self_reward_weight": 0.0, "answer_coef": 0.0}, reward_funcs=[share]
    ),
    "functions, conversational": Case(reward_funcs=[verdict, share], conversational=True),
    "functions alone, conversational": Case(
        {"self_reward_weight": 0.0, "answer_coef": 0.0}, reward_funcs=[verdict], conversational=True
    ),
    "functions alone, two passes": Case(
        {"self_reward_weight": 0.0, "answer_coef": 0.0, "num_iterations": 2, **WHOLE},
        reward_funcs=[verdict],
        steps=2,
        must_clip=True,
    ),
    "functions alone, log-probs of the engine": Case(
        {"self_reward_weight": 0.0, "answer_coef": 0.0}, reward_funcs=[verdict], engine_logps=True
    ),
    "functions, clipped rewards": Case({"reward_clip_range": (-64.0, -37.0)}, reward_funcs=[verdict]),
    **{
        f"{reward}, the reference scores, {name}": Case(
            {"reward_type": reward, "scorer": "reference", **more}, **of_case
        )
        for reward in ("logprob", "prob", "jepo")
        for name, more, of_case in (
            ("scores first", {}, {}),
            ("without accumulation", WHOLE, {}),
            ("beta 0", {"beta": 0.0}, {}),
            ("new adapter", {"beta": 0.0}, {"adapter": "new"}),
            ("given adapter", {"beta": 0.0}, {"adapter": "given"}),
            ("with functions", {}, {"reward_funcs": [verdict, share]}),
        )
    },
    **{
        f"power {tau}": Case({"reward_type": "power", "reward_power": tau, "reward_tokens": ALL_TOKENS})
        for tau in (0.0, 0.05, 1.0)
    },
    **{
        f"power from 0.1 to 0.3, {name}": Case(
            {"reward_type": "power", "reward_power": 0.1, "reward_power_end": 0.3, **more}, **of_case
        )
        for name, more, of_case in (
            ("scores first", {}, {"steps": 3}),
            ("without accumulation", WHOLE, {"steps": 3}),
            ("the reference scores", {"scorer": "reference"}, {"steps": 2}),
            ("two passes", {"num_iterations": 2, **WHOLE}, {"steps": 4, "must_clip": True}),
            (
                "two updates per generation",
                {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
                {"steps": 4},
            ),
        )
    },
    **{
        f"jepo with a floor, {name}": Case({**FLOOR, **more}, reward_funcs=functions)
        for name, more, functions in (
            ("scores first", {}, []),
            ("without accumulation", WHOLE, []),
            ("of the answer", {"reward_tokens": ANSWER_TOKENS}, []),
            ("the reference scores", {"scorer": "reference"}, []),
            ("with functions", {"jepo_floor": 0.2}, [verdict, share]),
            ("where unverified", {"self_reward_when": "unverified"}, [verdict]),
            ("some samples without reward", {"self_reward_weight": 0.0, "jepo_floor": 0.2}, [share]),
        )
    },
    **{
        f"{getattr(r, '__name__', r)}, several answers, {tokens}": Case(
            {"reward_type": r, "reward_tokens": tokens}, answers=SEVERAL
        )
        for r in REWARDS
        for tokens in (ALL_TOKENS, ANSWER_TOKENS)
    },
    **{
        f"{reward}, several answers, {name}": Case({"reward_type": reward, **more}, answers=SEVERAL, **of_case)
        for reward in ("mean_prob", "jepo")
        for name, more, of_case in (
            ("without accumulation", WHOLE, {}),
            ("separate rows", {"share_prompts": False}, {}),
            ("absolute positions", {}, {"kind": "gpt2"}),
            ("the reference scores", {"scorer": "reference", "beta": 0.0}, {}),
            ("truncated", {"answer_max_length": 4, "truncate_answers": True}, {}),
        )
    },
    **{
        f"several answers, {name}": Case(more, answers=SEVERAL, **of_case)
        for name, more, of_case in (
            ("one row in a micro-batch", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 12}, {}),
            ("two passes", {"num_iterations": 2, **WHOLE}, {"steps": 2, "must_clip": True}),
            (
                "two updates per generation",
                {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
                {"steps": 4},
            ),
            ("new adapter", WHOLE, {"adapter": "new"}),
            ("given adapter", {}, {"adapter": "given"}),
            ("conversational, pad is eos", {}, {"conversational": True, "pad_is_eos": True}),
            ("padded to a multiple", {"pad_to_multiple_of": 32}, {}),
            ("padded to a multiple, separate rows", {"pad_to_multiple_of": 32, "share_prompts": False}, {}),
            ("log-probs of the engine", {}, {"engine_logps": True}),
            ("clipped rewards", {"reward_clip_range": (-64.0, -37.0)}, {}),
            ("with functions", {}, {"reward_funcs": [verdict, share]}),
            ("jepo with functions", {"reward_type": "jepo"}, {"reward_funcs": [verdict, share]}),
            ("functions alone", {"self_reward_weight": 0.0, "answer_coef": 0.0}, {"reward_funcs": [verdict]}),
        )
    },
    "lists of one answer": Case(answers=[[answer] for _, answer, _ in SAMPLES]),
    "padded to a multiple": Case({"pad_to_multiple_of": 32}),
    "padded to a multiple, separate rows": Case({"pad_to_multiple_of": 32, "share_prompts": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_updates_agree_with_the_reference(name, tmp_path):
    case = CASES[name]
    run = train(case, str(tmp_path))
    assert len(run.updates) == case.steps
    ratios = compare(run)
    if case.must_clip:
        assert any(not 0.8 <= ratio <= 1.2 for ratio in ratios), "no ratio left the clipping range: nothing was tested"
    elif "updates per generation" in name:
        assert any(abs(ratio - 1) > 1e-3 for ratio in ratios)
    else:
        assert all(abs(ratio - 1) < 1e-9 for ratio in ratios)


def test_samples_cover_the_ways_a_rationale_ends():
    """The comparison is worth what its samples are: this pins that the awkward ones are among them."""
    tokenizer = tiny.byte_level_tokenizer(num_merges=120)
    settings = Settings()
    rows = []
    for prompt, answer, samples in SAMPLES:
        for text, how in samples:
            sampled = sample_ids(tokenizer, text, how)
            end = tokenizer.eos_token_id
            rows.append(
                (
                    reference.make_row(
                        tokenizer, tokenizer(prompt)["input_ids"], sampled, answer, [end], end, settings
                    ),
                    sampled,
                )
            )
            kept, before_stop, finished = reference.cut(tokenizer, sampled, [end], settings.stop_strings)
            assert finished == (how != LIMIT)
            assert (before_stop is not None) == (how == STOP)
    space_inside = [
        reference.cut(tokenizer, sampled, [tokenizer.eos_token_id], settings.stop_strings)[1] for _, sampled in rows
    ]
    assert " " in space_inside, "a stop string that starts inside a token with a leading space"
    assert "" in space_inside, "a stop string that starts with a token"
    assert sum(row.rationale == () for row, _ in rows) == 2, "rationales without any token"
    assert any(tokenizer.encode(tokenizer.decode(s)) != s for _, s in rows), "ids that re-encoding would change"
    assert len({len(row.prompt) for row, _ in rows}) == 3
    assert len({len(row.answer) for row, _ in rows}) >= 3
    assert len({len(row.rationale) for row, _ in rows}) >= 6


def test_several_answers_have_shares_and_are_best_in_turn(tmp_path):
    """The comparison is worth what its answers are."""
    run = train(Case({"reward_tokens": ANSWER_TOKENS}, answers=SEVERAL), str(tmp_path))
    generation = run.trainer.engine.generations[0]
    policy, rows = run.policy_with(generation.policy), score_generation(run, 0)[0]
    smallest_largest, best = 1.0, set()
    for row in rows:
        with torch.no_grad():
            answers = [reference.token_logps(policy, one)[1][one.template :] for one in (row, *row.others)]
        smallest_largest = min(smallest_largest, torch.stack([y.sum() for y in answers]).softmax(0).max().item())
        best.add(max(range(len(answers)), key=lambda j: answers[j].exp().mean()))
    assert smallest_largest < 0.7
    assert len(best) >= 2


@pytest.mark.parametrize("reward_tokens", [ALL_TOKENS, ANSWER_TOKENS])
def test_metrics_agree_with_the_reference(tmp_path, reward_tokens):
    run = train(Case({"reward_tokens": reward_tokens}), str(tmp_path))
    rows, scores = score_generation(run, 0)
    logged = run.trainer.state.log_history[0]
    answer_logp = torch.tensor(joined(scores, "answer_logp"))
    close(logged["reward"], torch.tensor(joined(scores, "reward")).mean(), "reward")
    close(logged["latro/answer_logp"], answer_logp.mean(), "latro/answer_logp")
    own_logp = torch.tensor(joined(scores, "own_logp"))
    close(logged["latro/answer_prob"] / own_logp.exp().mean(), 1.0, "latro/answer_prob")
    probs = own_logp.exp()
    close(logged["latro/answer_prob_if_right"], (probs * probs / probs.sum()).sum(), "latro/answer_prob_if_right")
    close(logged["latro/template_logp"], (answer_logp - own_logp).mean(), "latro/template_logp")
    assert logged["latro/template_logp"] < -1
    bounds = [reference.log_mean_exp(group.answer_logp, floor=0.0) for group in scores]
    close(logged["latro/multi_sample_bound"], sum(bounds) / len(bounds), "latro/multi_sample_bound")
    close(logged["latro/finished_ratio"], sum(row.finished for row in rows) / len(rows), "latro/finished_ratio")
    tokens = sum(len(row.rationale) for row in rows)
    close(logged["kl"], sum(joined(scores, "kl")) / tokens, "kl (per token, as TRL logs it)")

    # within a prompt the advantage is the paper's reward r_k (penalty and KL in it), shifted and scaled
    advantages = torch.tensor(joined(scores, "advantage")).split(NUM_GENERATIONS)
    lengths = torch.tensor([float(len(row.rationale)) for row in rows]).split(NUM_GENERATIONS)
    correlations = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(advantages, lengths, strict=True)]
    close(logged["latro/length_reward_corr"], torch.stack(correlations).mean(), "latro/length_reward_corr")

    # on-policy the ratio is 1: the policy part's value is the mean advantage, 0 by construction
    close(logged["latro/policy_loss"], 0.0, "latro/policy_loss")
    close(logged["latro/answer_loss"], -answer_logp.mean(), "latro/answer_loss")
    close(logged["loss"], logged["latro/policy_loss"] + logged["latro/answer_loss"], "loss")


@pytest.mark.parametrize(
    ("config", "answers"),
    [({}, None), (WHOLE, None), ({"share_prompts": False}, None), ({}, SEVERAL)],
    ids=["scores first", "in the loss", "padded", "several answers"],
)
def test_the_gain_by_rationales_agrees_with_the_reference(tmp_path, config, answers):
    run = train(Case(config, answers=answers), str(tmp_path))
    generation = run.trainer.engine.generations[0]
    rows, scores = score_generation(run, 0)
    old_policy, gains = run.policy_with(generation.policy), []
    for (prompt_ids, _), group in zip(generation.groups, scores, strict=True):
        answer, end = run.answers[tuple(prompt_ids)], run.end_of_turn_id
        bare = reference.make_row(run.tokenizer, prompt_ids, [end], answer, [end], end, run.settings)
        with torch.no_grad():
            logps = [reference.token_logps(old_policy, one)[1][one.template :] for one in (bare, *bare.others)]
        gains += [own_logp - reference.log_sum(logps) for own_logp in group.own_logp]
    logged = run.trainer.state.log_history[0]
    assert abs(sum(gains) / len(gains)) > 0.1
    close(logged["latro/rationale_gain"], sum(gains) / len(gains), "latro/rationale_gain")


@pytest.mark.parametrize(
    "config", [{}, WHOLE, {"reward_type": "jepo"}], ids=["scores first", "scores in the loss", "jepo"]
)
def test_metrics_of_the_engines_log_probs_agree_with_the_reference(tmp_path, config):
    run = train(Case({"vllm_importance_sampling_clip_max": 1.1, **config}, engine_logps=True), str(tmp_path))
    generation = run.trainer.engine.generations[0]
    rows, scores = score_generation(run, 0)
    old_policy, differences = run.policy_with(generation.policy), []
    with torch.no_grad():
        for row in rows:
            differences += (
                reference.token_logps(old_policy, row)[0] - reference.token_logps(run.sampler, row)[0]
            ).tolist()
    ratios = row_factors(run, rows, scores)
    assert max(ratios) == 1.1 and min(ratios) < 0.9, "some are truncated, some are not"
    logged = run.trainer.state.log_history[0]
    expected = {
        "sampling_logp_difference/mean": sum(map(abs, differences)) / len(differences),
        "sampling_logp_difference/max": max(map(abs, differences)),
        "importance_sampling_ratio/min": min(ratios),
        "importance_sampling_ratio/mean": sum(ratios) / len(ratios),
        "importance_sampling_ratio/max": max(ratios),
    }
    for name, value in expected.items():
        close(logged[f"latro/{name}"], value, name)
