# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Answers that are right in another form, answers that only look right, and completions without answer."""

import threading
import time

import pytest

from trl_latro.answer_template import AnswerTemplate
from trl_latro.grading import (
    NO_ANSWER,
    Grade,
    formulas,
    grade_answer,
    grade_completion,
    grade_flexibly,
    grade_math,
    grade_option,
    majority_accuracy,
)


TEMPLATE = AnswerTemplate()
BOX = AnswerTemplate("\\boxed{{answer}}")
OPTIONS = {"label": ["A", "B", "C", "D"], "text": ["iron ore", "iron", "4", "The Moon."]}


def grade(completion: str, answer: str) -> Grade:
    return grade_completion(completion, {"answer": answer}, TEMPLATE, grade_answer)


@pytest.mark.parametrize(
    ("completion", "answer", "extracted"),
    [
        ("The answer is 1,000.", "1000", "1,000"),
        ("The answer is 1000.", "1,000", "1000"),
        ("The answer is $5.00.", "5", "$5.00"),
        ("The answer is 0.5.", "1/2", "0.5"),
        ("The answer is 1/2.", "0.5", "1/2"),
        ("The answer is 50%.", "0.5", "50%"),
        ("She has 18 left. The answer is 18 dollars per day. So that is it.", "18", "18 dollars per day"),
        ("The answer is 18", "18", "18"),
        ("The answer is -3.", "-3", "-3"),
        ("The answer is \N{MINUS SIGN}3.", "-3", "\N{MINUS SIGN}3"),
        ("The answer is: **72**.", "72", "**72**"),
        ("So the answer is 72.", "72", "72"),
        ("The\nanswer is 5.\n\nQuestion: What is 3 + 3? The answer is 6.", "5", "5"),
        ("The answer is not 5. The answer is 7.", "7", "7"),
        ("The answer is $\\frac{1}{2}$.", "0.5", "$\\frac{1}{2}$"),
        ("The answer is 5 + 13 = 18.", "18", "5 + 13 = 18"),
        ("The answer is Paris.", "paris", "Paris"),
        ("The answer is U. S. Grant. He won.", "U. S. Grant", "U. S. Grant"),
        ('The answer is "cellar".', "cellar", '"cellar"'),
        ("The answer is 12:30.", "12:30", "12:30"),
    ],
)
def test_the_same_answer_in_another_form_is_right(completion: str, answer: str, extracted: str) -> None:
    assert grade(completion, answer) == Grade(extracted, True, answer)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("The answer is 15.", "5"),
        ("The answer is 5.", "15"),
        ("The answer is 5.5.", "5"),
        ("The answer is not 5. The answer is 7.", "5"),
        ("The answer is 5 or 6.", "6"),
        ("The answer is between 5 and 6.", "6"),
        ("The answer is 7 apples and 3 pears.", "3"),
        ("5. The answer is unknown.", "5"),
        ("The answer is 12:30.", "12:45"),
        ("The answer is the cellar door.", "cellar"),
        ("The answer is cellar.", "wine cellar"),
    ],
)
def test_an_answer_that_only_contains_the_right_one_is_wrong(completion: str, answer: str) -> None:
    verdict = grade(completion, answer)
    assert not verdict.correct
    assert verdict.extracted is not None


@pytest.mark.parametrize(
    "completion", ["", "5", "It is 5.", "The answer is", "The answer is .", "The answer is not 5."]
)
def test_a_completion_without_the_template_has_no_answer(completion: str) -> None:
    assert grade(completion, "5") == Grade(None, False, None)


@pytest.mark.parametrize(
    ("completion", "answer", "correct"),
    [
        ("so $\\boxed{\\frac{3}{4}}$.", "\\frac34", True),
        ("\\boxed{0.75}", "\\frac{3}{4}", True),
        ("\\boxed{x+1}", "1+x", True),
        ("\\boxed{2\\sqrt{3}}", "\\sqrt{12}", True),
        ("\\boxed{(1,2)}", "(1, 2)", True),
        ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}", True),
        ("\\boxed{10,\\!000}", "10000", True),
        ("\\boxed{(1,2)}", "[1,2)", False),
        ("\\boxed{x-1}", "1+x", False),
        ("\\boxed{}", "5", False),
        ("boxed 5", "5", False),
    ],
)
def test_boxed_formulas(completion: str, answer: str, correct: bool) -> None:
    assert grade_completion(completion, {"answer": answer}, BOX, grade_math).correct == correct


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B. iron", "B"),
        ("B) iron", "B"),
        ("option B", "B"),
        ("**B**", "B"),
        ("iron", "B"),
        ("iron ore", "A"),
        ("iron (B)", "B"),
        ("4", "C"),
        ("the Moon", "D"),
        ("A or B", None),
        ("B. iron ore", "B"),  # the answer ends at the full stop, and the label counts
        ("B) iron ore", None),
        ("irons", None),
        ("E", None),
    ],
)
def test_options_match_by_label_or_whole_text(text: str, label: str | None) -> None:
    for answer in OPTIONS["label"]:
        row = {"answer": answer, "options": OPTIONS}
        verdict = grade_completion(f"The answer is {text}.", row, TEMPLATE, grade_option)
        assert verdict.correct == (answer == label)
        assert label is None or verdict.vote == label, "all forms of an option are one vote"


def test_options_labelled_by_digits() -> None:
    options = {"label": ["1", "2"], "text": ["2", "3"]}
    row = {"answer": "2", "options": options}
    assert grade_completion("The answer is 2.", row, TEMPLATE, grade_option).correct, "a label goes before a text"
    assert grade_completion("The answer is 3.", row, TEMPLATE, grade_option).correct


def test_a_grader_of_the_users_own_sees_the_extracted_text_and_the_whole_row() -> None:
    seen = []

    def grader(extracted: str, row: dict) -> bool:
        seen.append((extracted, row))
        return extracted in row["also"]

    row = {"prompt": "Capital?", "answer": "Paris", "also": ["City of Light"]}
    assert grade_completion("The answer is City of Light.", row, TEMPLATE, grader) == Grade(
        "City of Light", True, "Paris"
    )
    assert not grade_completion("It is Paris.", row, TEMPLATE, grader).correct
    assert seen == [("City of Light", row)], "nothing to grade where there is no answer"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("The answer is 4.", Grade("4", True, "four")),
        ("The answer is FOUR.", Grade("FOUR", True, "four")),
        ("The answer is 5.", Grade("5", False, "5")),
        ("The answer is U. S. Grant.", Grade("U. S. Grant", True, "four")),
        ("I do not know.", NO_ANSWER),
    ],
)
def test_any_of_several_right_answers_is_right_and_a_vote_for_the_first(completion: str, expected: Grade) -> None:
    row = {"answer": ["four", "4", "U. S. Grant"]}
    assert grade_completion(completion, row, TEMPLATE, grade_answer) == expected


def test_a_grader_sees_several_right_answers_one_by_one() -> None:
    seen = []

    def grader(extracted: str, row: dict) -> bool:
        seen.append(row["answer"])
        return False

    assert not grade_completion("The answer is 5.", {"answer": ["four", "4"]}, TEMPLATE, grader).correct
    assert seen == ["four", "4"]


def test_the_lenient_reading_knows_several_right_answers() -> None:
    row = {"answer": ["Paris", "18"]}
    assert grade_flexibly("6 and 12 make 18.", row, TEMPLATE, grade_answer) == Grade("18", True, "Paris")
    assert grade_flexibly("6 and 12 make 17.", row, TEMPLATE, grade_answer) == Grade("17", False, "17")


def test_votes_join_the_forms_of_a_wrong_number() -> None:
    votes = {grade(f"The answer is {text}.", "7").vote for text in ("1,000", "$1000", "1000.0")}
    assert len(votes) == 1


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["7", "7", "5"], 1.0),
        (["7", "5", "5.0"], 0.0),
        (["7", "7.0", "5", "5"], 0.5),
        (["7", "5", "6"], 1 / 3),
        (["7", None, None], 1.0),
        ([None, None], 0.0),
    ],
)
def test_the_majority_counts_answers_and_shares_ties(answers: list[str | None], expected: float) -> None:
    grades = [grade("" if answer is None else f"The answer is {answer}.", "7") for answer in answers]
    assert majority_accuracy(grades) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["1234560", "1,234,560", "1234567", "1234568", "1234569"], 1.0),
        (["1234560", "1234567", "1,234,567.0", "1.234567 million"], 0.0),
        (["1234560", "0.1", "0.10000001", "0.10000002"], 1 / 4),
        (["1234560", "0.5", "1/2", "50%"], 0.0),
        (["1234560", "1234560", "5 or 6", "5", "6"], 1.0),
        (["1234560", "1/3", "0.333333", "0.3333333"], 1 / 4),
    ],
)
def test_votes_are_the_same_where_numbers_are_equal_to_the_last_digit(answers: list[str], expected: float) -> None:
    grades = [grade(f"The answer is {answer}.", "1234560") for answer in answers]
    assert majority_accuracy(grades) == pytest.approx(expected)


# Each takes sympy minutes or for ever; a huge number is refused, since nothing stops arithmetic in its one step
ENDLESS = [
    "\\sum_{k=1}^{9999} \\sin(k^k)^k",
    "\\prod_{k=1}^{9999999} k",
    "9^{9^{9^{9}}}",
    "99999999!",
    "(9!)!",
    "\\binom{1000000000}{500000000}",
]


def grade_in_thread(completions: list[str], answer: str) -> list[bool]:
    found: list[bool] = []

    def run() -> None:
        found.extend(grade_completion(one, {"answer": answer}, BOX, grade_math).correct for one in completions)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return found


def test_formulas_are_graded_in_any_thread() -> None:
    completions = ["\\boxed{x+1}", "\\boxed{x-1}", "\\boxed{\\frac{2+2x}{2}}"]
    assert grade_in_thread(completions, "1+x") == [True, False, True]
    assert [grade_completion(one, {"answer": "1+x"}, BOX, grade_math).correct for one in completions] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("formula", ENDLESS)
def test_a_formula_without_end_is_wrong_in_time(monkeypatch: pytest.MonkeyPatch, formula: str) -> None:
    monkeypatch.setattr(formulas, "TIME_LIMIT", 1)
    start = time.monotonic()
    completion = f"\\boxed{{{formula}}}"
    assert not grade_completion(completion, {"answer": "x+1"}, BOX, grade_math).correct
    assert not grade_completion(completion, {"answer": "5"}, BOX, grade_math).correct
    assert grade_in_thread([completion, "\\boxed{1+x}"], "x+1") == [False, True]
    assert time.monotonic() - start < 15
    # Nothing of it comes later
    assert grade_completion("\\boxed{1+x}", {"answer": "x+1"}, BOX, grade_math).correct
    time.sleep(1.1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_time_limit_holds_where_its_exception_is_lost_in_a_destructor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "TIME_LIMIT", 0.2)

    def last(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    class Slow:
        def __del__(self) -> None:
            last(10)

    def compare() -> bool:
        Slow()
        last(10)
        return True

    start = time.monotonic()
    assert not formulas._within_time_limit(compare)
    assert time.monotonic() - start < 5


def test_a_number_with_a_million_digits_is_no_answer() -> None:
    for text in ("1e999999999", "10^999999999", "9" * 100_000, "1 x 10^{99999999}"):
        assert not grade(f"The answer is {text}.", "5").correct


@pytest.mark.parametrize(
    ("completion", "answer", "extracted", "correct"),
    [
        ("9 * 2 = 18", "18", "18", True),
        ("So she makes $18 every day.", "18", "$18", True),
        ("18 eggs. Then she has 3 left", "18", "3", False),
        ("It is 1,234,560 in all.", "1234560", "1,234,560", True),
        ("So half of it, 50 %.", "0.5", "50 %", True),
        ("That is $\\frac{1}{2}$", "0.5", "1/2", True),
        ("The temperature is -5.", "-5", "-5", True),
        ("It is between 5-6", "6", "6", True),
        # The template counts where it is there, right or wrong
        ("The answer is 5. Or is it 18?", "18", "5", False),
        ("The answer is 18. Then 3 are left.", "18", "18", True),
        ("The answer is not 5. It is 18.", "18", "18", True),
        ("She has none.", "18", None, False),
        ("", "18", None, False),
        ("It is Paris.", "Paris", None, False),
        ("so it is $x+1$, or $x^2+1$ halved", "x^2+1", "x^2+1", True),
    ],
)
def test_the_lenient_reading_takes_the_last_number_without_the_template(
    completion: str, answer: str, extracted: str | None, correct: bool
) -> None:
    verdict = grade_flexibly(completion, {"answer": answer}, TEMPLATE, grade_answer)
    assert (verdict.extracted, verdict.correct) == (extracted, correct)


@pytest.mark.parametrize(
    ("completion", "label"),
    [
        ("It must be (B).", "B"),
        ("Option B is right", "B"),
        ("A is wrong, so B", "B"),
        ("**C**", "C"),
        ("It is iron ore.", "A"),
        ("It is iron.", "B"),
        ("A magnet draws iron", "B"),
        ("I would say A", "A"),
        ("the moon", "D"),
        ("Copper.", None),
        ("", None),
    ],
)
def test_the_lenient_reading_takes_the_last_option_without_the_template(completion: str, label: str | None) -> None:
    for answer in OPTIONS["label"]:
        row = {"answer": answer, "options": OPTIONS}
        verdict = grade_flexibly(completion, row, TEMPLATE, grade_option)
        assert verdict.extracted == label and verdict.correct == (answer == label)
