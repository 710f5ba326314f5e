# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The monitor warns where training teaches the model to stop reasoning, and nowhere else."""

import json
import logging
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainerControl, TrainerState

import tiny
from cli_worker import Outcome, Run, run_all
from given import cpu_config
from hub_server import serve
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.collapse_monitor import (
    CollapseMonitor,
    PromptColumns,
    advise,
    prompt_columns,
    ratio_of_means,
    standard_errors,
)
from trl_latro.objective import REWARDS, assign_credit, leave_one_out
from trl_latro.samples import prob_if_right


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from puzzles.common import make_puzzles  # noqa: E402
from puzzles.house import HousePuzzle  # noqa: E402


GUESS, RIGHT, WRONG = math.log(1 / 16), math.log(0.9), math.log(0.005)


def samples(reasons: float, right: float, seed: int, prompts: int = 16) -> tuple[Tensor, Tensor]:
    """
    Lengths and answer log-probs of 16 samples of each prompt: a share `reasons` of them is long, and of these a share
    `right` is right; the others are short guesses.
    """
    generator = torch.Generator().manual_seed(seed)
    long, is_right = (torch.rand(prompts, 16, generator=generator) < share for share in (reasons, right))
    noise = torch.randn(prompts, 16, generator=generator)
    logps = torch.where(long, torch.where(is_right, RIGHT, WRONG), GUESS) + 0.1 * noise
    lengths = torch.where(long, 28.0, 3.0) + noise.round()
    return lengths.flatten(), logps.clamp(max=0).flatten()


def credit_of(reward_type: str, logps: Tensor, num_generations: int = 16) -> Tensor:
    reward = REWARDS[reward_type]
    values = logps.exp() if reward_type == "prob" else logps
    ones = torch.ones_like(logps)
    return assign_credit(
        values, 0 * ones, ones, num_generations, of_group=reward.of_group, beta=0.0, unfinished_penalty=2.0
    ).advantages


def observe(
    monitor: CollapseMonitor,
    lengths: Tensor,
    reward_type: str,
    logps: Tensor,
    num_generations: int = 16,
    metrics: dict[str, float] | None = None,
    cost_of_token: float = 0.0,
) -> None:
    """Show the monitor samples whose reward has another part too, which costs something for each token."""
    by_self = credit_of(reward_type, logps, num_generations)
    of_all = by_self - cost_of_token * leave_one_out(lengths, num_generations)
    monitor.observe(lengths, of_all, by_self, logps, num_generations, metrics or {})


def watch(
    reward_type: str, shares: list[tuple[float, float]], seed: int = 0, cost_of_token: float = 0.0
) -> int | None:
    """The update after which the monitor warns, `None` if it does not."""
    monitor = CollapseMonitor(stop=False)
    for update, (reasons, right) in enumerate(shares, start=1):
        lengths, logps = samples(reasons, right, 1000 * seed + update)
        observe(monitor, lengths, reward_type, logps, cost_of_token=cost_of_token)
        if monitor.diagnosis() is not None:
            return update
    return None


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_for_which_guessing_wins_is_seen_after_few_updates(seed: int) -> None:
    """Reasoning gives 0.22 * log 0.9 + 0.78 * log 0.005 = -4.2, guessing -2.8."""
    at = watch("logprob", [(0.4, 0.22)] * 3, seed)
    assert at is not None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reward_type", ["prob", "jepo"])
def test_rewards_for_which_reasoning_wins_on_the_same_samples_are_not_warned_of(reward_type: str, seed: int) -> None:
    assert watch(reward_type, [(0.4 + 0.01 * update, 0.22 + 0.012 * update) for update in range(50)], seed) is None


@pytest.mark.parametrize("reward_type", ["prob", "jepo"])
def test_a_kl_or_a_penalty_for_which_shorter_wins_is_no_collapse(reward_type: str) -> None:
    """Rationales that leave the reference model's short ones cost a KL, and those without an end a penalty."""
    assert watch(reward_type, [(0.4 + 0.01 * update, 0.5) for update in range(20)], cost_of_token=1.0) is None


def test_a_reward_from_outside_for_which_longer_wins_outweighs_the_self_reward() -> None:
    assert watch("logprob", [(0.4, 0.22)] * 3) is not None
    assert watch("logprob", [(0.4, 0.22)] * 3, cost_of_token=-1.0) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reward_type", ["logprob", "prob", "jepo"])
def test_a_healthy_training_and_one_that_learns_nothing_are_not_warned_of(reward_type: str, seed: int) -> None:
    learns = [(0.5 + 0.008 * update, 0.75 + 0.004 * update) for update in range(60)]
    assert watch(reward_type, learns, seed) is None
    assert watch(reward_type, [(1.0, 0.5)] * 60, seed) is None


def test_hedging_is_seen_where_lengths_tell_nothing() -> None:
    """Every rationale is long; the answer's log-prob after them comes together at that of a guess."""
    monitor = CollapseMonitor(stop=False)
    diagnoses = []
    for update in range(12):
        _, logps = samples(1.0, 0.4, seed=update)
        logps = logps + min(update / 8, 1.0) * (GUESS - logps)
        observe(monitor, torch.randn(256), "logprob", logps)
        diagnoses.append(monitor.diagnosis())
    assert diagnoses[0] is None and "hedge" in str(diagnoses[-1].reason)


def of_a_real_task(after_right: float, after_wrong: float) -> CollapseMonitor:
    """
    Twelve updates of 16 prompts of which some are hard and some easy; 8 samples each, all as long. The answer's log-probs
    after right and wrong rationales, -0.02 and -18 at first, move to these.
    """
    monitor = CollapseMonitor(stop=False)
    for update in range(12):
        generator = torch.Generator().manual_seed(update)
        shares = 0.5 * torch.rand(16, 1, generator=generator)
        right = torch.rand(16, 8, generator=generator) < shares
        done = update / 11
        before, after = torch.where(right, -0.02, -18.0), torch.where(right, after_right, after_wrong)
        logps = (before + done * (after - before)).flatten()
        observe(monitor, torch.full((128,), 40.0), "logprob", logps, 8)
    return monitor


def test_hedging_is_seen_where_prompts_differ_more_than_the_probability_falls() -> None:
    monitor = of_a_real_task(after_right=-0.5, after_wrong=-5.0)
    assert "hedge" in str(monitor.diagnosis())


@pytest.mark.parametrize("after_right", [-0.02, -0.08])
def test_less_cost_of_wrong_rationales_alone_is_no_hedging(after_right: float) -> None:
    assert of_a_real_task(after_right, after_wrong=-8.0).diagnosis() is None


def test_the_answers_that_are_right_may_become_less_sure_where_more_are_right() -> None:
    """As `logprob` does on a base model that learns to reason."""
    monitor = CollapseMonitor(stop=False)
    for update in range(12):
        lengths, logps = samples(1.0, 0.4 + 0.03 * update, seed=update)
        logps = logps.clamp(max=RIGHT - 0.03 * update)
        observe(monitor, lengths, "logprob", logps)
        assert monitor.diagnosis() is None


def test_how_sure_the_model_is_of_the_answers_it_gets_right() -> None:
    """Of answers of probability 1/2 and 1/4 the first is given twice as often."""
    logps = torch.tensor([0.5, 0.25]).log()
    assert prob_if_right(logps).item() == pytest.approx((0.5 * 2 + 0.25) / 3)
    assert prob_if_right(logps - 200).item() == pytest.approx(0.0), "too small for a float, but not 0 / 0"


def test_covariances_are_within_prompts() -> None:
    """Long prompts with likely answers are no reason to write more."""
    lengths = torch.tensor([3.0, 3.0, 30.0, 30.0])
    advantages, logps = torch.tensor([1.0, -1.0, 2.0, -2.0]), torch.tensor([-5.0, -4.0, -0.1, -0.2])
    columns = prompt_columns(lengths, advantages, -advantages, logps, 2)
    assert columns.length_credit.tolist() == columns.length_self_credit.tolist() == [0.0, 0.0]
    assert columns.length_prob.tolist() == [0.0, 0.0]
    advantages, logps = torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, -2.0])
    columns = prompt_columns(torch.tensor([1.0, 2.0]), advantages, -advantages, logps, 2)
    of_lengths = (columns.length_credit, columns.length_self_credit, columns.length_prob)
    assert [one.item() for one in of_lengths] == pytest.approx([1.0, -1.0, -1.0])
    assert columns.answer_probs.item() == pytest.approx((math.exp(-1) + math.exp(-2)) / 2)
    assert columns.square_probs.item() == pytest.approx((math.exp(-2) + math.exp(-4)) / 2)


def test_standard_errors() -> None:
    values, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])
    assert standard_errors(values) == pytest.approx(2 / math.sqrt(1 / 3))
    assert standard_errors(values, other) == pytest.approx(1 / math.sqrt(1 / 3 + 1))


def test_a_ratio_of_means_varies_as_its_parts_do() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert [one.item() for one in ratio_of_means(values, torch.ones(3))] == pytest.approx([2.0, 1 / 3])
    assert [one.item() for one in ratio_of_means(2 * values, values)] == pytest.approx([2.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    below = 1 + torch.rand(1000, 200, generator=generator)
    above = below.square() + torch.rand(1000, 200, generator=generator)
    ratios, variances = zip(*(ratio_of_means(*pair) for pair in zip(above, below, strict=True)), strict=True)
    assert torch.stack(variances).mean().item() == pytest.approx(torch.stack(ratios).var().item(), rel=0.1)


def test_rationales_that_stop_too_early_are_seen_after_a_good_time() -> None:
    """From rationales of which 80 % are right, and which are cut then; as many prompts later."""
    monitor = CollapseMonitor(stop=False)
    diagnoses = []
    for update in range(12):
        lengths, logps = samples(1.0, 0.5 + 0.03 * min(update, 10), seed=update)
        if update >= 10:
            lengths, logps = lengths - 8, torch.full_like(logps, WRONG)
        observe(monitor, lengths, "prob", logps)
        diagnoses.append(monitor.diagnosis())
    assert diagnoses[9] is None and "stop before it has come to the answer" in str(diagnoses[-1])


def test_harder_prompts_are_no_collapse() -> None:
    """Their rationales are longer, as a rule."""
    monitor = CollapseMonitor(stop=False)
    for update in range(20):
        lengths, logps = samples(1.0, 0.8 if update < 10 else 0.3, seed=update)
        observe(monitor, lengths + (update >= 10), "prob", logps)
        assert monitor.diagnosis() is None


def collapsing(monitor: CollapseMonitor, metrics: dict[str, float], seed: int = 0) -> None:
    """Show the monitor 64 prompts for which guessing wins."""
    lengths, logps = samples(0.4, 0.22, seed, prompts=64)
    observe(monitor, lengths, "logprob", logps, 16, metrics)


@pytest.mark.parametrize("stop", [False, True])
def test_it_warns_once_and_ends_the_training_only_if_asked_to(
    stop: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor, control = CollapseMonitor(stop), TrainerControl()
    args = LaTROConfig(str(tmp_path), use_cpu=True, bf16=False)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            collapsing(monitor, {"latro/answer_prob": 0.125, "latro/answer_loss": 3.0})
            monitor.on_step_end(args, TrainerState(global_step=step), control)
    (warning,) = [record.getMessage() for record in caplog.records if "Collapse" in record.getMessage()]
    assert "at step 1: longer rationales have the more probable answers" in warning
    assert (
        "In the first 64 prompts: latro/answer_prob 0.125. Train with `reward_type` 'prob', 'jepo' or 'power', or"
        in warning
    )
    assert "There is no checkpoint before it." in warning
    assert control.should_training_stop == stop == ("Training ends here" in warning)
    assert monitor.collapsed_at == 1


def test_the_warning_says_which_metrics_moved(caplog: pytest.LogCaptureFixture) -> None:
    monitor = CollapseMonitor(stop=False)
    gains = {0: {"latro/rationale_gain": 2.0}, 10: {"latro/rationale_gain": 0.5}}
    for update in range(12):
        lengths, logps = samples(1.0, 0.4, seed=update)
        logps = logps + min(update / 8, 1.0) * (GUESS - logps)
        metrics = {"latro/answer_prob": 0.25 - update / 100, "completions/mean_length": 28.0}
        observe(monitor, lengths, "prob", logps, 16, metrics | gains.get(update, {}))
    with caplog.at_level(logging.WARNING):
        monitor.on_step_end(LaTROConfig("unused", use_cpu=True, bf16=False), TrainerState(), TrainerControl())
    moved = (
        "the first 32 prompts to the last 32: latro/answer_prob 0.245 -> 0.145, latro/rationale_gain 2 -> 0.5. Train"
    )
    assert moved in caplog.text


@pytest.mark.parametrize("reward_type", [*REWARDS, REWARDS["prob"].of_row], ids=str)
def test_it_does_not_advise_what_the_training_does(reward_type: Any) -> None:
    others = "`reward_type` 'prob', 'jepo' or 'power'"
    expected = {
        "prob": "a lower `learning_rate`",
        "jepo": "`reward_type` 'prob'",
        "power": "a `reward_power` (and `reward_power_end`) closer to 1",
    }.get(reward_type, others)
    args = LaTROConfig("unused", reward_type=reward_type, use_cpu=True, bf16=False)
    assert advise(args) == f"Train with {expected}, or from a model that is right more often"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"reward_power": 1.0}, "a lower `learning_rate`"),
        ({"reward_power": 1.0, "reward_power_end": 1.0}, "a lower `learning_rate`"),
        ({"reward_power": 1.0, "reward_power_end": 0.5}, "a `reward_power` (and `reward_power_end`) closer to 1"),
        ({"reward_power": 0.5, "reward_power_end": 1.0}, "a `reward_power` (and `reward_power_end`) closer to 1"),
    ],
    ids=str,
)
def test_a_power_of_1_is_advised_as_prob_is(settings: dict[str, float], expected: str) -> None:
    args = LaTROConfig("unused", reward_type="power", use_cpu=True, bf16=False, **settings)
    assert advise(args).startswith(f"Train with {expected}, or")


class Collapses(TrainerCallback):
    """At the beginning of a step the monitor sees what it warns of."""

    def __init__(self, monitor: CollapseMonitor, step: int):
        self.monitor, self.step = monitor, step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            collapsing(self.monitor, {})


@pytest.mark.parametrize("when", [{"save_strategy": "steps", "save_steps": 1}, {"save_strategy": "epoch"}], ids=str)
def test_the_last_checkpoint_before_the_collapse_is_kept_and_named(
    tmp_path: Path, when: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It would make place for that of the step that collapsed, and be loaded only if that had the worse metric."""
    tokenizer = tiny.byte_level_tokenizer(num_merges=80)
    best = {"eval_strategy": when["save_strategy"], "eval_steps": 1, "load_best_model_at_end": True}
    best |= {"metric_for_best_model": "eval_num_tokens", "greater_is_better": True}  # the later, the better
    settings = {
        "max_completion_length": 8,
        "max_steps": 6,
        "save_total_limit": 1,
        "learning_rate": 0.1,
        **when,
        **best,
    }
    args = cpu_config(str(tmp_path), stop_on_collapse=True, per_device_eval_batch_size=4, **settings)
    data = tiny.tiny_dataset(3)  # one step is an epoch
    trainer = LaTROTrainer(tiny.tiny_model(tokenizer), args, data, data, processing_class=tokenizer)
    trainer.add_callback(Collapses(trainer._monitor, step=3))
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.global_step == trainer._monitor.collapsed_at == 3
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert f"The last checkpoint before it is {tmp_path / 'checkpoint-2'}. Training ends here." in caplog.text
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-2").state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_the_checkpoint_resumed_from_is_named_wherever_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer, data = tiny.byte_level_tokenizer(num_merges=80), tiny.tiny_dataset(3)
    settings = {"max_completion_length": 8, "save_strategy": "steps", "save_steps": 2}

    def train(name: str, max_steps: int, checkpoint: Path | None, collapse: int | None = None) -> None:
        args = cpu_config(str(tmp_path / name), max_steps=max_steps, **settings)
        trainer = LaTROTrainer(tiny.tiny_model(tokenizer), args, data, processing_class=tokenizer)
        if collapse is not None:
            trainer.add_callback(Collapses(trainer._monitor, collapse))
        trainer.train(resume_from_checkpoint=checkpoint if checkpoint is None else str(checkpoint))

    train("first", 2, None)
    resumed_from = (tmp_path / "first" / "checkpoint-2").rename(tmp_path / "kept")
    for name, step, expected in (
        ("at-once", 3, resumed_from),
        ("later", 5, tmp_path / "later" / "checkpoint-4"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            train(name, 5, resumed_from, collapse=step)
        assert f"Collapse at step {step}: " in caplog.text
        assert f"The last checkpoint before it is {expected}." in caplog.text


def test_a_resumed_monitor_goes_on() -> None:
    whole, stopped = CollapseMonitor(stop=False), CollapseMonitor(stop=False)
    for update in range(12):
        lengths, logps = samples(0.5, 0.8, seed=update)
        metrics = {"latro/rationale_gain": float(update)} if whole.wants_rationale_gain else {}
        for monitor in (whole, stopped):
            observe(monitor, lengths, "prob", logps, 16, metrics)
        resumed = CollapseMonitor(stop=False)
        resumed.load_state(stopped.state())
        stopped = resumed
        assert stopped.wants_rationale_gain == whole.wants_rationale_gain
    assert metrics == {} and whole.state()["metrics"] == {"latro/rationale_gain": 10.0}
    torch.testing.assert_close(whole.state(), stopped.state())


def length_of(completions: list[str], **kwargs: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


@pytest.mark.parametrize("reward_type", ["prob", "jepo"])
def test_the_trainer_shows_it_the_self_reward_without_what_else_is_rewarded(tmp_path: Path, reward_type: str) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=80)
    shown = []
    for penalty in (0.0, 5.0):
        args = cpu_config(
            str(tmp_path), max_completion_length=150, max_steps=1, reward_type=reward_type, unfinished_penalty=penalty
        )
        data = tiny.tiny_dataset()
        trainer = LaTROTrainer(tiny.tiny_model(tokenizer), args, data, processing_class=tokenizer)
        trainer.train()
        ((columns, _),) = trainer._monitor.state()["first"]
        shown.append(PromptColumns(*columns))
    without, penalized = shown
    assert not torch.allclose(without.length_credit, penalized.length_credit), "some samples end, others do not"
    assert torch.equal(without.length_self_credit, penalized.length_self_credit)
    torch.testing.assert_close(without.length_credit, without.length_self_credit, msg="no KL in the first step")


@pytest.mark.parametrize(
    "settings", [{}, {"monitor_collapse": False}, {"self_reward_weight": 0.0, "answer_coef": 0.0}]
)
def test_the_answer_is_scored_without_a_rationale_every_ten_updates(tmp_path: Path, settings: dict[str, Any]) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=80)
    functions = [length_of] if settings.get("answer_coef") == 0.0 else None
    args = cpu_config(str(tmp_path), max_completion_length=4, max_steps=12, **settings)
    trainer = LaTROTrainer(
        tiny.tiny_model(tokenizer), args, tiny.tiny_dataset(), processing_class=tokenizer, reward_funcs=functions
    )
    scoring = []

    def count(model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        scoring.append("shift_labels" in kwargs)  # not those of sampling

    trainer.model.register_forward_hook(count, with_kwargs=True)
    trainer.train()
    logs = trainer.state.log_history[:12]
    measured = [log["step"] for log in logs if "latro/rationale_gain" in log]
    assert measured == ([1, 11] if not settings else [])
    assert all(0.25 <= log["latro/distinct_ratio"] <= 1 for log in logs)
    assert sum(scoring) == 12 + len(measured), "beside those that are trained with"


def test_it_is_on_unless_it_is_switched_off(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=80)
    for settings, expected in (({}, True), ({"monitor_collapse": False}, False)):
        args = cpu_config(str(tmp_path), max_completion_length=8, **settings)
        trainer = LaTROTrainer(tiny.tiny_model(tokenizer), args, tiny.tiny_dataset(), processing_class=tokenizer)
        found = [one for one in trainer.callback_handler.callbacks if isinstance(one, CollapseMonitor)]
        assert bool(found) == expected
    with pytest.raises(ValueError, match="`stop_on_collapse` is True, but `monitor_collapse` is False"):
        cpu_config(str(tmp_path), monitor_collapse=False, stop_on_collapse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "reward_type", "warns"),
    [("weak_house", "logprob", True), ("weak_house", "jepo", False), ("house", "logprob", False)],
)
def test_on_a_base_that_collapses_and_on_one_that_does_not(
    tmp_path: Path, base: str, reward_type: str, warns: bool
) -> None:
    folder = EXAMPLES / "puzzles" / f"{base}_base_model"
    puzzles = make_puzzles(HousePuzzle, 16 * 8, seed=3, held_out=False)
    args = cpu_config(
        str(tmp_path),
        **{"num_generations": 16, "per_device_train_batch_size": 256, "max_completion_length": 36, "beta": 0.02},
        **{"learning_rate": 3e-4, "lr_scheduler_type": "constant", "max_steps": 8, "stop_on_collapse": True},
        reward_type=reward_type,
    )
    trainer = LaTROTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        args,
        Dataset.from_list([{"prompt": puzzle.prompt, "answer": puzzle.answer} for puzzle in puzzles]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    assert trainer.state.global_step <= 2 if warns else trainer.state.global_step == 8


class Ended(NamedTuple):
    """Trainings that `--stop_on_collapse` ended, and the evaluation of the checkpoint that one of them left."""

    folder: Path
    outcomes: dict[str, Outcome]
    evaluation: list[str]
    commits: dict[str, list[str]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("ended")
    puzzles = make_puzzles(HousePuzzle, 8 * 6, seed=3, held_out=False)
    task = folder / "house.jsonl"
    task.write_text("".join(json.dumps({"question": one.prompt, "answer": one.answer}) + "\n" for one in puzzles))

    def typed(**settings: Any) -> list[str]:
        return [text for name, value in settings.items() for text in (f"--{name}", str(value))]

    settings = {
        "task": task,
        "validation_size": 0,
        "prompt_template": "{question}",
        "model_name_or_path": EXAMPLES / "puzzles" / "weak_house_base_model",
        "num_generations": 16,
        "per_device_train_batch_size": 128,  # half of the prompts that the monitor wants to see first
        "gradient_accumulation_steps": 1,
        "max_completion_length": 36,
        "learning_rate": 3e-4,
        "max_steps": 6,
        "report_to": "none",
        "push_to_hub": True,
        "stop_on_collapse": True,
    }

    def train(name: str, **more: Any) -> Run:
        return Run(["train", *typed(output_dir=folder / name, **settings, **more)])

    evaluation = [
        *("evaluate", *typed(model_name_or_path=folder / "checkpoints" / "checkpoint-1", task=task)),
        *typed(max_completion_length=36, output_dir=folder / "checkpoints-evaluation"),
    ]
    runs = {
        "no-checkpoint": train("no-checkpoint", save_strategy="no"),
        "checkpoints": train("checkpoints", save_steps=1),
        "evaluated": Run([*evaluation, *typed(num_samples=0, max_questions=2)]),
    }
    with serve(folder / "hub") as hub:
        return Ended(folder, run_all(runs, folder, hub.environment(folder / "home")), evaluation, hub.commits)


@pytest.mark.parametrize("name", ["no-checkpoint", "checkpoints"])
def test_the_command_line_neither_saves_nor_pushes_the_model_that_collapsed(ended: Ended, name: str) -> None:
    status, output = ended.outcomes[name]
    assert status == 0, output
    said = r"Ended by --stop_on_collapse after step (\d), whose model is neither saved nor pushed"
    assert re.findall(said, output) == ["2"]
    kept = [ended.folder / name / "checkpoint-1"] if name == "checkpoints" else []
    assert list((ended.folder / name).glob("checkpoint-*")) == kept
    assert (f"The last checkpoint before it is {kept[0]}." if kept else "There is no checkpoint before it.") in output
    assert ("To evaluate it:" in output) == bool(kept)
    assert "Model saved to" not in output and not (ended.folder / name / "eval_results.json").exists()
    pushed = ["Training in progress, step 1"] if kept else []
    assert ended.commits[f"ann/{name}"] == pushed, "the last checkpoint, as every save is pushed"
    # transformers writes what it pushes of a checkpoint to the root
    assert len(list((ended.folder / name).glob("*.safetensors"))) == len(pushed)


def test_the_last_checkpoint_is_evaluated_with_the_command_that_is_named(ended: Ended) -> None:
    *_, command = ended.outcomes["checkpoints"].output.strip().splitlines()
    assert shlex.split(command) == ["trl-latro", *ended.evaluation]
    status, output = ended.outcomes["evaluated"]
    assert status == 0, output
    assert "Prompted as in the model's training" in output and "2 questions" in output
