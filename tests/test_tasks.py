# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Prompts and answers of the tasks, data of one's own, and what a broken file says."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from trl import is_conversational

from trl_latro.cli.task_arguments import TaskArguments, find_grader
from trl_latro.grading import grade_completion
from trl_latro.tasks.arc_challenge import ARC_CHALLENGE
from trl_latro.tasks.gsm8k import GSM8K
from trl_latro.tasks.math import MATH
from trl_latro.tasks.registry import get_task, write_number
from trl_latro.tasks.task import Task


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
    rationale = "It takes on 2*617 = 1234.\nSo it weighs 2234 tons."
    assert row == {
        "prompt": f"{GSM8K_ROW['question']}\nLet's think step by step.",
        "answer": "2,234",
        "rationale": rationale,
    }
    (row,) = GSM8K.load("train", conversational=True, dataset_path=path)
    content = f"{GSM8K_ROW['question']} Let's think step by step."
    assert row == {"prompt": [{"role": "user", "content": content}], "answer": "2,234", "rationale": rationale}


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
    assert chat["options"] == {"label": labels, "text": ["wood", "iron", "glass"]}
    verdict = grade_completion("The answer is iron.", chat, ARC_CHALLENGE.answer_template, ARC_CHALLENGE.grader)
    assert verdict.correct


@pytest.mark.parametrize(
    ("solution", "answer", "rationale"),
    [
        ("First $x=2$.\nThen it is $\\boxed{\\frac{1}{2}}$, so.", "\\frac{1}{2}", "First $x=2$.\nThen it is $"),
        ("Not $\\boxed{3}$ but $\\fbox{4}$.", "4", "Not $\\boxed{3}$ but $"),
        ("It is $\\boxed 5$.", "5", "It is $"),
    ],
)
def test_math_answers_with_its_last_box(tmp_path: Path, solution: str, answer: str, rationale: str) -> None:
    path = write_lines(tmp_path, [{"problem": "What is $x$?", "solution": solution}])
    (row,) = MATH.load("train", conversational=True, dataset_path=path)
    assert (row["answer"], row["rationale"]) == (answer, rationale)
    assert "\\boxed{}" in row["prompt"][0]["content"]
    verdict = grade_completion(f"So \\boxed{{{answer}}}", row, MATH.answer_template, MATH.grader)
    assert verdict.correct


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
        (GSM8K, {**GSM8K_ROW, "answer": "So it is 4."}, "line 2: answer should end with '####' and the number"),
        (GSM8K, {**GSM8K_ROW, "answer": "#### "}, "line 2: answer should end with '####' and the number"),
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

    def answers(split: str, size: int, seed: int) -> list[str]:
        return list(GSM8K.load(split, False, path, validation_size=size, validation_seed=seed)["answer"])

    train, validation = answers("train", 5, 1), answers("validation", 5, 1)
    assert len(validation) == 5
    assert sorted([*train, *validation], key=int) == [str(index) for index in range(20)]
    assert answers("validation", 5, 1) == validation
    assert answers("validation", 5, 2) != validation
    assert len(answers("train", 0, 1)) == 20
    for size in (-1, 20):
        with pytest.raises(ValueError, match=f"validation_size is {size}, but the training set has 20 rows"):
            answers("train", size, 1)


def test_a_validation_split_of_the_datas_own_is_used(tmp_path: Path) -> None:
    write_lines(tmp_path, [{**GSM8K_ROW, "answer": f"#### {index}"} for index in range(10, 14)], split="validation")
    path = write_lines(tmp_path, [{**GSM8K_ROW, "answer": f"#### {index}"} for index in range(4)])
    assert len(GSM8K.load("train", False, path, validation_size=2)) == 4, "nothing is taken out of train"
    assert set(GSM8K.load("validation", False, path, validation_size=2)["answer"]) < {"10", "11", "12", "13"}
    assert len(GSM8K.load("validation", False, path, validation_size=100)) == 4


def test_solved_questions_stand_in_front_and_are_not_trained_on(tmp_path: Path) -> None:
    rows = [{"question": f"Question {n}?", "answer": f"Because <<{n}>>of {n}.\n#### {n}"} for n in range(6)]
    write_lines(tmp_path, [{"question": "Test?", "answer": "#### 100"}], split="test")
    path = write_lines(tmp_path, rows)
    (test,) = GSM8K.load("test", False, path, num_shots=2)
    first, second, last = test["prompt"].split("\n\n")
    assert last == "Test?\nLet's think step by step."
    for shot in (first, second):
        number = shot[len("Question ")]
        assert shot == (f"Question {number}?\nLet's think step by step.\nBecause of {number}. The answer is {number}.")
    train = GSM8K.load("train", True, path, num_shots=2, validation_size=1)
    assert len(train) == 3
    messages = train[0]["prompt"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 + ["user"]
    assert messages[1]["content"].endswith(f"The answer is {first[len('Question ')]}."), "the same ones everywhere"
    assert not any(
        f"Question {shot[len('Question ')]}?" in row["prompt"][-1]["content"]
        for row in train
        for shot in (first, second)
    )


# ---- data of one's own ----


def write_csv(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def test_a_file_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    lines = [
        {"ask": "Capital of France? ", "reply": "Paris", "why": "It is."},
        {"ask": "2 + 2?", "reply": 4, "why": "Sum."},
    ]
    write_lines(tmp_path, lines)
    columns = {"question_column": "ask", "answer_column": "reply", "rationale_column": "why"}
    task = get_task(str(tmp_path / "train.jsonl"), **columns, prompt_template="Q: {question}\nA:")
    rows = task.load("test", conversational=False)
    assert rows["prompt"] == ["Q: Capital of France?\nA:", "Q: 2 + 2?\nA:"]
    assert rows["answer"] == ["Paris", "4"]
    assert rows["rationale"] == ["It is.", "Sum."]
    assert (
        len(task.load("train", False, validation_size=1))
        == len(task.load("validation", False, validation_size=1))
        == 1
    )

    table = write_csv(tmp_path / "my.csv", [["ask", "reply"], ["One, two,\nor three?", "3"]])
    (row,) = get_task(table, question_column="ask", answer_column="reply").load("test", conversational=True)
    assert row["prompt"][0]["content"] == "One, two,\nor three?\nLet's think step by step."
    assert row["answer"] == "3"
    assert "rationale" not in row


def test_a_question_may_have_several_answers(tmp_path: Path) -> None:
    lines = [{"question": "2 + 2?", "answer": [" four", 4]}, {"question": "Capital of France?", "answer": "Paris"}]
    write_lines(tmp_path, lines)
    rows = get_task(str(tmp_path / "train.jsonl")).load("test", conversational=False)
    assert rows["answer"] == [["four", "4"], ["Paris"]], "a column has lists or texts, not both"


def test_a_folder_of_ones_own_may_mix_formats(tmp_path: Path) -> None:
    write_lines(tmp_path, [{"question": "a?", "answer": "1"}])
    write_csv(tmp_path / "test.csv", [["question", "answer"], ["b?", "2"]])
    task = get_task(str(tmp_path))
    assert task.load("train", False)["answer"] == ["1"]
    assert task.load("test", False)["answer"] == ["2"]
    write_csv(tmp_path / "train.csv", [["question", "answer"], ["b?", "2"]])
    with pytest.raises(ValueError, match="has both train.jsonl and train.csv: keep one"):
        task.load("train", False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "my.csv",
            "question,answer\na?,1\nb?\n",
            r"my.csv, line 3: 1 fields, but the header has 2: \['question', 'answer'\]",
        ),
        ("my.csv", 'question,answer\na?,"1\n', "my.csv, line 2: not a line of CSV"),
        (
            "my.csv",
            "ask,answer\na?,1\n",
            r"line 2: the columns \['question'\] are missing; the columns present are \['ask', 'answer'\]",
        ),
        ("my.csv", "question,answer\n", "my.csv holds no rows"),
        ("my.csv", "question,answer\na?,\n", "line 2: answer should be a non-empty text, got ''"),
        (
            "my.jsonl",
            '{"question": "a?", "answer": []}',
            r"line 1: answer should be a non-empty text or a list .* got \[\]",
        ),
        ("my.jsonl", '{"question": "a?", "answer": ["b", ""]}', "Each of answer should be a non-empty text, got ''"),
        ("my.jsonl", '{"question": "a?", "answer": true}', "line 1: answer should be a non-empty text, got True"),
        ("my.jsonl", "", "my.jsonl holds no rows"),
    ],
)
def test_a_broken_file_of_ones_own_is_named_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        get_task(str(tmp_path / name)).load("test", False)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        *(("7", "7"), ("7.0", "7"), ("-7.00", "-7"), ("0.0", "0"), ("-0.0", "0"), ("7e0", "7"), ("1e3", "1000")),
        *(
            ("1e21", "1000000000000000000000"),
            ("1E23", "100000000000000000000000"),
            ("9007199254740993", "9007199254740993"),
        ),
        *(
            ("0.5", "0.5"),
            ("-1.50", "-1.5"),
            ("1e-7", "0.0000001"),
            ("0.1", "0.1"),
            ("123456789.125", "123456789.125"),
        ),
        *(('"7.0"', "7.0"), ('"nan"', "nan"), ('"Infinity"', "Infinity")),  # texts stay as they are
    ],
)
def test_a_number_is_written_as_the_integer_that_it_is(tmp_path: Path, number: str, answer: str) -> None:
    path = write_lines(tmp_path, [f'{{"question": "a?", "answer": {number}}}'])
    assert get_task(path).load("train", False)["answer"] == [answer]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
@pytest.mark.parametrize(
    "row", ['"answer": {}', '"answer": "1", "score": {}', '"answer": "1", "more": [{{"x": [{}]}}]']
)
def test_what_is_no_number_is_an_error_with_file_and_line(tmp_path: Path, number: str, row: str) -> None:
    good = {"question": "a?", "answer": 1}
    path = write_lines(tmp_path, [good, f'{{"question": "b?", {row.format(number)}}}', good])
    with pytest.raises(ValueError, match=rf"train.jsonl, line 2: not a line of JSON \({number} is "):
        get_task(path).load("train", False)
    assert len(get_task(path).load("train", False, skip_bad_rows=True)) == 2
    with pytest.raises(ValueError, match="answer should be a number or a non-empty text, got nan"):
        write_number(float("nan"), "answer")  # of a dataset on the Hub, which has its own readers


def test_a_row_that_names_a_column_twice_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [{"question": "a?", "answer": 1}, '{"question": "b?", "answer": 1, "answer": 2}'])
    with pytest.raises(ValueError, match=r"train.jsonl, line 2: not a line of JSON \('answer' is there twice\)"):
        get_task(path).load("train", False)


def test_a_csv_header_that_names_a_column_twice_is_an_error(tmp_path: Path) -> None:
    for header in (["question", "answer", "answer"], ["score", "question", "answer", "score"]):
        table = write_csv(tmp_path / "my.csv", [header, ["1"] * len(header)])
        for skip in (False, True):
            with pytest.raises(ValueError, match=rf"my.csv, line 1: the header names the column '{header[-1]}' twice"):
                get_task(table).load("test", False, skip_bad_rows=skip)
    # Spreadsheets write commas for columns that have neither a name nor a value; `Answer` is another name
    table = write_csv(tmp_path / "my.csv", [["question", "answer", "Answer", "", ""], ["a?", "1", "2", "", ""]])
    assert get_task(table).load("test", False)["answer"] == ["1"]


BAD_LINES = ["{", "[1]", '{"question": "a?"}', '{"question": "", "answer": "1"}', '{"question": "a?", "answer": NaN}']


def test_rows_that_cannot_be_read_are_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = {"question": "a?", "answer": "1"}
    path = write_lines(tmp_path, [good, *BAD_LINES, good, "{", good])
    task = get_task(path)
    with pytest.raises(ValueError) as error:
        task.load("train", False)
    message = str(error.value)
    assert message.startswith("6 of 9 rows cannot be read: ")
    assert f"{tmp_path / 'train.jsonl'}, line 2, line 8: not a line of JSON" in message
    for line, reason in (
        (3, "expected an object"),
        (4, "the columns ['answer'] are missing"),
        (5, "question should be"),
    ):
        assert f"line {line}: {reason}" in message
    assert message.endswith("Mend what is wrong, or leave such rows out with --skip_bad_rows.")
    for split in ("train", "validation"):
        rows = task.load(split, False, validation_size=1, skip_bad_rows=True)
        assert len(rows) == (2 if split == "train" else 1)
    assert [record.getMessage() for record in caplog.records] == [f"Left out: {message.partition(' Mend')[0]}"]


def test_a_few_kinds_of_bad_rows_are_named_and_the_others_counted(tmp_path: Path) -> None:
    lines = [{"question": n, "answer": "1"} for n in range(14)] + [{"question": "", "answer": "1"}] * 30
    path = write_lines(tmp_path, [{"question": "a?", "answer": "1"}, *lines])
    with pytest.raises(ValueError, match=r"44 of 45 rows cannot be read: .* got 9; and 34 more\. Mend") as error:
        get_task(path).load("train", False)
    assert len(str(error.value)) < 1000
    path = write_lines(tmp_path, [{"question": "a?", "answer": "1"}, *lines[14:]])
    with pytest.raises(ValueError, match=r"30 of 31 .*, line 2, .*, line 11 and 20 more: question should be"):
        get_task(path).load("train", False)


def test_rows_that_all_lack_a_column_are_an_error_in_any_case(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [{"ask": "a?", "answer": "1"}] * 3)
    for skip in (False, True):
        with pytest.raises(
            ValueError, match=r"None of the 3 rows can be read: .*line 1: the columns \['question'\] are"
        ):
            get_task(path).load("train", False, skip_bad_rows=skip)


def test_csv_rows_are_left_out_where_it_is_known_where_they_end(tmp_path: Path) -> None:
    table = tmp_path / "my.csv"
    table.write_bytes(b"question,answer\na?,1\nb?\n\xe9?,2\nc?,3,4\nd?,\ne?,5\n")
    with pytest.raises(
        ValueError, match="4 of 6 rows cannot be read: .*line 3: 1 fields.*line 4: not in UTF-8; .*line 6"
    ):
        get_task(str(table)).load("test", False)
    assert get_task(str(table)).load("test", False, skip_bad_rows=True)["answer"] == ["1", "5"]
    for text, line in (('a?,1\nb?,"2\nc?,3\n', 4), ('a?,1\nb?,"2"x\nc?,3\n', 3)):
        table.write_text(f"question,answer\n{text}")
        with pytest.raises(ValueError, match=f"my.csv, line {line}: not a line of CSV .* Where the next row begins"):
            get_task(str(table)).load("test", False, skip_bad_rows=True)
    table.write_bytes(b"question,r\xe9ponse\na?,1\n")
    with pytest.raises(ValueError, match="my.csv, line 1: the header is not in UTF-8"):
        get_task(str(table)).load("test", False, skip_bad_rows=True)


def test_the_named_tasks_leave_bad_rows_out_too(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [GSM8K_ROW, {**GSM8K_ROW, "answer": "It is 4."}, {**GSM8K_ROW, "answer": "4 ####5"}])
    assert GSM8K.load("train", False, path, skip_bad_rows=True)["answer"] == ["2,234", "5"]
    bad = [
        {**ARC_ROW, "choices": {"text": text, "label": label}, "answerKey": "A"}
        for text, label in (
            ("wood", "ABCD"),
            (["wood", None], ["A", "B"]),
            (["wood", "iron"], ["A", 2]),
            ([], []),
            (None, ["A"]),
            (["wood", " "], ["A", "B"]),
        )
    ]
    path = write_lines(tmp_path, [ARC_ROW, *bad])
    with pytest.raises(ValueError, match="6 of 7 rows cannot be read"):
        ARC_CHALLENGE.load("train", False, path)
    assert len(ARC_CHALLENGE.load("train", False, path, skip_bad_rows=True)) == 1
    path = write_lines(tmp_path, [{"problem": "1?", "solution": "\\boxed{1}"}, {"problem": "2?", "solution": "None."}])
    assert len(MATH.load("train", False, path, skip_bad_rows=True)) == 1


@pytest.mark.parametrize(("answer", "number"), [("4.\n####5", "5"), ("#### 5", "5"), ("4.\n####\t-5 ", "-5")])
def test_gsm8ks_mark_may_touch_its_number(tmp_path: Path, answer: str, number: str) -> None:
    path = write_lines(tmp_path, [{**GSM8K_ROW, "answer": answer}])
    assert GSM8K.load("train", False, path)["answer"] == [number]


def test_half_of_a_surrogate_pair_is_named_by_line(tmp_path: Path) -> None:
    for name in ("question", "answer"):
        path = write_lines(tmp_path, [{"question": "a?", "answer": "b", name: "\ud800!"}])
        with pytest.raises(ValueError, match=f"line 1: {name} has half of a surrogate pair"):
            get_task(path).load("train", False)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path, [GSM8K_ROW])

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    with pytest.raises(ValueError, match="train.jsonl cannot be read: Permission denied"):
        get_task(path).load("train", False)


def test_an_unknown_task_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("gsm9k", str(tmp_path / "missing.jsonl"), "a/b/c", "missing/data.csv"):
        with pytest.raises(ValueError, match=r"Use one of \['gsm8k', 'arc_challenge', 'math'\], the path of"):
            get_task(name)
    (tmp_path / "data.txt").write_text("a")
    with pytest.raises(ValueError, match="data.txt should be a JSON lines or CSV file"):
        get_task(str(tmp_path / "data.txt"))
    with pytest.raises(ValueError, match="has no {question}"):
        get_task(write_lines(tmp_path, [GSM8K_ROW]), prompt_template="Hello")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--task is missing"),
        (
            {"task": "gsm8k", "question_column": "ask"},
            "--question_column belongs to your own data, but the task is 'gsm8k'",
        ),
        ({"task": "my.jsonl", "dataset_path": "data"}, "for your own data, --task is the path"),
        ({"task": "organisation/name", "grader": "right"}, "should be 'module.function'"),
        ({"task": "organisation/name", "grader": "json.right"}, "belongs to Python itself"),
    ],
)
def test_arguments_that_make_no_task_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskArguments(**arguments).get_task()


def test_shots_need_rationales_and_a_split_of_their_own(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [{"question": f"{n}?", "answer": "1"} for n in range(4)])
    with pytest.raises(ValueError, match="num_shots needs data with gold rationales"):
        get_task(path).load("train", False, num_shots=1)
    with pytest.raises(ValueError, match="is a single file: solved questions come from a training split"):
        get_task(f"{path}/train.jsonl").load("test", False, num_shots=1)


def test_a_grader_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grading_of_my_own.py").write_text("def is_right(extracted, row):\n    return extracted == 'yes'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find_grader("grading_of_my_own.is_right")("yes", {})
    for name, message in {
        "is_right": "should be 'module.function'",
        "grading_of_my_own.is_wrong": "the module 'grading_of_my_own' .* has no 'is_wrong'",
        "no_such_module.is_right": "No module named 'no_such_module': modules are looked for among",
    }.items():
        with pytest.raises(ValueError, match=message):
            find_grader(name)


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
            assert all(row["rationale"] for row in rows)
            assert all(answer.replace(",", "").lstrip("-").isdigit() for answer in rows["answer"])
        else:
            assert set(rows["answer"]) <= set("ABCDE1234")
