# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The house puzzle with its base model, and the study with very few steps."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import read_settings


EXAMPLES = Path(__file__).parents[1] / "examples"
BASE_MODEL = EXAMPLES / "puzzles" / "house_base_model"
sys.path.insert(0, str(EXAMPLES))

from puzzles.common import is_correct, make_puzzles, write_answers  # noqa: E402
from puzzles.house import DIRECTIONS, HOUSE, ROOMS, HousePuzzle, HouseStep  # noqa: E402
from study.__main__ import main as study  # noqa: E402
from study.report import BEGIN, END, over_seeds, read_runs, write_report  # noqa: E402
from study.settings import TASKS, held_out_questions, training_questions  # noqa: E402


def test_the_worked_example_of_the_house() -> None:
    puzzle = HousePuzzle("hall", (HouseStep("north"), HouseStep("up")))
    assert puzzle.prompt == "You are in the hall. Go north. Go up. Where are you?"
    assert puzzle.rationale == "North from the hall is the cellar. Up from the cellar is the studio."
    assert puzzle.answer == "studio"


def test_every_direction_leads_to_every_room_and_away() -> None:
    for index in range(len(DIRECTIONS)):
        reached = [doors[index] for doors in HOUSE.values()]
        assert sorted(reached) == sorted(ROOMS)
        assert not any(room == after for room, after in zip(ROOMS, reached, strict=True))


def test_a_walk_goes_by_the_map_and_the_prompt_does_not_tell_it() -> None:
    for puzzle in make_puzzles(HousePuzzle, 300, seed=0, held_out=False):
        room = re.match(r"You are in the (\w+)\.", puzzle.prompt)[1]
        directions = re.findall(r"Go (\w+)\.", puzzle.prompt)
        sentences = re.findall(r"(\w+) from the (\w+) is the (\w+)\.", puzzle.rationale)
        assert 2 <= len(directions) == len(sentences) <= 4
        for direction, (said, before, after) in zip(directions, sentences, strict=True):
            assert (said.lower(), before) == (direction, room)
            room = HOUSE[room][DIRECTIONS.index(direction)]
            assert after == room
        assert puzzle.answer == room
        assert sum(name in puzzle.prompt for name in ROOMS) == 1


def test_house_base_model_is_small_and_its_rooms_are_single_tokens() -> None:
    assert (BASE_MODEL / "model.safetensors").stat().st_size < 2_000_000
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    assert all(len(tokenizer.encode(f" {room}")) == 1 for room in ROOMS)


def test_house_base_model_can_walk_but_mostly_guesses() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE_MODEL), AutoTokenizer.from_pretrained(BASE_MODEL)
    puzzles = make_puzzles(HousePuzzle, 200, seed=1, held_out=True)
    samples = write_answers(model, tokenizer, puzzles, sample=True)
    walked = [(text, puzzle) for text, puzzle in zip(samples, puzzles, strict=True) if "guess" not in text]
    assert 0.3 * len(puzzles) < len(walked) < 0.6 * len(puzzles)
    right = sum(puzzle.rationale in text for text, puzzle in walked) / len(walked)
    assert 0.35 < right < 0.75  # the rewards differ where about half of them are right
    accuracy = sum(is_correct(text, puzzle.answer) for text, puzzle in zip(samples, puzzles, strict=True))
    assert 0.15 * len(puzzles) < accuracy < 0.4 * len(puzzles)


@pytest.mark.parametrize("task", ["house", "weak_house"])
def test_house_base_models_are_what_their_script_makes(task: str, tmp_path: Path) -> None:
    script = EXAMPLES / "puzzles" / "make_base_model.py"
    command = [sys.executable, str(script), "--task", task, "--steps", "1", "--output_dir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert read_settings(tmp_path / name) == read_settings(TASKS[task].base_model / name), name


@pytest.mark.parametrize("name", list(TASKS))
def test_nobody_has_seen_the_test_puzzles(name: str) -> None:
    task = TASKS[name]
    test, validation = held_out_questions(task, 500)
    quickstart = {puzzle.prompt for puzzle in make_puzzles(task.kind, 500, seed=0, held_out=True)}
    prompts = set(test["prompt"])
    assert len(prompts) == 500 and len(set(validation["prompt"])) == 100
    assert not prompts & quickstart
    assert not prompts & set(validation["prompt"])
    assert not prompts & set(training_questions(task, seed=0, steps=40)["prompt"])
    assert held_out_questions(task, 5)[0]["prompt"] == test["prompt"][:5]


def test_a_tiny_study_writes_its_files_continues_and_reports(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--output_dir", str(tmp_path / "study"), "--tasks", "house", "--seeds", "0", "--steps", "1"]
    tiny += ["--test_puzzles", "10", "--workers", "1"]
    methods = ["--methods", "base", "sft_gold", "jepo"]
    study([*tiny, *methods])
    output = "".join(capfd.readouterr())
    assert "3 runs, 0 of them made before" in output and "[3/3] house jepo seed 0: greedy_accuracy" in output
    assert "arning" not in output and "{'loss'" not in output
    study([*tiny, *methods])
    assert "3 runs, 3 of them made before\nTables in" in capfd.readouterr().out

    runs = read_runs(tmp_path / "study")
    assert list(runs) == [("house", "base"), ("house", "sft_gold"), ("house", "jepo")]
    for (run,) in runs.values():
        verdicts = run["per_question"]
        assert len(verdicts["greedy"]) == len(verdicts["right_samples"]) == len(verdicts["maj@8"]) == 10
        assert run["metrics"]["greedy_accuracy"][0] == pytest.approx(verdicts["greedy"].count("1") / 10)
        assert run["metrics"]["sample_accuracy"][0] == pytest.approx(sum(map(int, verdicts["right_samples"])) / 80)
        assert run["metrics"]["maj@8"][0] == pytest.approx(np.mean(verdicts["maj@8"]), abs=1e-3)
        assert [point["step"] for point in run["curve"]] == ([0] if run["method"] == "base" else [0, 1])
    page = (tmp_path / "results.md").read_text()
    assert page.startswith(BEGIN) and page.rstrip().endswith(END)
    assert re.search(r"\| LaTRO, jepo \| 1 \| [\d.]+% \([\d.]+ to [\d.]+\) \|", page)
    assert (tmp_path / "results.png").stat().st_size > 10_000

    with pytest.raises(ValueError, match="holds runs with steps 1, but 2 is asked for: choose another --output_dir"):
        study([*tiny, "--steps", "2"])


def test_over_seeds_a_puzzle_counts_with_its_mean() -> None:
    runs = [{"per_question": {"greedy": verdicts}} for verdicts in ("1100", "1010", "1000")]
    metric = over_seeds(runs, "greedy")
    assert metric.value == pytest.approx(5 / 12)
    assert metric.low >= 0 and metric.high <= 1
    # Seeds that differ on a puzzle are no more puzzles
    assert tuple(over_seeds(runs * 10, "greedy")) == pytest.approx(tuple(metric))


def test_the_report_keeps_the_page_around_its_tables(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    run = {
        "task": "dial",
        "method": "prob",
        "seed": 0,
        "metrics": {"sample_rationale_tokens": [9.0, 8.0, 10.0]},
        "per_question": {"greedy": "1100", "right_samples": "8400", "maj@8": [1.0, 0.5, 0.0, 0.0]},
        "curve": [{"step": 0, "sample_accuracy": 0.1, "sample_rationale_tokens": 3.0}],
        "training_seconds": 1.0,
    }
    (tmp_path / "study" / "dial-prob-0.json").write_text(json.dumps(run))
    page = tmp_path / "results.md"
    page.write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for _ in range(2):
        write_report(tmp_path / "study")
        text = page.read_text()
        assert text.startswith("Before.\n") and text.endswith("\nAfter.\n") and "old" not in text
        assert text.count("| LaTRO, prob | 1 | 50.0% (0.0 to 100.0) | 37.5% (0.0 to 75.0) | 37.5% ") == 1

    page.write_text("No marks.\n")
    with pytest.raises(ValueError, match="should hold the lines"):
        write_report(tmp_path / "study")
