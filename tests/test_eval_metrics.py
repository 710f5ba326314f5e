# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Metrics of the trainer's evaluation: means over the samples of that evaluation, whatever the batches."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import tiny
from given import END, STOP, TrainerGivenCompletions, cpu_config, sample_ids
from trl_latro.eval_samples import metric_names


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
# Prompt, answer, and four completions with their answers, two questions all right, one all wrong
SAMPLES = [
    ("1 + 2?", "3", [("2. The answer is 3.", STOP), ("The answer is 3.", END), ("I. So 1 + 2 is 3. The answer is 3.", STOP), ("The answer is 3", END)]),
    ("6 * 7?", "42", [("The answer is 42.", STOP)] * 3 + [("It is, it is. The answer is 42.", END)]),
    ("How many?", "a lot of them", [("The answer is 4.", STOP), ("The answer is 5.", END), ("Say. The answer is 6.", STOP), ("So", END)]),
]  # fmt: skip


def not_a_number(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (logps * mask).sum(1) * float("nan")


NOT_MEANS = ("runtime", "per_second", "epoch", "num_tokens")


def make_trainer(path: Path, eval_dataset: Any = None, **settings: Any) -> TrainerGivenCompletions:
    completions = {
        tuple(TOKENIZER(prompt)["input_ids"]): [sample_ids(TOKENIZER, text, how) for text, how in samples]
        for prompt, _, samples in SAMPLES
    }
    args = cpu_config(str(path), beta=0.1, max_completion_length=24, **settings)
    tiny.tiny_model(TOKENIZER).save_pretrained(path)
    model = tiny.tiny_model(TOKENIZER)
    model.config._name_or_path = str(path)
    rows = questions(0, 1, 2)
    return TrainerGivenCompletions(
        model, args, rows, eval_dataset or rows, processing_class=TOKENIZER, completions=completions
    )


def questions(*numbers: int) -> Dataset:
    return Dataset.from_list([{"prompt": SAMPLES[n][0], "answer": SAMPLES[n][1]} for n in numbers])


def means(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith(NOT_MEANS)}


@pytest.mark.parametrize(
    "settings", [{}, {"reward_type": "jepo"}, {"share_prompts": False}, {"reward_tokens": "answer"}]
)
def test_a_smaller_last_batch_counts_by_its_samples(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Three questions of four samples, in batches of one, of two and one, and of three."""
    found = []
    for size in (4, 8, 12):
        found.append(means(make_trainer(tmp_path, per_device_eval_batch_size=size, **settings).evaluate()))
        assert found[-1]["eval_accuracy"] == pytest.approx(8 / 12)
        assert found[-1]["eval_maj@4"] == pytest.approx(2 / 3)
        for name, value in found[0].items():
            assert found[-1][name] == pytest.approx(value, rel=1e-5, abs=2e-5), f"{name} in batches of {size}"
    assert {"eval_loss", "eval_reward", "eval_reward_std", "eval_entropy", "eval_kl"} <= found[0].keys()


def test_the_loss_and_the_reward_are_means_over_the_samples(tmp_path: Path) -> None:
    """Of each question alone, and of all together."""
    trainer = make_trainer(tmp_path, per_device_eval_batch_size=8)
    together = trainer.evaluate()
    alone = [trainer.evaluate(questions(number)) for number in range(3)]
    for name in ("eval_loss", "eval_reward", "eval_latro/answer_logp", "eval_completions/mean_length"):
        values = [metrics[name] for metrics in alone]
        assert max(values) - min(values) > 1e-2, "equal questions would prove nothing"
        assert together[name] == pytest.approx(sum(values) / 3, rel=1e-5)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("how", ["interrupted", "predict"])
def test_what_came_before_does_not_count(tmp_path: Path, how: str) -> None:
    trainer = make_trainer(tmp_path, questions(2, 0, 1), per_device_eval_batch_size=4)
    expected = trainer.evaluate(questions(0, 1))
    assert expected["eval_accuracy"] == 1.0
    if how == "predict":
        trainer.predict(questions(2))
    else:
        generate = trainer.engine.generate
        calls: list[int] = []

        def stops(*args: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise Interrupted
            return generate(*args)

        trainer.engine.generate = stops
        with pytest.raises(Interrupted):
            trainer.evaluate()
    again = trainer.evaluate(questions(0, 1))
    assert means(again) == pytest.approx(means(expected))


def test_each_of_several_datasets_has_its_own_metrics(tmp_path: Path) -> None:
    datasets = {"right": questions(0, 1), "wrong": questions(2)}
    trainer = make_trainer(tmp_path, datasets, per_device_eval_batch_size=4)
    metrics = trainer.evaluate()
    assert metrics["eval_right_accuracy"] == 1.0
    assert metrics["eval_wrong_accuracy"] == 0.0
    assert metrics["eval_right_reward"] != metrics["eval_wrong_reward"]
    assert metrics["eval_right_loss"] != metrics["eval_wrong_loss"]
    assert "eval_accuracy" not in metrics
    logged = [set(entry) for entry in trainer.state.log_history]
    assert "eval_right_maj@4" in logged[0] and not any(name.startswith("eval_wrong_") for name in logged[0])
    assert "eval_wrong_maj@4" in logged[1] and not any(name.startswith("eval_right_") for name in logged[1])


def test_the_prefix_that_was_asked_for_is_that_of_every_metric(tmp_path: Path) -> None:
    metrics = make_trainer(tmp_path).evaluate(metric_key_prefix="test")
    assert metrics["test_accuracy"] == pytest.approx(8 / 12)
    assert {"test_loss", "test_reward", "test_entropy"} <= metrics.keys()
    assert not any(name.startswith("eval_") for name in metrics)


@pytest.mark.parametrize("metric", ["eval_right_accuracy", "right_accuracy", "eval_wrong_reward"])
def test_a_metric_of_one_dataset_chooses_the_best_model(tmp_path: Path, metric: str) -> None:
    datasets = {"right": questions(0, 1), "wrong": questions(2)}
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "best", "max_steps": 2}
    trainer = make_trainer(tmp_path, datasets, metric_for_best_model=metric, greater_is_better=True, **settings)
    trainer.train()
    assert trainer.state.best_metric is not None
    assert (tmp_path / f"checkpoint-{trainer.state.best_global_step}").is_dir()


@pytest.mark.parametrize("metric", ["accuracy", "eval_bleu", "loss", "eval_right_maj@8", "right_accurracy"])
def test_an_unknown_metric_for_the_best_model_is_refused_at_once(tmp_path: Path, metric: str) -> None:
    datasets = {"right": questions(0, 1), "wrong": questions(2)}
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "best", "metric_for_best_model": metric}
    with pytest.raises(
        ValueError, match=f"`metric_for_best_model` is '{metric}'.*eval_right_accuracy, eval_right_maj@4"
    ):
        make_trainer(tmp_path, datasets, **settings)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_known_metrics_are_those_that_evaluation_logs(tmp_path: Path, beta: float) -> None:
    trainer = make_trainer(tmp_path)
    trainer.beta = beta
    trainer.engine.sampler = trainer.model  # no importance ratios in an evaluation
    logged = {name.removeprefix("eval_") for name in trainer.evaluate()}
    assert logged - {"latro/length_reward_corr", "epoch"} == set(metric_names(4, beta))


def test_an_evaluation_that_splits_prompts_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="Evaluation takes 4 samples on each of 1 processes, 4 in all, which 3 samples"
    ):
        make_trainer(tmp_path, per_device_eval_batch_size=4, num_generations_eval=3)


def test_an_evaluation_in_another_thread_is_the_same(tmp_path: Path) -> None:
    """Time limits that need signals work in the main thread only."""
    trainer = make_trainer(tmp_path)
    expected = means(trainer.evaluate())
    with ThreadPoolExecutor(1) as pool:
        assert means(pool.submit(trainer.evaluate).result()) == pytest.approx(expected)


@pytest.mark.parametrize("verdict", [None, "yes", 2, []])
def test_a_grader_that_gives_no_verdict_is_an_error(tmp_path: Path, verdict: Any) -> None:
    trainer = make_trainer(tmp_path)
    trainer.grader = lambda extracted, row: verdict
    with pytest.raises(ValueError, match="should return True or False"):
        trainer.evaluate()


def test_a_single_sample_has_finite_metrics(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, num_generations_eval=1, per_device_eval_batch_size=1)
    for prompt, samples in trainer.engine.completions.items():
        trainer.engine.completions[prompt] = samples[:1]
    metrics = trainer.evaluate(questions(0))
    assert all(torch.tensor(value).isfinite() for value in metrics.values())
    assert metrics["eval_accuracy"] == 1.0


def test_an_evaluation_of_nothing_is_an_error(tmp_path: Path) -> None:
    stream = questions(0).to_iterable_dataset().filter(lambda row: False)
    with pytest.raises(ValueError, match="has no rows"):
        make_trainer(tmp_path).evaluate(stream)


def test_a_reward_that_is_not_finite_in_an_evaluation_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path)
    trainer.args.reward_type = not_a_number
    trainer.evaluate()
    assert "A reward is not finite in an evaluation, from 3 prompts: '1 + 2?'" in caplog.text


def test_evaluation_leaves_the_metrics_of_training_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, eval_strategy="steps", eval_steps=1, max_steps=2)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    assert all(torch.tensor(entry["reward"]).isfinite() and "accuracy" not in entry for entry in logs)
