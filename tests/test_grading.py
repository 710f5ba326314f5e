# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Answers that are right in another form, answers that only look right, and completions without answer."""

import pytest

from trl_latro.answer_template import AnswerTemplate
from trl_latro.grading import Grade, grade_answer, grade_completion, grade_math, grade_option, majority_accuracy


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
