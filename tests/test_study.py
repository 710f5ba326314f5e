# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The house puzzle with its base model, and the study with very few steps, on it and on a model in SmolLM2's place."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import byte_level_tokenizer, read_settings, save_model
from trl_latro.evaluation.intervals import mean_metric


ROOT = Path(__file__).parents[1]
EXAMPLES, DOCS = ROOT / "examples", ROOT / "docs"
BASE_MODEL = EXAMPLES / "puzzles" / "house_base_model"
sys.path.insert(0, str(EXAMPLES))

from puzzles.common import is_correct, make_puzzles, write_answers  # noqa: E402
from puzzles.house import DIRECTIONS, HOUSE, ROOMS, HousePuzzle, HouseStep  # noqa: E402
from study import gpu, gsm8k_task  # noqa: E402
from study.__main__ import main as study  # noqa: E402
from study.measures import collapsed, over_seeds, paired, question_mean, question_values, read_runs, runs_of  # noqa: E402
from study.methods import ALL_METHODS  # noqa: E402
from study.mixed_math_task import MixedMathTask  # noqa: E402
from study.pool import make_runs  # noqa: E402
from study.report import (  # noqa: E402
    control_table,
    hedging_table,
    other_pages,
    other_settings,
    overview,
    page_sections,
    task_table,
    verdicts,
    warning,
    write_other_pages,
    write_report,
)
from study.run import Run, do_run, make_run  # noqa: E402
from study.settings import TASKS, held_out_questions, training_questions  # noqa: E402
from study.training import permute_answers, tell_answer  # noqa: E402
from study.watch import Watch  # noqa: E402
from word_problems.problems import make_problems  # noqa: E402
from word_problems.warm_start import SETTINGS as WARM_START  # noqa: E402


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


@pytest.mark.parametrize("name", ["dial", "house", "weak_house"])
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


def test_nobody_has_seen_the_test_problems() -> None:
    task = TASKS["word_problems"]
    test, validation = held_out_questions(task, task.test_questions)

    def questions(rows) -> set[str]:
        return {row[0]["content"] for row in rows["prompt"]}

    of_others = {
        problem.question
        for split, count in (("test", 100), ("warm_start", 960), ("validation", 100))
        for problem in make_problems(count, 0, split)
    }
    asked = questions(test)
    assert (len(asked), len(questions(validation))) == (100, 50)
    assert not asked & {f"{question}\nLet's think step by step." for question in of_others}
    assert any(question.endswith("\nLet's think step by step.") for question in asked), "or nothing was compared"
    assert not asked & (questions(validation) | questions(training_questions(task, seed=0, steps=12)))
    assert test["rationale"][0].startswith(test["prompt"][0][0]["content"].split()[0])


def test_permuted_answers_are_those_of_other_questions() -> None:
    questions = training_questions(TASKS["house"], seed=0, steps=1)
    numbered = questions.remove_columns("answer").add_column("answer", [str(row) for row in range(len(questions))])
    permuted = permute_answers(numbered, seed=0)
    assert permuted["prompt"] == numbered["prompt"]
    assert sorted(permuted["answer"]) == sorted(numbered["answer"])
    assert not any(own == other for own, other in zip(numbered["answer"], permuted["answer"], strict=True))
    assert permute_answers(numbered, seed=1)["answer"] != permuted["answer"]


def test_prompt_posterior_sampling_tells_the_answer_in_the_question() -> None:
    assert tell_answer({"prompt": "Where?", "answer": "attic"}) == {"prompt": "Where? (Hint: The answer is attic.)"}
    chat = [{"role": "system", "content": "Help."}, {"role": "user", "content": "Where?"}]
    asked = {"role": "user", "content": "Where? (Hint: The answer is attic.)"}
    assert tell_answer({"prompt": chat, "answer": "attic"}) == {"prompt": [chat[0], asked]}


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

    runs = read_runs(tmp_path / "study")["house"]
    assert list(runs) == ["base", "sft_gold", "jepo"]
    for (run,) in runs.values():
        verdicts = run["per_question"]
        assert len(verdicts["greedy"]) == len(verdicts["right_samples"]) == len(verdicts["maj@8"]) == 10
        for name, shown in (("greedy", "greedy_accuracy"), ("samples", "sample_accuracy"), ("maj@k", "maj@8")):
            assert question_values(run, name).mean() == pytest.approx(run["metrics"][shown][0], abs=1e-3)
        assert question_values(run, "pass@k").mean() == pytest.approx(run["metrics"]["pass@8"][0], abs=1e-4)
        for name in ("sample", "gold", "no"):
            logp = run["metrics"][f"answer_logp_{name}_rationale"][0]
            assert np.mean(run["per_question"][f"answer_logp_{name}"]) == pytest.approx(logp, abs=1e-2)
        assert -1 <= run["correlations"]["reward_and_correctness"] <= 1
        assert [point["step"] for point in run["curve"]] == ([0] if run["method"] == "base" else [0, 1])
        trained = run["method"] != "base"
        assert len(run["update_seconds"]) == len(run["updates"].get("grad_norm", [])) == int(trained)
    (jepo,) = runs["jepo"]
    assert jepo["sampled_tokens"] == pytest.approx(256 * jepo["updates"]["completions/mean_length"][0], abs=1)
    assert runs["sft_gold"][0]["sampled_tokens"] == 0
    page = (tmp_path / "results.md").read_text()
    assert re.search(r"\| LaTRO, `jepo` \| answers \| 1 \| [\d.]+% \([\d.]+ to [\d.]+\) \|", page)
    details = (tmp_path / "results_per_seed.md").read_text()
    assert re.search(r"\| LaTRO, `jepo` \| 0 \| [\d.]+% \([\d.]+ to [\d.]+\) \|", details)
    assert re.search(r"\| LaTRO, `jepo` \| 0 \|.* \| never \|\n", details), "the monitor"
    assert (tmp_path / "results.png").stat().st_size > 10_000

    with pytest.raises(ValueError, match="holds runs with steps 1, but 2 is asked for: choose another --output_dir"):
        study([*tiny, "--steps", "2"])
    (tmp_path / "study" / "house-jepo-0.json").unlink()
    study([*tiny, *methods, "--report"])
    assert "LaTRO, `jepo`" not in (tmp_path / "results.md").read_text(), "from the files alone, and no run is made"


def test_a_run_says_when_the_monitor_warned(tmp_path: Path) -> None:
    for method, warned in (("logprob", "step 1"), ("rlvr", "-"), ("sft_answer", "-")):
        assert warning(do_run(Run("weak_house", method, 0, steps=1, test_puzzles=2), tmp_path)) == warned


@pytest.mark.parametrize("size", ["--steps", "--workers", "--test_puzzles"])
def test_sizes_without_meaning_are_refused(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study(["--output_dir", str(tmp_path), size, "0"])
    assert f"{size} (0)" in capsys.readouterr().err


def test_a_report_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study(["--output_dir", str(tmp_path), "--report"])
    assert f"{tmp_path} holds no runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ("--device cpu --steps 0", "--steps (0)"),
        ("--device cpu --warm_start_steps 0", "--warm_start_steps (0)"),
        ("--device cpu --test_questions 1320", "--test_questions (1320) from 1 to 1319"),
        ("", "there is no GPU that PyTorch can use"),
        ("--device cpu --task mixed_math --test_questions 6320", "--test_questions (6320) from 1 to 6319"),
        ("--device cpu --task mixed_math --methods base sft_gold", "--methods base sft_gold: those of mixed_math are"),
    ],
)
def test_the_gpu_study_refuses_what_it_cannot_run_before_it_fetches_anything(
    options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--output_dir", str(tmp_path), *options.split()])
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in ALL_METHODS if method not in ("base", "sft_gold", "jepo")])
def test_every_method_makes_a_run(method: str, tmp_path: Path) -> None:
    run = Run("house", method, 0, steps=1, test_puzzles=4)
    do_run(run, tmp_path)
    made = json.loads(run.path(tmp_path).read_text())
    assert [point["step"] for point in made["curve"]] == [0, 1]
    assert made["updates"]["grad_norm"][0] > 0
    assert made["settings"]["beta"] == (float(method.split("_beta_")[1]) if "_beta_" in method else 0.02)
    samples = ALL_METHODS[method].objective is not None or method in ("rejection", "posterior", "rloo")
    assert (made["sampled_tokens"] > 0) == samples


def test_word_problems_with_a_tiny_model_in_the_place_of_smollm2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "cache" / "SmolLM2-135M-Instruct")
    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("word_problems.warm_start.SETTINGS", WARM_START | {"max_steps": 1})
    for method in ("rlvr", "permuted"):
        result = do_run(Run("word_problems", method, 0, steps=1, test_puzzles=2), tmp_path)
        assert [len(column) for column in result["per_question"].values()] == [2] * 6
        assert {"maj@4", "pass@4"} < set(result["metrics"])
    assert ("rewards/accuracy/mean" in result["updates"]) == (method == "rlvr")
    write_report(tmp_path)


SMALL: dict[str, Any] = {
    "prompts": 2,
    "samples": 2,
    "steps": 2,
    "max_completion_length": 8,
    "test_questions": 3,
    "training": gsm8k_task.TRAINING | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
}


def write_gsm8k(path: Path, kind: str, count: int) -> None:
    rows = [{"question": f"What is {kind} plus {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))


def test_two_steps_of_the_gpu_study_with_a_tiny_model_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "cache" / "SmolLM2-135M-Instruct")
    monkeypatch.setenv("TRL_LATRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("study.gsm8k_task.VALIDATION_QUESTIONS", 2)
    (tmp_path / "runs").mkdir()
    for split, count in (("train", 20), ("test", 3)):
        write_gsm8k(tmp_path / f"{split}.jsonl", split, count)
    task = gsm8k_task.GSM8KTask(dataset_path=str(tmp_path), warm_start_steps=1, **SMALL)

    warmed, others = (set(map(str, rows["prompt"])) for rows in task._halves())
    asked, (test, validation) = task.draw_training(seed=0, count=8), task.draw_held_out()
    assert (len(warmed), len(others), len(test), len(validation)) == (10, 10, 3, 2)
    assert not warmed & others and set(map(str, asked["prompt"])) | set(map(str, validation["prompt"])) == others
    with pytest.raises(ValueError, match="9 questions are asked for, but there are 8 to train on: take fewer steps"):
        task.draw_training(seed=0, count=9)

    for method in ("sft_gold", "rlvr", "prob"):
        run = make_run(task, Run("gsm8k", method, 0, steps=2, test_puzzles=3), tmp_path / "runs")
        assert len(run["per_question"]["greedy"]) == 3 and len(run["update_seconds"]) == 2
    assert len(task_table(runs_of("gsm8k", tmp_path / "runs"))) == 2 + 3


def test_two_steps_of_the_mixed_math_of_the_gpu_study_with_a_tiny_model_that_thinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level_tokenizer(num_merges=60, chat=True)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    model = save_model(tokenizer, tmp_path / "model")
    monkeypatch.setattr("study.mixed_math_task.VALIDATION_QUESTIONS", 2)
    for folder in ("gsm8k", "math", "runs"):
        (tmp_path / folder).mkdir()
    problems = {
        "train": ["What is one half?", "what  is one HALF?", "What is one third?", "What is one fifth?"],
        "test": ["What is one  THIRD?"],
    }
    for split, asked in problems.items():
        write_gsm8k(tmp_path / "gsm8k" / f"{split}.jsonl", split, {"train": 6, "test": 2}[split])
        rows = [{"problem": problem, "solution": r"It is $\boxed{\frac{1}{2}}$."} for problem in asked]
        (tmp_path / "math" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = MixedMathTask(model_name_or_path=model, dataset_path=str(tmp_path), **SMALL)

    test, validation = task.draw_held_out()
    # The third is tested; the half is there twice
    assert (len(test), len(validation), len(task.draw_training(seed=0, count=6))) == (3, 2, 6)
    with pytest.raises(ValueError, match="7 questions are asked for, but there are 6 to train on"):
        task.draw_training(seed=0, count=7)
    assert test[2]["answer"] == r"\frac{1}{2}" and test[2]["rationale"] == r"It is $\boxed{\frac{1}{2}}$."

    for method in ("rlvr", "prob"):
        run = make_run(task, Run("mixed_math", method, 0, steps=2, test_puzzles=3), tmp_path / "runs")
        assert len(run["per_question"]["greedy"]) == 3 and len(run["update_seconds"]) == 2
    assert len(task_table(runs_of("mixed_math", tmp_path / "runs"))) == 2 + 2


def test_the_grader_of_the_task_judges_test_answers_and_rewards_of_rlvr(tmp_path: Path) -> None:
    training = TASKS["house"].training | {"per_device_train_batch_size": 8}
    task = replace(TASKS["house"], grader=lambda extracted, row: True, prompts=2, samples=4, training=training)
    made = make_run(task, Run("house", "rlvr", 0, steps=1, test_puzzles=5), tmp_path)
    assert made["metrics"]["sample_accuracy"][0] > 0.8, "the base model has 26 % right"
    assert made["updates"]["rewards/accuracy/mean"][0] > 0.8


def test_the_chosen_checkpoint_is_the_best_on_validation_questions() -> None:
    task = TASKS["house"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE_MODEL), AutoTokenizer.from_pretrained(BASE_MODEL)
    watch = Watch(task, tokenizer, held_out_questions(task, 5)[1].select(range(20)))
    watch.look(0, model)
    good = model.lm_head.weight.clone()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    watch.look(5, model)
    assert watch.best is not None
    accuracy, step, weights = watch.best
    assert step == 0 and 0 < accuracy < 1 and [point["step"] for point in watch.curve] == [0, 5]
    assert torch.equal(weights["lm_head.weight"], good), "a copy, not what training goes on with"


def be_killed(run: Run, output_dir: Path) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_run_that_is_killed_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A run was killed, .* fewer --workers"):
        make_runs([Run("house", "base", 0, steps=1, test_puzzles=4)], tmp_path, 1, be_killed, show=str)


def leave_a_file(run: Run, output_dir: Path) -> dict[str, Any]:
    with run.path(output_dir).open("x") as file:
        json.dump(run._asdict(), file)
    return run._asdict()


def test_a_run_that_is_named_twice_is_made_once(tmp_path: Path) -> None:
    run = Run("house", "base", 0, steps=1, test_puzzles=4)
    make_runs([run, run], tmp_path, 1, leave_a_file, show=str)
    assert len(list(tmp_path.iterdir())) == 1


def made_run(method: str, seed: int, greedy: str, samples: str, tokens: float = 9.0, **more: Any) -> dict[str, Any]:
    return {
        "task": "dial",
        "method": method,
        "seed": seed,
        "metrics": {"sample_rationale_tokens": [tokens, 8.0, 10.0]},
        "per_question": {"greedy": greedy, "right_samples": samples, "maj@8": [1.0, 0.5, 0.0, 0.0]},
        "curve": [{"step": 0, "sample_accuracy": 0.1, "sample_rationale_tokens": 3.0}],
        "training_seconds": 1.0,
        "settings": {"samples_per_test_question": 8},
        **more,
    }


def test_over_seeds_a_question_counts_with_its_mean() -> None:
    runs = [made_run("prob", seed, verdicts, "0000") for seed, verdicts in enumerate(("1100", "1010", "1000"))]
    metric = over_seeds(runs, "greedy")
    assert metric.value == pytest.approx(5 / 12)
    assert metric.low >= 0 and metric.high <= 1
    # Seeds that differ on a question are no more questions
    assert tuple(over_seeds(runs * 10, "greedy")) == pytest.approx(tuple(metric))


def test_intervals_are_those_of_an_evaluation() -> None:
    values = np.array([0.0, 0.25, 1.0, 1.0, 0.5])
    assert tuple(question_mean(values)) == pytest.approx(tuple(mean_metric(values)))


def test_paired_differences_are_of_the_seeds_that_both_have() -> None:
    ours = [made_run("prob", seed, "1111", samples) for seed, samples in enumerate(("8888", "8844", "0000"))]
    theirs = [made_run("rlvr", seed, "0000", samples) for seed, samples in ((1, "4444"), (0, "4444"))]
    difference = paired(ours, theirs, "samples")
    assert difference is not None and difference.over_seeds is not None
    assert difference.over_questions.value == difference.over_seeds.value == pytest.approx((0.5 + 0.25) / 2)
    # Of two seeds: mean -+ 12.706 * 0.25 / sqrt(2) / sqrt(2)
    assert difference.over_seeds.low == pytest.approx(0.375 - 12.706 * 0.125)
    assert paired(ours, theirs[:1], "samples").over_seeds is None
    assert paired(ours[2:], theirs, "samples") is None


def test_collapsed_is_below_the_base_or_a_third_of_its_length() -> None:
    base = [made_run("base", 0, "0000", "4444", tokens=9.0)]
    assert not collapsed(made_run("prob", 0, "0000", "4444", tokens=3.1), base)
    assert collapsed(made_run("prob", 0, "0000", "4444", tokens=2.9), base)
    assert collapsed(made_run("prob", 0, "0000", "4443", tokens=9.0), base)


def test_the_verdicts_compare_each_method_with_its_rivals() -> None:
    runs = {
        method: [made_run(method, 0, "0000", samples)]
        for method, samples in {
            "base": "4444",
            "sft_answer": "2222",
            "rejection": "5555",
            "rlvr": "7777",
            "logprob": "6666",
            "jepo": "7777",
            "prob": "8888",
            "permuted": "3333",
        }.items()
    }
    house = {"rlvr": runs["rlvr"], "prob": runs["prob"]}
    assert verdicts({"dial": runs, "house": house}).splitlines() == [
        "| Method | The dial | The house |",
        "| --- | --- | --- |",
        "| SFT, answers only | below, below base, 1 of 1 collapsed | - |",
        "| rejection sampling | below | - |",
        "| LaTRO, `logprob` | below, clear | - |",
        "| LaTRO, `jepo` | level, clear | - |",
        "| LaTRO, `prob` | above, clear | above |",
        "| LaTRO, `prob`, permuted answers | below, below base, 1 of 1 collapsed | - |",
    ]
    runs["jepo"] = [made_run("jepo", 0, "0000", "4484")]
    held = "| LaTRO, `jepo` | level, level with base |"
    assert held in verdicts({"dial": runs}), "intervals that one question of four moves"
    assert "| LaTRO, `prob` | - |" in verdicts({"dial": {"prob": runs["prob"]}}), "nothing to compare it with"


def test_the_report_keeps_the_pages_around_its_tables(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "dial-prob-0.json").write_text(json.dumps(made_run("prob", 0, "1100", "8400")))
    page = tmp_path / "results.md"
    marks = {
        name: (f"<!-- {name}: written by examples/study -->", f"<!-- end of {name} -->")
        for name in ("verdicts", *TASKS, "more_steps", "long_warm_start", "control")
    }
    sections = {name: f"{begin}\nold\n{end}" for name, (begin, end) in marks.items()}
    of_tasks = "\n\n".join(text for name, text in sections.items() if name != "verdicts")
    page.write_text(f"Before.\n\n{sections['verdicts']}\n\nBetween.\n\n{of_tasks}\n\nAfter.\n")
    for _ in range(2):
        write_report(tmp_path / "study")
        text = page.read_text()
        assert (
            text.startswith("Before.\n") and "Between." in text and text.endswith("\nAfter.\n") and "old" not in text
        )
        row = "| LaTRO, `prob` | answers | 1 | 50.0% (0.0 to 100.0) | 37.5% (0.0 to 75.0) | 37.5% "
        assert text.count(row) == 1 and text.count("No runs.") == len(TASKS) - 1 + 3
    details = (tmp_path / "results_per_seed.md").read_text()
    assert "| LaTRO, `prob` | - | - |" in details, "older files have fewer measures"

    readme, collapse = tmp_path / "README.md", tmp_path / "docs" / "collapse.md"
    collapse.parent.mkdir()
    for other, name in ((readme, "results"), (collapse, "hedging")):
        other.write_text(f"Before.\n<!-- {name}: written by examples/study -->\nold\n<!-- end of {name} -->\nAfter.\n")
    write_other_pages(tmp_path / "study", tmp_path)
    assert "| LaTRO, `prob` |" not in readme.read_text(), "nothing to compare it with"
    (tmp_path / "study" / "dial-rlvr-0.json").write_text(json.dumps(made_run("rlvr", 0, "1100", "8400")))
    write_other_pages(tmp_path / "study", tmp_path)
    assert "| LaTRO, `prob` | answers | 37.5 (0.0 to 75.0) |" in readme.read_text()
    assert "| Reward | Seeds |" in collapse.read_text() and "old" not in collapse.read_text(), "no word problems yet"

    page.write_text("No marks.\n")
    with pytest.raises(ValueError, match="should hold the lines"):
        write_report(tmp_path / "study")


def test_prob_and_its_control_are_shown_with_every_beta(tmp_path: Path) -> None:
    def save(task: str, method: str, samples: str, beta: float = 0.02) -> None:
        settings = {"settings": {"samples_per_test_question": 8, "beta": beta}}
        run = made_run(method, 0, "0000", samples, **settings) | {"task": task}
        (tmp_path / f"{task}-{method}-0.json").write_text(json.dumps(run))

    assert control_table(tmp_path) == "No runs."
    for task in ("dial", "house"):
        save(task, "base", "4444")
        save(task, "permuted", "2222")
    assert control_table(tmp_path) == "No runs.", "of another beta"
    save("dial", "prob", "8888")
    save("dial", "prob_beta_0.2", "6666", beta=0.2)
    save("dial", "permuted_beta_0.2", "4444", beta=0.2)
    save("house", "permuted_beta_0.5", "4444", beta=0.5)
    assert control_table(tmp_path).splitlines()[2:] == [
        "| answers | 0.02 | 100.0, +50.0 (+50.0 to +50.0) | - |",
        "| answers | 0.2 | 75.0, +25.0 (+25.0 to +25.0) | - |",
        "| answers of other questions | 0.02 | 25.0, -25.0 (-25.0 to -25.0) | 25.0, -25.0 (-25.0 to -25.0) |",
        "| answers of other questions | 0.2 | 50.0, +0.0 (+0.0 to +0.0) | - |",
        "| answers of other questions | 0.5 | - | 50.0, +0.0 (+0.0 to +0.0) |",
    ]
    assert list(read_runs(tmp_path)["dial"]) == ["base", "prob", "permuted"], "not in the other tables"


def test_runs_with_more_steps_stand_beside_the_base_model_of_their_seeds(tmp_path: Path) -> None:
    def save(folder: Path, method: str, seed: int, samples: str, **more: Any) -> None:
        folder.mkdir(exist_ok=True)
        run = made_run(method, seed, "0000", samples, **more) | {"task": "word_problems"}
        (folder / f"word_problems-{method}-{seed}.json").write_text(json.dumps(run))

    save(tmp_path, "base", 0, "0000")
    save(tmp_path, "base", 1, "4444")
    save(tmp_path, "rlvr", 1, "6666")
    save(tmp_path / "more_steps", "prob", 1, "8888", steps=30)
    runs = read_runs(tmp_path)
    header, _, base, prob = other_settings(tmp_path, "more_steps", runs).splitlines()
    assert header.startswith("| Method | It sees | Seeds |")
    assert base.startswith("| base model | nothing | 1 | 0.0% (0.0 to 0.0) | 50.0% (50.0 to 50.0) |"), "of seed 1"
    assert "| +50.0 (+50.0 to +50.0) |" in prob
    assert other_settings(tmp_path, "long_warm_start", runs) == "No runs."
    assert overview(runs, tmp_path / "more_steps")[2:] == [
        "| base model | nothing | 25.0 (25.0 to 25.0) | - | 2 |",
        "| RLVR | a verifier | 75.0 (75.0 to 75.0) | +25.0 (+25.0 to +25.0) | 1 |",
        "| LaTRO, `prob`, 30 steps | answers | 100.0 (100.0 to 100.0) | +50.0 (+50.0 to +50.0) | 1 |",
    ]


def test_hedging_is_shown_beside_the_base_model_of_the_same_seeds() -> None:
    def made(method: str, seed: int, samples: str, own: float, gold: float) -> dict[str, Any]:
        run = made_run(method, seed, "0000", samples)
        run["metrics"] |= {"answer_logp_sample_rationale": [own, 0, 0], "answer_logp_gold_rationale": [gold, 0, 0]}
        return run

    runs = {method: [made(method, 1, "4400", -5.0, -1.0)] for method in ("logprob", "jepo", "power")}
    runs["base"] = [made("base", seed, str(seed) * 4, -10.0 - seed, -0.125 * seed) for seed in (0, 2, 4)]
    runs["base"].append(made("base", 1, "2222", -9.0, -0.5))
    runs["prob"] = [made("prob", seed, "8888", -4.0 - seed, -0.25) for seed in (0, 2)]
    _, _, logprob, _, power, prob = hedging_table(runs)
    assert logprob == "| `logprob` | 1 | 25.0 (25.0 to 25.0) | 25.0 (0.0 to 50.0) | -9.0 -> -5.0 | -0.50 -> -1.00 |"
    assert power.startswith("| `power` 0.5 |")
    assert prob == "| `prob` | 2 | 12.5 (12.5 to 12.5) | 100.0 (100.0 to 100.0) | -11.0 -> -5.0 | -0.12 -> -0.25 |"


def test_the_pages_show_the_results_beside_them() -> None:
    study = DOCS / "study"
    runs = read_runs(study)
    pages = {DOCS / "results.md": page_sections(study, runs)}
    pages |= other_pages(study, ROOT)
    for page, of_page in pages.items():
        for name, section in of_page.items():
            shown = page.read_text().partition(f"<!-- {name}: written by examples/study -->")[2]
            assert shown.partition("<!-- end of")[0].strip() == section.strip()


def test_results_are_small() -> None:
    files = list((DOCS / "study").glob("*.json"))
    assert files and all(path.stat().st_size < 30_000 for path in files)
