# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The puzzle of the quickstart, its base model, and the script itself with very few steps."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import read_settings


EXAMPLES = Path(__file__).parents[1] / "examples"
BASE_MODEL = EXAMPLES / "puzzles" / "dial_base_model"
sys.path.insert(0, str(EXAMPLES))

from puzzles.common import is_correct, make_puzzles, write_answers  # noqa: E402
from puzzles.dial import DialPuzzle, DialStep  # noqa: E402


def run(script: str, *arguments: str) -> str:
    """What the script prints, as a user sees it."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_worked_example() -> None:
    puzzle = DialPuzzle(5, (DialStep("right", 7), DialStep("double"), DialStep("left", 9)))
    assert puzzle.prompt == "The dial shows 5. Turn right 7. Double it. Turn left 9. What does it show?"
    assert puzzle.rationale == "Right 7 from 5 is 2. Double 2 is 4. Left 9 from 4 is 5."
    assert puzzle.answer == "5"


def test_every_sentence_of_a_rationale_is_true_and_starts_where_the_last_one_ended() -> None:
    for puzzle in make_puzzles(DialPuzzle, 500, seed=0, held_out=False):
        dial = int(puzzle.prompt.removeprefix("The dial shows ")[0])
        sentences = re.findall(r"(?:(Right|Left) (\d) from|Double) (\d) is (\d)\.", puzzle.rationale)
        instructions = re.findall(r"Turn (right|left) (\d)\.|(Double) it\.", puzzle.prompt)
        assert 2 <= len(sentences) == len(instructions) <= 4
        for (turn, amount, before, after), instruction in zip(sentences, instructions, strict=True):
            assert (turn.lower(), amount) == instruction[:2]
            assert int(before) == dial
            change = {"Right": int(amount or 0), "Left": -int(amount or 0), "": dial}[turn]
            dial = (dial + change) % 10
            assert int(after) == dial
        assert puzzle.answer == str(dial)


def test_held_out_puzzles_are_never_training_puzzles() -> None:
    train = make_puzzles(DialPuzzle, 5000, seed=0, held_out=False)
    held_out = make_puzzles(DialPuzzle, 500, seed=0, held_out=True)
    assert len(set(train)) == 5000 and len(set(held_out)) == 500
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert make_puzzles(DialPuzzle, 5000, seed=0, held_out=False) == train
    assert make_puzzles(DialPuzzle, 5000, seed=1, held_out=False) != train


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" Double 2 is 4. The answer is 4.", True),
        (" The answer is 4", True),
        (" Double 2 is 4. The answer is 5.", False),
        (" Double 2 is 4.", False),
        (" The answer is 42.", False),
        (" The answer is 5. The answer is 4.", False),
        ("", False),
    ],
)
def test_grading_reads_the_first_digit_after_the_answer_is(text: str, right: bool) -> None:
    assert is_correct(text, "4") == right


def test_base_model_is_small_and_its_digits_are_single_tokens() -> None:
    assert (BASE_MODEL / "model.safetensors").stat().st_size < 2_000_000
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    for digit in "0123456789":
        assert len(tokenizer.encode(f" {digit}")) == 1
    assert tokenizer.decode(tokenizer.encode("Zoë turns 180°, then 42.")) == "Zoë turns 180°, then 42."
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert AutoModelForCausalLM.from_pretrained(BASE_MODEL).config.eos_token_id == tokenizer.eos_token_id


def test_base_model_can_reason_but_mostly_guesses() -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    puzzles = make_puzzles(DialPuzzle, 200, seed=1, held_out=True)
    greedy = write_answers(model, tokenizer, puzzles, sample=False)
    assert sum(is_correct(t, p.answer) for t, p in zip(greedy, puzzles, strict=True)) < 0.25 * len(puzzles)
    assert all(text.startswith(" ") and text.endswith(".") for text in greedy)

    samples = write_answers(model, tokenizer, puzzles, sample=True)
    reasoned = [(t, p) for t, p in zip(samples, puzzles, strict=True) if "guess" not in t]
    assert 0.25 * len(puzzles) < len(reasoned) < 0.6 * len(puzzles)
    assert sum(p.rationale in t for t, p in reasoned) > 0.6 * len(reasoned)  # else guessing would pay better


def test_base_model_is_what_its_script_makes(tmp_path: Path) -> None:
    run("puzzles/make_base_model.py", "--steps", "1", "--output_dir", str(tmp_path))
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert read_settings(tmp_path / name) == read_settings(BASE_MODEL / name), name


def test_quickstart_with_two_steps(tmp_path: Path) -> None:
    output = run("quickstart.py", "--steps", "2", "--output_dir", str(tmp_path))
    for row in ("base", "answer-only SFT", "LaTRO"):
        assert re.search(rf"{row}\D+[\d.]+%\D+[\d.]+%", output), output
    assert "arning" not in output and "{'loss'" not in output
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    results = json.loads((tmp_path / "quickstart.json").read_text())
    assert results["accuracy"]["base"]["greedy"] < 0.25
    assert [log["step"] for log in results["latro_logs"]] == [1, 2]
    assert results["seed"] == 0
    assert len((tmp_path / "held_out.jsonl").read_text().splitlines()) == 500
    base = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    for name in ("sft", "latro"):
        trained = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert not trained.lm_head.weight.equal(base.lm_head.weight)


def test_quickstart_refuses_zero_steps(capsys: pytest.CaptureFixture[str]) -> None:
    import quickstart

    with pytest.raises(SystemExit):
        quickstart.main(["--steps", "0"])
    assert "--steps must be at least 1, not 0" in capsys.readouterr().err
