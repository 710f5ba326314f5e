# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Prompts and answers of the tasks, and what a broken file says."""

import json
from pathlib import Path
from typing import Any

import pytest
from trl import is_conversational

from trl_latro.tasks import Task, train_validation_split
from trl_latro.tasks.arc_challenge import ARC_CHALLENGE
from trl_latro.tasks.gsm8k import GSM8K


DATA = Path(__file__).parents[2] / "shared" / "data"

GSM8K_ROW = {
    "question": "A ship weighs 1,000 tons and takes on 2 x 617 more. How heavy is it?",
    "answer": "It takes on 2*617 = <<2*617=1234>>1234.\nSo it weighs <<1000+1234=2234>>2234 tons.\n#### 2,234",
}
ARC_ROW = {
    "id": "Mercury_1",
    "question": "Which of these is a metal?",
    "choices": {"text": ["wood", "iron", "glass"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}


def write_lines(folder: Path, lines: list[Any], split: str = "train") -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / f"{split}.jsonl").write_text(text + "\n")
    return str(folder)


def test_gsm8k_asks_for_steps_and_keeps_the_number_alone(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [GSM8K_ROW])
    (row,) = GSM8K.load("train", conversational=False, dataset_path=path)
    assert row == {"prompt": f"{GSM8K_ROW['question']}\nLet's think step by step.", "answer": "2,234"}
    (row,) = GSM8K.load("train", conversational=True, dataset_path=path)
    content = f"{GSM8K_ROW['question']} Let's think step by step."
    assert row == {"prompt": [{"role": "user", "content": content}], "answer": "2,234"}


@pytest.mark.parametrize("labels", [["A", "B", "C"], ["1", "2", "3"]])
def test_arc_challenge_lists_options_by_label_and_answers_with_the_label(tmp_path: Path, labels: list[str]) -> None:
    row = {**ARC_ROW, "choices": {**ARC_ROW["choices"], "label": labels}, "answerKey": labels[1]}
    path = write_lines(tmp_path, [row])
    options = f"{labels[0]}. wood\n{labels[1]}. iron\n{labels[2]}. glass"
    (text,) = ARC_CHALLENGE.load("train", conversational=False, dataset_path=path)
    assert text["prompt"] == (
        f"Question: Which of these is a metal?\nOptions:\n{options}\nAnswer: Let's think step by step."
    )
    assert text["answer"] == labels[1]
    (chat,) = ARC_CHALLENGE.load("train", conversational=True, dataset_path=path)
    (message,) = chat["prompt"]
    assert message["role"] == "user"
    assert options in message["content"] and "Let's think step by step" in message["content"]
    assert chat["answer"] == labels[1]


def test_splits_come_from_their_own_files(tmp_path: Path) -> None:
    write_lines(tmp_path, [GSM8K_ROW], split="train")
    path = write_lines(tmp_path, [{**GSM8K_ROW, "answer": "#### 7"}], split="test")
    assert GSM8K.load("test", conversational=False, dataset_path=path)["answer"] == ["7"]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [GSM8K_ROW, "", GSM8K_ROW, ""])
    assert len(GSM8K.load("train", conversational=False, dataset_path=path)) == 2


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        (GSM8K, '{"question": "What', "line 2: not a line of JSON"),
        (GSM8K, "[1, 2]", r"line 2: expected an object with the columns \['question', 'answer'\], got \[1, 2\]"),
        (
            GSM8K,
            {"problem": "?", "answer": "#### 1"},
            r"\['question'\] are missing.*present are \['problem', 'answer'\]",
        ),
        (GSM8K, {**GSM8K_ROW, "answer": "So it is 4."}, "line 2: answer should end with '#### ' and the number"),
        (GSM8K, {**GSM8K_ROW, "answer": "#### "}, "line 2: answer should end with '#### ' and the number"),
        (GSM8K, {**GSM8K_ROW, "question": None}, "line 2: question should be a non-empty text, got None"),
        (ARC_CHALLENGE, {**ARC_ROW, "answerKey": "E"}, r"answerKey is 'E', .* labels \['A', 'B', 'C'\]"),
        (ARC_CHALLENGE, {**ARC_ROW, "choices": ["wood"]}, "choices should hold lists named 'text' and 'label'"),
        (ARC_CHALLENGE, {**ARC_ROW, "choices": {"text": ["a"], "label": ["A", "B"]}}, "1 texts but 2 labels"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, task: Task, line: Any, message: str) -> None:
    good = GSM8K_ROW if task is GSM8K else ARC_ROW
    path = write_lines(tmp_path, [good, line])
    with pytest.raises(ValueError, match=message) as error:
        task.load("train", conversational=False, dataset_path=path)
    assert str(tmp_path / "train.jsonl") in str(error.value)


def test_bytes_that_are_not_text_are_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(json.dumps(GSM8K_ROW).encode() + b"\n\x80\xff\n")
    with pytest.raises(ValueError, match="train.jsonl, line 2: not a line of JSON"):
        GSM8K.load("train", conversational=False, dataset_path=str(tmp_path))


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl does not exist"):
        GSM8K.load("train", conversational=False, dataset_path=str(tmp_path))
    path = write_lines(tmp_path, [""])
    with pytest.raises(ValueError, match=r"train\.jsonl holds no rows"):
        GSM8K.load("train", conversational=False, dataset_path=path)


def test_the_validation_set_is_taken_out_of_train_by_its_seed(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [{**GSM8K_ROW, "answer": f"#### {index}"} for index in range(20)])
    rows = GSM8K.load("train", conversational=False, dataset_path=path)
    train, validation = train_validation_split(rows, validation_size=5, seed=1)
    assert len(validation) == 5
    assert sorted([*train["answer"], *validation["answer"]]) == sorted(rows["answer"])
    assert list(train_validation_split(rows, validation_size=5, seed=1)[1]["answer"]) == list(validation["answer"])
    assert list(train_validation_split(rows, validation_size=5, seed=2)[1]["answer"]) != list(validation["answer"])
    assert train_validation_split(rows, validation_size=0, seed=1) == (rows, None)
    for size in (-1, 20):
        with pytest.raises(ValueError, match=f"validation_size is {size}, but the training set has 20 rows"):
            train_validation_split(rows, validation_size=size, seed=1)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not beside this checkout (../shared/data)")
@pytest.mark.parametrize(
    ("task", "folder", "sizes"), [(GSM8K, "gsm8k", (7473, 1319)), (ARC_CHALLENGE, "arc_challenge", (1056, 1172))]
)
def test_every_row_of_the_real_data_has_a_prompt_and_an_answer(
    task: Task, folder: str, sizes: tuple[int, int]
) -> None:
    for split, size in zip(("train", "test"), sizes, strict=True):
        rows = task.load(split, conversational=True, dataset_path=str(DATA / folder))
        assert len(rows) == size
        assert is_conversational(rows[0])
        contents = [prompt[0]["content"] for prompt in rows["prompt"]]
        assert all("step by step" in content and "<<" not in content for content in contents)
        assert not any("####" in content for content in contents)
        if task is GSM8K:
            assert all(answer.replace(",", "").lstrip("-").isdigit() for answer in rows["answer"])
        else:
            assert set(rows["answer"]) <= set("ABCDE1234")
