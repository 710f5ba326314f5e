# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Accuracy in training's evaluation: the completions that are scored are graded too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import tiny
from given import END, STOP, TrainerGivenCompletions, cpu_config, sample_ids, scored_completions, watch_completions
from trl_latro import LaTROTrainer
from trl_latro.grading import Grader, grade_answer


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
LENGTH = 12

# Prompt, answer, and four completions with their answers, as evaluation decodes them
SAMPLES = [
    ("1 + 2?", "3", [("2. The answer is 3.", STOP), ("The answer is 3.0", END), ("I. The answer is 4.", STOP), ("3.", END)]),
    ("6 * 7?", "42", [("The answer is 4.", STOP), ("The answer is 4.", END), ("The answer is 42.", END), ("", END)]),
    # The stop string comes after the length limit: as in training, that is no answer
    ("So?", "no", [("So, so, so, so, so, so. The answer is no.", STOP)] * 2 + [("The answer is no.", END)] * 2),
]  # fmt: skip


def given_trainer(path: Path, grader: Grader = grade_answer, **settings: Any) -> TrainerGivenCompletions:
    completions = {
        tuple(TOKENIZER(prompt)["input_ids"]): [sample_ids(TOKENIZER, text, how) for text, how in samples]
        for prompt, _, samples in SAMPLES
    }
    rows = Dataset.from_list([{"prompt": prompt, "answer": answer, "note": "n"} for prompt, answer, _ in SAMPLES])
    args = cpu_config(
        str(path), max_completion_length=LENGTH, per_device_eval_batch_size=8, logging_steps=1, **settings
    )
    model = tiny.tiny_model(TOKENIZER)
    model.config._name_or_path = str(path)
    tiny.tiny_model(TOKENIZER).save_pretrained(path)
    return TrainerGivenCompletions(
        model, args, rows, rows, processing_class=TOKENIZER, grader=grader, completions=completions
    )


def test_accuracy_majority_and_completions_without_answer_are_means_over_all_samples(tmp_path: Path) -> None:
    # Three prompts in batches of two: the last batch is smaller
    metrics = given_trainer(tmp_path).evaluate()
    assert metrics["eval_accuracy"] == pytest.approx((2 + 1 + 2) / 12)
    assert metrics["eval_maj@4"] == pytest.approx((1 + 0 + 1) / 3)
    assert metrics["eval_no_answer"] == pytest.approx((1 + 1 + 2) / 12)


def test_scores_are_those_of_completions_that_stopped_at_the_stop_string(tmp_path: Path) -> None:
    trainer = given_trainer(tmp_path)
    rows = [row for row in trainer.eval_dataset for _ in range(4)]
    trainer.model.eval()
    graded = scored_completions(trainer, rows)
    scored = trainer._rollouts["eval"].scored()
    assert scored.columns.sampled_lengths.max() == LENGTH, "tokens of the answer are not counted"
    for prompt in trainer.engine.completions:
        trainer.engine.completions[prompt] = [
            next((ids[:i] for i in range(len(ids)) if TOKENIZER.decode(ids[:i]).endswith("The answer is")), ids)[
                :LENGTH
            ]
            for ids in trainer.engine.completions[prompt]
        ]
    stopped = scored_completions(trainer, rows)
    for name, tensor in graded.items():
        torch.testing.assert_close(stopped[name], tensor, rtol=0, atol=0)


def test_the_table_shows_the_whole_completion_and_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so that rich does not break the texts
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, chat=True)
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "6 * 7?"}], "answer": "42"}])
    args = cpu_config(
        str(tmp_path), beta=0.0, max_completion_length=LENGTH, per_device_eval_batch_size=4, log_completions=True
    )
    (prompt,) = tokenizer.apply_chat_template(
        list(rows["prompt"]), add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    samples = [sample_ids(tokenizer, text, END) for text in ("The answer is 42.", "42.", "The answer is 4.", "")]
    trainer = TrainerGivenCompletions(
        tiny.tiny_model(tokenizer), args, rows, rows, processing_class=tokenizer, completions={tuple(prompt): samples}
    )
    trainer.evaluate()
    table = trainer._logs["extra"]
    assert list(table["correct"]) == ["yes", "no", "no", "no"]
    assert list(table["extracted"]) == ["42", "", "4", ""]
    assert trainer._logs["completion"][0] == [{"role": "assistant", "content": "The answer is 42."}]
    assert "The answer is 42." in capsys.readouterr().out


def test_training_grades_nothing(tmp_path: Path) -> None:
    def grader(extracted: str, row: dict[str, Any]) -> bool:
        raise AssertionError("training called the grader")

    trainer = given_trainer(tmp_path, grader, max_steps=1)
    for prompt, samples in trainer.engine.completions.items():
        trainer.engine.completions[prompt] = [ids[:LENGTH] for ids in samples]
    trainer.train()
    assert not any("accuracy" in name or "maj@" in name for name in trainer.state.log_history[0])


def test_the_users_grader_decides_and_sees_every_column(tmp_path: Path) -> None:
    metrics = given_trainer(tmp_path, lambda extracted, row: row["note"] == "n" and extracted == "4").evaluate()
    assert metrics["eval_accuracy"] == pytest.approx(3 / 12)


@pytest.mark.parametrize("metric", ["accuracy", "maj@4", "no_answer"])
def test_any_of_them_chooses_the_best_model(tmp_path: Path, metric: str) -> None:
    settings = {
        "max_steps": 2,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{metric}",
    }
    trainer = given_trainer(tmp_path, **settings)
    trainer.train()
    assert trainer.state.best_metric == trainer.state.log_history[1][f"eval_{metric}"]


@pytest.mark.parametrize("stop_strings", [None, []])
def test_sampled_rationales_are_those_of_training_and_go_on_to_an_answer(
    tmp_path: Path, stop_strings: list[str] | None
) -> None:
    model = tiny.tiny_model(TOKENIZER)
    rows = tiny.tiny_dataset(8)
    args = cpu_config(
        str(tmp_path),
        beta=0.0,
        max_completion_length=LENGTH,
        answer_template="e{answer}",  # often written by chance
        rationale_stop_strings=stop_strings,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
    )
    trainer = LaTROTrainer(model, args, rows, rows, processing_class=TOKENIZER)
    # The seed would not do: random numbers are drawn for the rows that are not done, of which evaluation has more
    trainer.generation_config.do_sample = False
    inputs = [row for row in rows for _ in range(4)]
    batches, completions = [], watch_completions(trainer)
    for training in (True, False):
        trainer.model.train(training)
        batches.append(scored_completions(trainer, inputs))
    for name in ("input_ids", "old_logps", "advantages"):
        torch.testing.assert_close(batches[0][name], batches[1][name], rtol=1e-5, atol=1e-5)
    longest = max(len(completion.ids) for completion in completions)
    assert longest > LENGTH if stop_strings is None else longest == LENGTH
    assert trainer.generation_config.max_new_tokens == LENGTH, "an evaluation changes nothing for training"
    assert len(trainer._rollouts["eval"].grades) == 32


def test_the_answers_token_budget_ends_where_the_models_positions_do(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"prompt": "e" * 10, "answer": "1"}])
    model = tiny.tiny_model(TOKENIZER, kind="gpt2", n_positions=10 + LENGTH + 5)
    args = cpu_config(
        str(tmp_path),
        beta=0.0,
        max_completion_length=LENGTH,
        answer_template="e{answer}",
        per_device_eval_batch_size=4,
    )
    trainer = LaTROTrainer(model, args, rows, rows, processing_class=TOKENIZER)
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1
