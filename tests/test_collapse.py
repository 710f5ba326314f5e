# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The base model whose rationales are mostly wrong, and the study of collapse with very few steps."""

import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from given import cpu_config, scored_completions


ROOT = Path(__file__).parents[1]
BASE_MODEL = ROOT / "examples" / "puzzles" / "weak_house_base_model"
RESULTS = ROOT / "docs" / "collapse"
sys.path.insert(0, str(ROOT / "examples"))

from collapse.__main__ import main as study_collapse  # noqa: E402
from collapse.cures import AnswerTermWherePositive  # noqa: E402
from collapse.report import bound_of_groups, read_runs, write_report  # noqa: E402
from collapse.run import STEP_METRICS, kind_of  # noqa: E402
from collapse.settings import LOOKS, OBJECTIVES, STEPS, TEST_PUZZLES  # noqa: E402
from puzzles.common import is_correct, make_puzzles, write_answers  # noqa: E402
from puzzles.house import HousePuzzle  # noqa: E402


def test_weak_house_base_model_guesses_and_most_of_its_walks_are_wrong() -> None:
    assert (BASE_MODEL / "model.safetensors").stat().st_size < 2_000_000
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE_MODEL), AutoTokenizer.from_pretrained(BASE_MODEL)
    puzzles = make_puzzles(HousePuzzle, 300, seed=1, held_out=True)
    samples = write_answers(model, tokenizer, puzzles, sample=True)
    walked = [(text, puzzle) for text, puzzle in zip(samples, puzzles, strict=True) if "guess" not in text]
    assert 0.35 * len(puzzles) < len(walked) < 0.55 * len(puzzles)
    right = sum(puzzle.rationale in text for text, puzzle in walked) / len(walked)
    assert 0.12 < right < 0.32  # so few that guessing gives the answer more log-prob
    accuracy = sum(is_correct(text, puzzle.answer) for text, puzzle in zip(samples, puzzles, strict=True))
    assert 0.06 * len(puzzles) < accuracy < 0.2 * len(puzzles)


def test_kinds_of_rationales() -> None:
    gold = " North from the hall is the cellar. Up from the cellar is the studio."
    assert kind_of(f"{gold} The answer is studio.", gold) == "right"
    assert kind_of(f"{gold} The answer is attic.", gold) == "right"
    assert kind_of(f"{gold} Up from the studio is the nursery. The answer is studio.", gold) == "wrong"
    assert kind_of(" North from the hall is the attic. The answer is attic.", gold) == "wrong"
    assert kind_of(" I guess. The answer is studio.", gold) == kind_of(" The answer is studio.", gold) == "guess"


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_bound_of_groups_is_its_mean_over_all_groups(floor: float) -> None:
    q, right, wrong, size = 0.3, -0.1, -5.0, 4
    mean = 0.0
    for group in itertools.product([True, False], repeat=size):
        chance = math.prod(q if is_right else 1 - q for is_right in group)
        probs = [math.exp(right if is_right else wrong) for is_right in group]
        mean += chance * math.log(floor + sum(probs) / size)
    assert bound_of_groups(q, right, wrong, size, floor) == pytest.approx(mean)


def test_the_answer_is_learnt_after_rationales_with_a_positive_advantage_alone(tmp_path: Path) -> None:
    tokenizer, questions = tiny.byte_level_tokenizer(), tiny.tiny_dataset(3)
    trainer = AnswerTermWherePositive(
        tiny.tiny_model(tokenizer), cpu_config(str(tmp_path)), questions, processing_class=tokenizer
    )
    batch = scored_completions(trainer, [row for row in questions for _ in range(4)])
    is_positive = batch["advantages"] > 0
    assert 0 < is_positive.sum() < 12
    assert torch.equal(batch["answer_weights"], batch["answer_mask"] * is_positive[:, None])


def test_a_tiny_study_starts_anew_writes_its_files_and_continues(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--output_dir", str(tmp_path / "collapse"), "--methods", "logprob", "logprob_phased_in", "--seeds", "0"]
    tiny += ["--steps", "2", "--test_puzzles", "10", "--workers", "1"]
    old = tmp_path / "collapse" / "weak_house-logprob-0.json"
    old.parent.mkdir()
    old.write_text(json.dumps({"seed": 0, "steps": 1, "test_puzzles": 10}))
    with pytest.raises(ValueError, match="holds runs with steps 1, but 2 is asked for: choose another --output_dir"):
        study_collapse(tiny)
    study_collapse([*tiny, "--from-scratch"])
    output = "".join(capfd.readouterr())
    assert "2 runs, 0 of them made before" in output and "weak_house logprob_phased_in seed 0: samples right" in output
    assert "arning" not in output and "{'loss'" not in output
    runs = read_runs(tmp_path / "collapse")
    assert list(runs) == ["logprob", "logprob_phased_in"]
    for method, coefs in (("logprob", [1.0, 1.0]), ("logprob_phased_in", [0.0, 0.5])):
        updates = runs[method][0]["updates"]
        losses, policy, answer = (np.array(updates[n]) for n in ("loss", "latro/policy_loss", "latro/answer_loss"))
        assert losses == pytest.approx(policy + coefs * answer, rel=1e-3, abs=1e-6)
    for (run,) in runs.values():
        assert [look["step"] for look in run["looks"]] == [0, 2]
        for look in run["looks"]:
            assert len(look["right_samples"]) == len(look["right_greedy"]) == 10
            assert look["sample_accuracy"] == pytest.approx(sum(map(int, look["right_samples"])) / 40)
            assert sum(kind["share"] for kind in look["rationales"].values()) == pytest.approx(1, abs=1e-4)
        assert set(run["updates"]) == set(STEP_METRICS)
        assert all(len(values) == 2 for values in run["updates"].values())
        assert all(isinstance(value, float) for value in run["updates"]["latro/answer_prob"])
    assert (tmp_path / "collapse.png").stat().st_size > 10_000

    study_collapse(tiny)
    assert "2 runs, 2 of them made before\nTables in" in capfd.readouterr().out


def test_the_pages_show_the_results_beside_them(tmp_path: Path) -> None:
    (tmp_path / "collapse").symlink_to(RESULTS)
    for name in ("collapse.md", "collapse_per_seed.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    write_report(tmp_path / "collapse")
    for name in ("collapse.md", "collapse_per_seed.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()


def test_the_study_is_whole_and_takes_an_hour_on_two_cores() -> None:
    runs = read_runs(RESULTS)
    assert {name: tuple(run["seed"] for run in of) for name, of in runs.items()} == {
        name: objective.seeds for name, objective in OBJECTIVES.items()
    }
    assert sum(run["seconds"] for of in runs.values() for run in of) / 2 < 3600


@pytest.mark.parametrize("method", OBJECTIVES)
def test_what_collapses_and_what_does_not(method: str) -> None:
    for run in read_runs(RESULTS)[method]:
        first, last = run["looks"][0], run["looks"][-1]
        assert [look["step"] for look in run["looks"]] == list(LOOKS)
        assert run["steps"] == STEPS and len(first["right_samples"]) == TEST_PUZZLES
        assert all(len(values) == STEPS for values in run["updates"].values())
        logps, probs = (np.array(run["updates"][f"latro/{name}"]) for name in ("answer_logp", "answer_prob"))
        assert logps[-5:].mean() > logps[0]  # in any case
        if method.startswith("logprob"):
            assert last["sample_accuracy"] < 0.7 * first["sample_accuracy"]
            assert last["sample_rationale_tokens"] < 0.3 * first["sample_rationale_tokens"]
            assert probs[-5:].mean() < 0.7 * probs[0]
        else:
            assert last["sample_accuracy"] > 0.85
            assert last["sample_rationale_tokens"] > first["sample_rationale_tokens"]


def test_results_are_small() -> None:
    files = list(RESULTS.glob("*.json"))
    assert files and all(len(path.read_bytes()) < 30_000 for path in files)
    assert all(json.loads(path.read_text())["task"] == "weak_house" for path in files)
