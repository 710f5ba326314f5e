# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""`trl-latro probe`: its numbers by hand, the tokens that they rest on, the command, and what it foretells."""

import dataclasses
import json
import math
import random
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import byte_level_tokenizer, save_model
from trl_latro.answer_template import AnswerTemplate
from trl_latro.cli.probe import ProbeArguments, main, training_command
from trl_latro.cli.train import make_parser
from trl_latro.evaluation.generation import Generation
from trl_latro.evaluation.intervals import Metric
from trl_latro.evaluation.questions import Questions
from trl_latro.evaluation.transformers_model import TransformersModel
from trl_latro.grading import grade_answer
from trl_latro.objective import REWARDS
from trl_latro.probing.favour import Favoured, favour, find_distrust, find_short
from trl_latro.probing.findings import Findings, find, holding
from trl_latro.probing.report import verdict
from trl_latro.probing.samples import Probed, ScoredAnswer, sample
from trl_latro.probing.spread import log_spread, share_of_commonest


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))

from puzzles.common import Puzzle, make_puzzles  # noqa: E402
from puzzles.dial import DialPuzzle  # noqa: E402
from puzzles.house import HousePuzzle  # noqa: E402


PUZZLES = EXAMPLES / "puzzles"
ROOMS = [f"room {letter}" for letter in "abcdefghijklmnop"]


def write_task(path: Path, kind: type[Puzzle], number: int) -> str:
    rows = [
        {"question": p.prompt, "answer": p.answer, "rationale": f" {p.rationale}"}
        for p in make_puzzles(kind, number, seed=5, held_out=False)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# ---- the spread of the references ----


def test_the_spread_is_what_one_computes_by_hand() -> None:
    # Of the others, "a" and "b" occur once: u = 2.5 / 3. First character "a": (1 + 1/4) / 3, then the end: (2 + 1/4) / 3.
    seen = (1 - 2.5 / 3) / 2 + 2.5 / 3 * (1.25 / 3) * (2.25 / 3)
    # Nothing else is "b", and "a" occurs twice: u = 0.5 / 3
    unseen = 0.5 / 3 * (0.25 / 3) * (2.25 / 3)
    assert log_spread(["a", "b", "a"], 2) == pytest.approx([math.log(seen), math.log(unseen)])
    assert share_of_commonest(["a", "b", "a"]) == 0.5
    assert share_of_commonest(["a", "b", "c"]) == 0.0
    assert math.isfinite(log_spread(["alone"], 1)[0])


def test_sixteen_rooms_are_a_guess_of_one_in_sixteen_and_numbers_of_one_in_nine_hundred() -> None:
    rng = random.Random(0)
    rooms = [rng.choice(ROOMS) for _ in range(2000)]
    assert np.mean(log_spread(rooms, 200)) == pytest.approx(math.log(1 / 16), abs=0.05)
    numbers = [str(rng.randint(100, 999)) for _ in range(150)]  # hardly two of them are equal
    assert np.mean(log_spread(numbers, 150)) == pytest.approx(math.log(1 / 900), abs=0.3)


# ---- what a reward favours ----


def made(length: int, logp: float, correct: bool, kind: str = "sample") -> tuple[Generation, ScoredAnswer]:
    one = Generation(
        batch=0,
        question=0,
        kind=kind,
        sample=0,
        prompt="?",
        answer="room a",
        completion="so The answer is room a.",
        extracted="room a",
        correct=correct,
        vote="room a",
        finished=True,
        rationale_tokens=length,
        tokens_to_end=length + 3,
        answer_logp=logp,
        answer_tokens=3,
        answer_logp_none=logp,
        answer_tokens_none=3,
        flexible_correct=correct,
    )
    # Two tokens of the template, one of the answer itself, the end of the turn: the form must not count
    return one, ScoredAnswer(torch.tensor([-1.0, -2.0, logp, -0.5]), 2, 3)


def weak_model(right: int, wrong: int, guesses: int, questions: int = 16) -> list[Probed]:
    """Of each question, so many right rationales, wrong ones (five nats) and guesses (one in sixteen)."""
    guess = math.log(1 / 16)
    samples = [(20, 0.0, True)] * right + [(20, -5.0, False)] * wrong + [(3, guess, False)] * guesses
    generations, answers = zip(*(made(*one) for one in samples), strict=True)
    greedy, none = made(3, guess, False, kind="greedy")
    ends = ["template"] * len(samples)
    return [Probed(greedy, list(generations), ends, list(answers), none, None) for _ in range(questions)]


def references() -> list[str]:
    return ROOMS * 60


def test_a_weak_model_will_guess_with_log_probs_and_reason_with_the_others() -> None:
    probed = weak_model(right=2, wrong=6, guesses=8)
    found = {name: favour(reward, probed, references(), seed=0) for name, reward in REWARDS.items()}
    log16 = math.log(16)
    # q R(right) + (1 - q) R(wrong) with q = 1/4
    assert found["logprob"].gives["reasoning"] == pytest.approx(-0.75 * 5)
    assert found["prob"].gives["reasoning"] == pytest.approx((1 + 3 * math.exp(-5)) / 4)
    assert found["jepo"].gives["reasoning"] == pytest.approx(math.log((1 + 3 * math.exp(-5)) / 4))
    for name in ("logprob", "jepo"):
        assert found[name].gives["short"] == pytest.approx(-log16) == found[name].gives["none"]
        assert found[name].gives["hedging"] == pytest.approx(-log16, abs=0.05)
    assert found["prob"].gives["hedging"] == pytest.approx(1 / 16, abs=0.002)
    assert found["logprob"].margin == pytest.approx(log16 - 3.75, abs=0.05)
    assert found["logprob"].best != "reasoning" and found["logprob"].reasoning_share == 0.0
    assert found["jepo"].best == found["prob"].best == "reasoning"
    assert found["jepo"].reasoning_share == found["prob"].reasoning_share == 1.0
    assert found["logprob"].in_nats and found["jepo"].in_nats and not found["prob"].in_nats


def test_distrust_is_the_share_of_wrong_rationales_where_each_counts_and_none_where_one_right_one_will_do() -> None:
    # log((1 - e) + e / 16) for the right half, log((1 - e) exp(-9) + e / 16) for the other: best near e = 1 / 2
    (one, right), (_, wrong) = made(20, 0.0, True), made(20, -9.0, False)
    greedy, none = made(3, -2.8, False, kind="greedy")
    probed = [Probed(greedy, [one] * 8, ["EOS"] * 8, [right, wrong] * 4, none, None)] * 4
    distrust = {name: find_distrust(reward, probed, [math.log(1 / 16)] * 4) for name, reward in REWARDS.items()}
    assert distrust["logprob"] in (0.5, 0.55)
    assert distrust["prob"] == distrust["jepo"] == 0.0
    # Questions without a right rationale are what makes a group's bound hedge: 0.5 log(1 - e) + 0.5 log(e)
    failing = [of._replace(answers=[wrong] * 8) for of in probed]
    assert find_distrust(REWARDS["jepo"], probed + failing, [math.log(1 / 16)] * 8) in (0.5, 0.55)
    assert find_distrust(REWARDS["prob"], probed + failing, [math.log(1 / 16)] * 8) == 0.0


def test_a_good_model_will_reason_with_every_reward() -> None:
    probed = weak_model(right=6, wrong=2, guesses=8)
    assert {favour(reward, probed, references(), 0).best for reward in REWARDS.values()} == {"reasoning"}


def test_hedging_wins_where_all_rationales_are_long_and_wrong_ones_cost_more_than_a_guess() -> None:
    probed = weak_model(right=2, wrong=14, guesses=0)
    found = favour(REWARDS["logprob"], probed, ["room a"] * 50 + ["room b"] * 50, seed=0)
    assert "short" not in found.gives and found.best == "hedging"
    assert found.gives["hedging"] == pytest.approx(math.log(0.5), abs=0.05)


def test_short_rationales_are_compared_with_the_others_of_the_same_question() -> None:
    hard, easy = (
        weak_model(right=0, wrong=4, guesses=0, questions=8),
        weak_model(right=2, wrong=0, guesses=2, questions=8),
    )
    found = favour(REWARDS["logprob"], hard + easy, references(), seed=0)
    assert found.gives["reasoning"] == pytest.approx(-2.5)  # half of the questions -5, half 0
    # Where there are guesses, they are log 16 worse than rationales: so they are, by this, where there are none
    assert found.gives["short"] == pytest.approx(-2.5 - math.log(16))


def test_short_is_a_third_of_the_rationale_that_a_token_is_in() -> None:
    # (3 * 16 + 3 * 400) / (12 + 60) / 3 = 5.8
    assert find_short(np.array([[4, 4, 4], [20, 20, 20]])).tolist() == [[True] * 3, [False] * 3]
    assert find_short(np.array([[5, 5, 6, 7]])).sum() == 0


def test_rank_correlation_and_spread_are_what_one_computes_by_hand() -> None:
    probed = weak_model(right=1, wrong=1, guesses=2)
    # Ranks of the rewards 3, 0, 1.5, 1.5, of correctness 3, 1, 1, 1: less their means, products sum to 3, squares to 4.5 and 3
    correlation = favour(REWARDS["prob"], probed, references(), 0).rank_correlation
    assert correlation == pytest.approx([3 / math.sqrt(4.5 * 3)] * 3)
    assert favour(REWARDS["prob"], weak_model(2, 0, 0), references(), 0).rank_correlation is None
    even = favour(REWARDS["logprob"], weak_model(0, 4, 0), references(), 0)
    assert even.spread == pytest.approx(0) and even.no_spread == 1.0


# ---- findings and words ----


def test_limits_hold_as_many_rationales_as_they_say() -> None:
    assert holding(95, list(range(1, 101))) == 95 and holding(99, list(range(1, 101))) == 99
    assert holding(95, [7] * 19 + [None]) == 7 and holding(99, [7] * 19 + [None]) is None


def favoured(share: float, best: str = "reasoning", margin: float = 1.0, **gives: float) -> Favoured:
    return Favoured(
        {"reasoning": -3.0, "hedging": -2.0, **gives}, best, margin, share, 0.0, True, Metric(0.5, 0.4, 0.6), 1.0, 0.0
    )


def findings(**rewards: float) -> Findings:
    named = {name: favoured(share) for name, share in rewards.items()}
    return Findings({}, {}, {95: 30, 99: None}, {"sampled": {"all": -5.0, "template": -3.0}}, 0.0, 0.0, named)


def test_the_first_reward_that_surely_reasons_is_recommended_and_none_where_none_does() -> None:
    assert findings(logprob=0.96, prob=1.0).recommended == "logprob"
    assert findings(logprob=0.9, prob=1.0).recommended == "prob"
    assert findings(logprob=0.7, prob=0.6).recommended == "logprob"
    assert findings(logprob=0.1, prob=0.5).recommended is None


def test_verdicts_say_what_wins_by_how_much_and_how_sure_that_is() -> None:
    share = "of the resampled sets of questions"
    assert verdict("jepo", favoured(1.0, margin=1.04)) == (
        f"with `jepo` reasoning wins by 1 nats (in 100% {share}): the model will go on reasoning"
    )
    assert verdict("logprob", favoured(0.0, "hedging", -1.94, short=-2.1)) == (
        f"with `logprob` guessing wins by 1.9 nats (in 100% {share}): the model will stop reasoning"
    )
    assert "hedging wins by 4.2 nats" in verdict("logprob", favoured(0.01, "hedging", -4.2))
    assert verdict("prob", favoured(0.8, margin=0.1)).startswith(
        "with `prob` it is too close to call: reasoning is ahead"
    )
    assert "in 80%" in verdict("prob", favoured(0.2, "none", -0.1))


def test_the_command_is_one_that_training_takes() -> None:
    arguments = ProbeArguments(
        task="some.jsonl",
        prompt_template='Say "why": {question}',
        model_name_or_path="a model",
        output_dir="probed",
        num_samples=8,
        max_completion_length=64,
        chat_template_kwargs='{"enable_thinking": false}',
        thinking_tags=[],
    )
    command = training_command(arguments, findings(prob=1.0))
    assert command is not None
    words = shlex.split(command)
    assert words[:2] == ["trl-latro", "train"]
    task_args, training_args, model_args = make_parser().parse_args_and_config(words[2:])
    assert (task_args.task, task_args.prompt_template) == ("some.jsonl", 'Say "why": {question}')
    assert (training_args.reward_type, training_args.num_generations) == ("prob", 8)
    assert training_args.max_completion_length == 30  # holds 95 %; what holds 99 % is not known
    assert training_args.chat_template_kwargs == {"enable_thinking": False} and training_args.thinking_tags == []
    assert model_args.model_name_or_path == "a model"
    assert training_args.reward_tokens == "answer" and "--reward_tokens" not in words  # the default of that reward
    both_known = dataclasses.replace(findings(prob=1.0), limits={95: 30, 99: 40})
    assert "--max_completion_length 40" in str(training_command(arguments, both_known))
    none_known = dataclasses.replace(findings(prob=1.0), limits={95: None, 99: None})
    assert "--max_completion_length 128" in str(training_command(arguments, none_known))
    about_template = training_command(arguments, findings(logprob=1.0))
    assert about_template is not None and "--reward_type logprob --reward_tokens answer" in about_template
    assert training_command(arguments, findings(prob=0.0)) is None


# ---- the samples ----


def probe_puzzles(base: str, kind: type[Puzzle], number: int, num_samples: int) -> tuple[list[Probed], list[str]]:
    model = AutoModelForCausalLM.from_pretrained(PUZZLES / base).eval()
    tokenizer = AutoTokenizer.from_pretrained(PUZZLES / base)
    puzzles = make_puzzles(kind, 2000, seed=11, held_out=False)
    rows = [{"prompt": p.prompt, "answer": p.answer, "rationale": f" {p.rationale}"} for p in puzzles[:number]]
    template = AnswerTemplate()
    questions = Questions(Dataset.from_list(rows), tokenizer, template, grade_answer, max_completion_length=64)
    loaded = TransformersModel(model, tokenizer, template, 64, questions.answer_budget)
    return sample(loaded, questions, num_samples, 128, seed=0), [p.answer for p in puzzles]


def test_tokens_of_the_answer_itself_are_found_and_their_log_probs_sum_up() -> None:
    probed, _ = probe_puzzles("dial_base_model", DialPuzzle, number=3, num_samples=4)
    for of in probed:
        assert of.endings == ["template"] * 4
        for one, answer in zip(of.samples, of.answers, strict=True):
            # " The", " answer", " is", " 7", ".", end
            assert (len(answer.logps), answer.start, answer.end) == (6, 3, 4)
            assert float(answer.logps.sum()) == pytest.approx(one.answer_logp, abs=1e-5)
            assert answer.with_known_form().logps.nonzero().tolist() == [[3]]
        assert float(of.answer_none.logps.sum()) == pytest.approx(of.greedy.answer_logp_none, abs=1e-5)
        assert of.answer_gold is not None
        assert float(of.answer_gold.logps.sum()) == pytest.approx(of.greedy.answer_logp_gold, abs=1e-5)


def test_an_answer_of_two_tokens_shares_a_given_log_prob() -> None:
    answer = ScoredAnswer(torch.tensor([-9.0, -1.0, -1.0, -9.0]), 1, 3).with_answer(-3.0)
    assert answer.logps.tolist() == [0.0, -1.5, -1.5, 0.0]


# ---- the command ----


def test_the_command_prints_the_report_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = write_task(tmp_path / "dial.jsonl", DialPuzzle, 60)
    options = ["--model_name_or_path", str(PUZZLES / "dial_base_model"), "--task", task, "--validation_size", "0"]
    options += ["--rationale_column", "rationale", "--prompt_template", "{question}", "--max_completion_length", "48"]
    main([*options, "--max_questions", "8", "--num_samples", "6", "--output_dir", str(tmp_path / "probed")])
    report = capsys.readouterr().out
    written = json.loads((tmp_path / "probed" / "probe.json").read_text())
    assert "This rests on 8 questions x 6 samples." in report and "Written to" in report
    assert report.count("\n  > ") == 4 == len(written["examples"])
    assert set(written["rewards"]) == set(REWARDS) == set(written["verdicts"])
    for name, words in written["verdicts"].items():
        assert f"- {words}." in report and re.search(rf"^{name} +-?\d", report, re.MULTILINE)
    assert written["endings"]["template"] > 0.9 and 12 < written["limits"]["95"] and written["limits"]["99"] <= 48
    assert 0.4 < written["short"] < 0.8 and written["right"] > written["metrics"]["sample_accuracy"]["value"]
    assert {"sampled", "none", "gold"} == set(written["answer_logps"])
    assert written["answer_logps"]["gold"]["all"] > written["answer_logps"]["none"]["all"]
    assert written["metrics"]["sample_accuracy"]["value"] > 0.1
    assert written["command"] in report
    assert f"--max_completion_length {written['limits']['99']}" in written["command"]


def test_a_chat_model_that_knows_nothing_is_not_to_be_trained_with_any_reward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(byte_level_tokenizer(chat=True), tmp_path / "model")
    rows = [{"question": f"What is {n} + {3 * n}?", "answer": 40 * n} for n in range(1, 30)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--model_name_or_path", model, "--task", str(tmp_path / "sums.jsonl"), "--validation_size", "0"]
    options += ["--max_questions", "4", "--num_samples", "4", "--max_completion_length", "12"]
    main([*options, "--output_dir", str(tmp_path / "probed")])
    report = capsys.readouterr().out
    written = json.loads((tmp_path / "probed" / "probe.json").read_text())
    assert "train on gold rationales first" in report and written["command"] is written["recommended_reward"] is None
    assert written["endings"]["limit"] > 0.5 and written["limits"] == {"95": None, "99": None}
    assert "95 % in more than 12 and 99 % in more than 12 tokens" in report
    assert {of["best"] for of in written["rewards"].values()} == {"hedging"}
    assert "gold" not in written["answer_logps"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num_samples", "1"], "--num_samples is 1, but samples are compared"),
        (["--task", "no.jsonl"], "There is no task"),
        ([], "--task is missing"),
    ],
)
def test_what_cannot_be_probed_is_said_first(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(["--model_name_or_path", str(PUZZLES / "dial_base_model"), "--output_dir", str(tmp_path), *options])


def test_lists_of_answers_cannot_be_probed(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"question": "a?", "answer": ["b", "c"]}\n')
    model = ["--model_name_or_path", str(PUZZLES / "dial_base_model"), "--output_dir", str(tmp_path / "probe")]
    with pytest.raises(ValueError, match="lists of right answers"):
        main([*model, "--task", str(tmp_path / "test.jsonl"), "--split", "test"])


def test_a_model_without_rationales_is_said_so() -> None:
    probed = [
        one._replace(samples=[s._replace(rationale_tokens=0) for s in one.samples]) for one in weak_model(1, 1, 0)
    ]
    with pytest.raises(ValueError, match="None of the 32 samples has a rationale"):
        find(probed, references(), 64, seed=0)


# ---- as a prediction ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "kind", "reasons", "guesses"),
    [
        # docs/results.md: all seeds of all rewards learn to reason
        ("dial_base_model", DialPuzzle, {"logprob", "prob", "mean_prob", "geometric_mean", "jepo"}, set()),
        # One of four seeds of `logprob` collapsed: it is close to call
        ("house_base_model", HousePuzzle, {"prob", "mean_prob", "geometric_mean", "jepo"}, set()),
        # `jepo` reasons too, with a margin that is not always sure
        ("weak_house_base_model", HousePuzzle, {"prob", "mean_prob"}, {"logprob"}),
    ],
)
def test_what_training_did_is_foretold(base: str, kind: type[Puzzle], reasons: set[str], guesses: set[str]) -> None:
    probed, answers = probe_puzzles(base, kind, number=64, num_samples=16)
    found = find(probed, answers, 64, seed=0)
    assert reasons <= {name for name, of in found.rewards.items() if of.reasoning_share >= 0.95}
    assert guesses <= {name for name, of in found.rewards.items() if of.reasoning_share <= 0.05}
