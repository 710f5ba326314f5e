# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A model remembers how it was prompted: written in training, and what evaluation, comparison and resuming make of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from given import cpu_config
from test_baselines import BASE_MODEL, puzzle_questions
from trl_latro import LaTROTrainer
from trl_latro.cli.compare import main as compare_main
from trl_latro.cli.evaluate import main as evaluate_main
from trl_latro.cli.train import main as train_main
from trl_latro.durability.checkpoints import is_whole
from trl_latro.evaluation import evaluate
from trl_latro.prompting import PROMPTING_FILE, find_prompting, read_model_prompting, read_prompting, write_prompting


# All of them other than what holds without them
UNUSUAL = {
    "answer_template": "So: {answer}!",
    "answer_separator": "\n",
    "rationale_stop_strings": ["####", "So:"],
    "chat_template_kwargs": {"loud": True},
    "thinking_tags": ["<i>", "</i>"],
    "prompt_template": "Q: {question}",
    "num_shots": 2,
}
USUAL = find_prompting({"answer_template": "The answer is {answer}.", "answer_separator": " "}) | {
    "prompt_template": "{question}\nLet's think step by step.",
    "num_shots": 0,
}


def options(**settings: Any) -> list[str]:
    """As they are typed, unset ones left out."""
    typed = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]
        typed += [] if value is None else [f"--{name}", *values]
    return typed


def data(folder: Path) -> list[str]:
    """Own questions with gold rationales, for solved ones in front."""
    (folder / "data").mkdir(exist_ok=True)
    for split, numbers in (("train", range(8)), ("test", range(8, 12))):
        rows = [{"question": f"{n} + 1?", "answer": f"{n + 1}", "why": f"Count on from {n}."} for n in numbers]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return options(task=folder / "data", rationale_column="why", validation_size=2)


def training(folder: Path, output: str = "run", **more: Any) -> list[str]:
    settings = {
        "model_name_or_path": folder / "model",
        "output_dir": folder / output,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 6,
        "max_steps": 1,
        "save_steps": 1,
        "report_to": "none",
        **more,
    }
    return [*data(folder), *options(**settings)]


def evaluating(folder: Path, model: Path, output: str, **more: Any) -> list[str]:
    return [*data(folder), *on_other_data(folder, model, output, **more)]


def on_other_data(folder: Path, model: Path, output: str, **more: Any) -> list[str]:
    settings = {"num_samples": 2, "max_completion_length": 6, "batch_size": 8, "output_dir": folder / output, **more}
    return options(model_name_or_path=model, **settings)


def settings_of(folder: Path, output: str) -> dict[str, Any]:
    return json.loads((folder / output / "settings.json").read_text())


def prompting_of(folder: Path, output: str) -> dict[str, Any]:
    settings = settings_of(folder, output)
    return {name: settings[name] for name in UNUSUAL}


def generations_of(folder: Path, output: str) -> str:
    return (folder / output / "generations-0.jsonl").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, a model trained under `UNUSUAL` settings, and `adapter`, one with LoRA."""
    folder = tmp_path_factory.mktemp("trained")
    tokenizer = tiny.byte_level_tokenizer(num_merges=60, chat=True)
    tokenizer.chat_template = tiny.CHAT_TEMPLATE + "{% if loud %}!{% endif %}"
    tiny.save_model(tokenizer, folder / "model")
    train_main(training(folder, **UNUSUAL))
    train_main(training(folder, "adapter", **UNUSUAL) + options(use_peft="true", lora_r=2))
    return folder


# ---- written ----


def test_it_is_beside_the_weights_of_models_checkpoints_and_adapters(trained: Path) -> None:
    for output in ("run", "adapter"):
        for folder in (trained / output, trained / output / "checkpoint-1"):
            assert read_prompting(folder) == UNUSUAL
    checkpoint = trained / "run" / "checkpoint-1"
    assert is_whole(checkpoint) and PROMPTING_FILE in json.loads((checkpoint / "manifest.json").read_text())["files"]
    assert read_prompting(trained / "model") is None


def test_the_card_says_it_in_words(trained: Path, tmp_path: Path) -> None:
    card = (trained / "run" / "README.md").read_text()
    section = card.partition("### How it was prompted")[2].partition("### Framework versions")[0]
    for line in (
        'answer_template: "So: {answer}!"',
        r'answer_separator: "\n"',
        'rationale_stop_strings: ["####", "So:"]',
        'chat_template_kwargs: {"loud": true}',
        "num_shots: 2",
    ):
        assert f"\n{line}\n" in section
    trainer = python_trainer(tmp_path)
    trainer.create_model_card()
    assert "\nrationale_stop_strings: the answer template's beginning\n" in (tmp_path / "README.md").read_text()


def python_trainer(output_dir: Path, **settings: Any) -> LaTROTrainer:
    tokenizer = tiny.byte_level_tokenizer(num_merges=60)
    steps = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_completion_length": 6}
    args = cpu_config(str(output_dir), per_device_train_batch_size=4, **{**steps, **settings})
    return LaTROTrainer(tiny.tiny_model(tokenizer), args, tiny.tiny_dataset(4), processing_class=tokenizer)


def test_in_python_the_prompts_are_not_known(tmp_path: Path) -> None:
    trainer = python_trainer(tmp_path, answer_template="So: {answer}!")
    trainer.save_model(str(tmp_path / "model"))
    assert read_prompting(tmp_path / "model") == {
        "answer_template": "So: {answer}!",
        "answer_separator": " ",
        "rationale_stop_strings": None,
        "chat_template_kwargs": None,
        "thinking_tags": None,
    }


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`chat_template_kwargs` is \{'tools': \[<built-in function .* JSON schemas"):
        python_trainer(tmp_path, chat_template_kwargs={"tools": [abs]})


# ---- evaluated ----


@pytest.mark.parametrize("output", ["run", "adapter"])
def test_an_evaluation_without_options_is_one_with_the_options_of_the_training(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    model, stranger = trained / output, tmp_path / "stranger"
    shutil.copytree(model, stranger)  # the same weights, of which nothing is known
    (stranger / PROMPTING_FILE).unlink()
    evaluate_main(evaluating(tmp_path, stranger, "told", **UNUSUAL))
    evaluate_main(evaluating(tmp_path, stranger, "usual"))
    assert PROMPTING_FILE not in capsys.readouterr().out
    evaluate_main(evaluating(tmp_path, model, "remembered"))
    assert f"Prompted as in the model's training, by its {PROMPTING_FILE}." in capsys.readouterr().out

    assert prompting_of(tmp_path, "remembered") == prompting_of(tmp_path, "told") == UNUSUAL
    assert prompting_of(tmp_path, "usual") == USUAL
    assert generations_of(tmp_path, "remembered") == generations_of(tmp_path, "told")
    (first, *_), (usual, *_) = (generations_of(tmp_path, name).splitlines() for name in ("remembered", "usual"))
    question, solution = json.loads(first)["prompt"][:2]
    assert (
        question["content"].startswith("Q: ") and solution["content"].endswith("!") and "So: " in solution["content"]
    )
    assert len(json.loads(usual)["prompt"]) == 1


def test_what_differs_from_the_training_is_said_and_no_more(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("num_shots: 1\nanswer_separator: ' '\n")
    more = options(config=config, num_shots=0, answer_template="So: {answer}")
    evaluate_main(evaluating(tmp_path, trained / "run", "other") + more)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "training" in line] == [
        'answer_template is "So: {answer}", in the model\'s training it was "So: {answer}!".',
        'answer_separator is " ", in the model\'s training it was "\\n".',
        "num_shots is 0, in the model's training it was 2.",
    ]
    expected = UNUSUAL | {"num_shots": 0, "answer_separator": " ", "answer_template": "So: {answer}"}
    assert prompting_of(tmp_path, "other") == expected


def test_stop_strings_that_follow_from_the_template_follow_from_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = python_trainer(tmp_path / "run")
    trainer.save_model()
    evaluate_main(evaluating(tmp_path, tmp_path / "run", "other", answer_template="So: {answer}"))
    said = [line for line in capsys.readouterr().out.splitlines() if "training" in line]
    assert [line.split()[0] for line in said] == ["answer_template"]
    assert settings_of(tmp_path, "other")["rationale_stop_strings"] is None


def test_a_named_task_has_its_own_prompts(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        rows = [{"question": f"{n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(4)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate_main(on_other_data(tmp_path, trained / "run", "gsm8k", task="gsm8k", dataset_path=tmp_path))
    assert "Prompted as in the model's training" in capsys.readouterr().out
    messages = json.loads(generations_of(tmp_path, "gsm8k").splitlines()[0])["prompt"]
    assert len(messages) == 5 and messages[1]["content"].endswith("!")  # the shots, and the form of their answers
    assert not any(message["content"].startswith("Q: ") for message in messages)


def test_an_evaluation_stops_at_the_stop_strings_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for path in BASE_MODEL.iterdir():
        shutil.copy(path, tmp_path / "model")
    stops = find_prompting({"answer_template": "The answer is {answer}.", "answer_separator": " "})
    write_prompting(tmp_path / "model", stops | {"rationale_stop_strings": [" is"], "prompt_template": "{question}"})
    rows = [{"question": row["prompt"], "answer": row["answer"]} for row in puzzle_questions(4)]
    (tmp_path / "dial.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"task": tmp_path / "dial.jsonl", "max_completion_length": 64}
    evaluate_main(on_other_data(tmp_path, tmp_path / "model", "run", **settings))
    lines = [json.loads(line) for line in generations_of(tmp_path, "run").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    for line in lines:
        rationale, stop, _ = line["completion"].partition(" is")
        assert stop and line["rationale_tokens"] == len(tokenizer.tokenize(rationale))

    model = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    _, generations = evaluate(
        *(model, tokenizer, puzzle_questions(4).remove_columns("rationale")),
        num_samples=2,
        max_completion_length=64,
        rationale_stop_strings=[" is"],
    )
    lines.sort(key=lambda line: (line["question"], line["kind"], line["sample"]))
    assert [one.completion for one in generations] == [line["completion"] for line in lines]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", f"{PROMPTING_FILE} is not JSON"),
        ('{"answer_template": 7}', f"{PROMPTING_FILE} says that answer_template is 7, which cannot be: copy the file"),
        ('{"mood": "good"}', f"{PROMPTING_FILE} has 'mood', which this version of trl_latro does not know"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    model = tiny.save_model(tiny.byte_level_tokenizer(), tmp_path / "model")
    (tmp_path / "model" / PROMPTING_FILE).write_text(content)
    with pytest.raises(ValueError, match=message):
        evaluate_main(evaluating(tmp_path, Path(model), "run"))
    assert not (tmp_path / "run").exists()


def test_stop_strings_on_the_command_line_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`rationale_stop_strings` is .* an empty or blank string"):
        evaluate_main(evaluating(tmp_path, BASE_MODEL, "run", rationale_stop_strings=["####", " "]))


def test_offline_what_the_hub_knows_is_not_taken_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert read_model_prompting("ann/never-seen") is None
    assert f"ann/never-seen: whether it has a {PROMPTING_FILE}" in caplog.text


# ---- compared ----


def test_a_comparison_says_where_the_models_were_prompted_differently(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, more in (
        ("a", {}),
        ("b", {"answer_separator": " ", "chat_template_kwargs": {}}),
        ("c", {"num_shots": 1}),
    ):
        evaluate_main(evaluating(tmp_path, trained / "run", output, **more))
    capsys.readouterr()
    compare_main([str(tmp_path / "a"), str(tmp_path / "a")])
    assert "differently" not in capsys.readouterr().out
    compare_main([str(tmp_path / "a"), str(tmp_path / "b")])
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "differently" in line] == [
        r'Prompted differently: answer_separator is "\n" in A and " " in B.',
        'Prompted differently: chat_template_kwargs is {"loud": true} in A and unset in B.',
    ]
    assert "sample accuracy" in printed
    # Where the questions are not the same because of it, that comes first
    with pytest.raises(ValueError, match="Question 0 differs"):
        compare_main([str(tmp_path / "a"), str(tmp_path / "c")])
    assert "Prompted differently: num_shots is 2 in A and 1 in B." in capsys.readouterr().out


# ---- resumed ----


@pytest.fixture
def resumed_folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


OTHER = "was trained with other prompts or answers than those that the training goes on with"


@pytest.mark.parametrize("checkpoint", ["last", "checkpoint-1"])
def test_a_resumed_training_goes_on_with_the_prompts_of_its_checkpoint(
    resumed_folder: Path, caplog: pytest.LogCaptureFixture, checkpoint: str
) -> None:
    run = resumed_folder / "run"
    # One that was cut short, later than the one that the training goes on from
    shutil.copytree(run / "checkpoint-1", run / "checkpoint-7")
    (run / "checkpoint-7" / "trainer_state.json").unlink()
    write_prompting(run / "checkpoint-7", USUAL)
    resume = "last" if checkpoint == "last" else str(run / checkpoint)
    train_main(training(resumed_folder, max_steps=2, resume_from_checkpoint=resume))
    assert read_prompting(run) == read_prompting(run / "checkpoint-2") == UNUSUAL
    assert OTHER not in caplog.text


def test_what_a_resumed_training_does_otherwise_is_said_once(
    resumed_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"answer_template": "So {answer}", "num_shots": 1}
    train_main(training(resumed_folder, max_steps=2, resume_from_checkpoint="last", **other))
    run = resumed_folder / "run"
    assert read_prompting(run) == UNUSUAL | other
    said = f'checkpoint-1 {OTHER}: answer_template was "So: {{answer}}!" and is "So {{answer}}"; num_shots was 2 and is 1.'
    assert caplog.text.count(said) == caplog.text.count(OTHER) == 1


def test_in_python_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    python_trainer(tmp_path).train()
    python_trainer(tmp_path, max_steps=2).train(resume_from_checkpoint=True)
    assert OTHER not in caplog.text
    python_trainer(tmp_path, max_steps=3, rationale_stop_strings=["So"]).train(resume_from_checkpoint=True)
    assert f'{OTHER}: rationale_stop_strings was the answer template\'s beginning and is ["So"].' in caplog.text
