# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The baselines: the rows that they train on, and the scripts as a user runs them."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState
from trl import SFTConfig, SFTTrainer


EXAMPLES = Path(__file__).parents[1] / "examples"
BASE_MODEL = EXAMPLES / "puzzles" / "dial_base_model"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "baselines")]

from baselines.baseline import answer_rows, gold_rows, rejection_rows  # noqa: E402
from puzzles.common import make_puzzles  # noqa: E402
from puzzles.dial import DialPuzzle  # noqa: E402
from trl_latro.answer_template import AnswerTemplate  # noqa: E402
from trl_latro.cli.evaluate import main as evaluate_main  # noqa: E402
from trl_latro.evaluation import evaluate  # noqa: E402
from trl_latro.prompting import read_prompting  # noqa: E402


TEMPLATE = AnswerTemplate("The answer is {answer}.")
MESSAGES = [{"role": "user", "content": "2 + 2?"}]


def puzzle_questions(count: int = 8) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt": puzzle.prompt, "answer": puzzle.answer, "rationale": f" {puzzle.rationale}"}
            for puzzle in make_puzzles(DialPuzzle, count, seed=3, held_out=False)
        ]
    )


def test_rows_hold_the_prompt_and_the_text_that_latro_scores() -> None:
    dataset = Dataset.from_list([{"prompt": "2 + 2?", "answer": "4", "rationale": "Count on."}])
    assert answer_rows(dataset, TEMPLATE)[0] == {"prompt": "2 + 2?", "completion": " The answer is 4."}
    assert gold_rows(dataset, TEMPLATE)[0]["completion"] == "\nCount on. The answer is 4."

    chat = Dataset.from_list([{"prompt": MESSAGES, "answer": "4", "rationale": "Count on."}])
    assert answer_rows(chat, TEMPLATE)[0] == {
        "prompt": MESSAGES,
        "completion": [{"role": "assistant", "content": "The answer is 4."}],
    }
    assert gold_rows(chat, TEMPLATE)[0]["completion"][0]["content"] == "Count on. The answer is 4."


def test_data_without_gold_rationales_are_refused() -> None:
    dataset = Dataset.from_list([{"prompt": "2 + 2?", "answer": "4"}])
    with pytest.raises(ValueError, match=r"no gold rationales, only \['prompt', 'answer'\].*--rationale_column"):
        gold_rows(dataset, TEMPLATE)


def test_the_loss_is_that_of_rationale_answer_and_eos_token(tmp_path: Path) -> None:
    questions, tokenizer = puzzle_questions(2), AutoTokenizer.from_pretrained(BASE_MODEL)
    args = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(BASE_MODEL),
        args,
        train_dataset=gold_rows(questions, TEMPLATE),
        processing_class=tokenizer,
    )
    for row, question in zip(trainer.train_dataset, questions, strict=True):
        prompt = tokenizer(question["prompt"])["input_ids"]
        assert row["labels"][: len(prompt)] == [-100] * len(prompt)
        trained_on = tokenizer.decode(row["labels"][len(prompt) :])
        assert trained_on == f"{question['rationale']} The answer is {question['answer']}.{tokenizer.eos_token}"


def test_rejection_keeps_every_right_sample() -> None:
    questions = puzzle_questions()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE_MODEL), AutoTokenizer.from_pretrained(BASE_MODEL)
    generations = evaluate(
        model, tokenizer, questions, num_samples=16, max_completion_length=34, progress=False
    ).generations
    rows = [(row["prompt"], row["completion"]) for row in rejection_rows(questions, generations, TEMPLATE)]

    answers = dict(zip(questions["prompt"], questions["answer"], strict=True))
    assert all(text.endswith(f". The answer is {answers[prompt]}.") for prompt, text in rows)
    right = [one for one in generations if one.kind == "sample" and one.correct]
    assert len(rows) == len(right) > len(set(rows)), "every right sample counts, also where some are equal"
    assert [text.partition(" The answer")[0] for _, text in rows] == [
        one.completion.partition(" The answer")[0] for one in right
    ]

    wrong = [one._replace(correct=False) for one in generations]
    with pytest.raises(ValueError, match="None of the model's samples for 8 questions is right"):
        rejection_rows(questions, wrong, TEMPLATE)
    with pytest.raises(ValueError, match="Question 0 of the generations, 'The dial.*is not that of the training data"):
        rejection_rows(questions.select(range(7, -1, -1)), generations, TEMPLATE)


def run_here(monkeypatch: pytest.MonkeyPatch, script: str, args: dict[str, Any]) -> None:
    """Run a script in this process: starting Python anew and importing takes most of the time of a tiny run."""
    monkeypatch.setattr(
        sys, "argv", [script, *(text for name, value in args.items() for text in (f"--{name}", str(value)))]
    )
    runpy.run_path(str(EXAMPLES / "baselines" / script), run_name="__main__")


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Two steps of eight rows on a file of dial puzzles."""
    lines = [
        {"question": row["prompt"], "answer": row["answer"], "gold": row["rationale"]} for row in puzzle_questions(12)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "task": tmp_path,
        "prompt_template": "{question}",
        "validation_size": 2,
        "model_name_or_path": BASE_MODEL,
        "output_dir": tmp_path / "run",
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "report_to": "none",
    }


def has_moved(output_dir: Path) -> bool:
    trained, base = (AutoModelForCausalLM.from_pretrained(path) for path in (output_dir, BASE_MODEL))
    return any(not torch.equal(*pair) for pair in zip(trained.parameters(), base.parameters(), strict=True))


def test_sft_scripts_train_and_save(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, "sft_answer.py", {**arguments, "save_strategy": "no"})
    assert "Trained on 10 rows. Model saved to" in capsys.readouterr().out  # the validation questions are left out
    assert has_moved(arguments["output_dir"])
    remembered = read_prompting(arguments["output_dir"])
    assert remembered == {
        **{"answer_template": "The answer is {answer}.", "answer_separator": " ", "rationale_stop_strings": None},
        **{"chat_template_kwargs": None, "thinking_tags": None, "num_shots": 0, "prompt_template": "{question}"},
    }
    assert 'prompt_template: "{question}"' in (arguments["output_dir"] / "README.md").read_text()

    with pytest.raises(SystemExit, match="^sft_gold.py: The data have no gold rationales"):
        run_here(monkeypatch, "sft_gold.py", arguments)
    run_here(monkeypatch, "sft_gold.py", {**arguments, "rationale_column": "gold"})
    assert has_moved(arguments["output_dir"])
    with pytest.raises(SystemExit, match="^sft_gold.py: .*already holds checkpoints"):
        run_here(monkeypatch, "sft_gold.py", {**arguments, "rationale_column": "gold"})


def test_a_baseline_resumes_exactly(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments |= {"max_steps": 4, "save_steps": 1, "logging_steps": 2, "learning_rate": 1e-3}
    whole, parts = arguments["output_dir"], arguments["output_dir"].with_name("parts")
    run_here(monkeypatch, "sft_answer.py", arguments)
    # 10 rows make an epoch of two steps, of eight and of two: the first checkpoint is in the middle of one, and of a line
    # of the log. The last was cut short.
    for step in (1, 2):
        shutil.copytree(whole / f"checkpoint-{step}", parts / f"checkpoint-{step}")
    (parts / "checkpoint-2" / "trainer_state.json").unlink()
    run_here(monkeypatch, "sft_answer.py", {**arguments, "output_dir": parts, "resume_from_checkpoint": "last"})

    first, second = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    logs = [
        TrainerState.load_from_json(folder / "checkpoint-4" / "trainer_state.json").log_history
        for folder in (whole, parts)
    ]
    assert [entry["step"] for entry in logs[0]] == [2, 4]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]


def test_rejection_sampling_trains_on_an_evaluation_of_the_training_questions(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="^rejection_sampling.py: --samples_dir is missing"):
        run_here(monkeypatch, "rejection_sampling.py", arguments)
    with pytest.raises(SystemExit, match="^rejection_sampling.py: .*has no results.json"):
        run_here(monkeypatch, "rejection_sampling.py", {**arguments, "samples_dir": tmp_path / "samples"})

    shared = {name: arguments[name] for name in ("task", "prompt_template", "validation_size", "model_name_or_path")}
    sampling = {
        **shared,
        "split": "train",
        "num_samples": 8,
        "max_completion_length": 34,
        "output_dir": tmp_path / "samples",
    }
    evaluate_main([text for name, value in sampling.items() for text in (f"--{name}", str(value))])
    run_here(monkeypatch, "rejection_sampling.py", {**arguments, "samples_dir": tmp_path / "samples"})
    assert "Model saved to" in capsys.readouterr().out
    assert has_moved(arguments["output_dir"])

    with pytest.raises(SystemExit, match="^rejection_sampling.py: .*is not that of the training data"):
        run_here(
            monkeypatch,
            "rejection_sampling.py",
            {**arguments, "samples_dir": tmp_path / "samples", "validation_seed": 1, "output_dir": tmp_path / "other"},
        )
