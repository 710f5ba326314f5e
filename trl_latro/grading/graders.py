# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Verdicts on completions.

First the answer is extracted: the text that stands for `{answer}` in the [`AnswerTemplate`]. Then a grader compares it
with the reference. A grader is any function `(extracted, row) -> bool`, where `row` is the row of the dataset with all its
columns, and one right answer in `"answer"`.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from trl.trainer.utils import get_callable_name

from ..answer_template import AnswerTemplate, list_answers
from .flexible import last_answer
from .formulas import is_formula, same_formula
from .options import Options, read_option
from .quantities import is_denied, read_quantity, same_quantity, without_explanation
from .writing import plain


Grader = Callable[[str, dict[str, Any]], bool]

_FORMULA = re.compile(r"[\\^_{}=$]")  # a text with one of these is LaTeX


class Grade(NamedTuple):
    """
    Verdict on a completion.

    Args:
        extracted (`str`, *optional*):
            The completion's answer, `None` where it has none.
        correct (`bool`):
            Whether that is the reference answer. A completion without answer is wrong.
        vote (`str`, *optional*):
            What a majority vote counts: completions with the same vote give the same answer, in whatever form it is
            written. `None` where there is no answer.
    """

    extracted: str | None
    correct: bool
    vote: str | None


NO_ANSWER = Grade(extracted=None, correct=False, vote=None)


def grade_completion(completion: str, row: dict[str, Any], answer_template: AnswerTemplate, grader: Grader) -> Grade:
    """
    Extract a completion's answer and grade it. Where the row has several right answers, each is the reference in turn: the
    completion is right if it has any of them, and votes for the first then.

    Args:
        completion (`str`):
            Text that the model wrote after the prompt.
        row (`dict[str, Any]`):
            Row of the dataset, with the reference or a list of them in `"answer"`.
        answer_template ([`AnswerTemplate`]):
            How the answer is written.
        grader (`Callable[[str, dict[str, Any]], bool]`):
            [`grade_answer`], [`grade_math`], [`grade_option`] or a function of your own.

    Example:
    ```python
    >>> row = {"prompt": "What is 600 + 400?", "answer": "1000"}
    >>> grade_completion("It is 1,000. The answer is 1,000.", row, AnswerTemplate(), grade_answer)
    Grade(extracted='1,000', correct=True, vote='1000')

    ```
    """
    return _grade_by_any(partial(_grade_completion, completion, answer_template=answer_template, grader=grader), row)


def _grade_completion(completion: str, row: dict[str, Any], answer_template: AnswerTemplate, grader: Grader) -> Grade:
    extracted = answer_template.extract(completion, row["answer"])
    return NO_ANSWER if extracted is None else _grade(extracted, row, grader)


def _grade_by_any(grade: Callable[[dict[str, Any]], Grade], row: dict[str, Any]) -> Grade:
    """The verdict by whichever of the row's right answers is the best for the completion."""
    answers = list_answers(row["answer"])
    grades = [grade(row | {"answer": answer}) for answer in answers]
    if right := next((one for one in grades if one.correct), None):
        return right._replace(vote=answers[0])
    return next((one for one in grades if one.extracted is not None), NO_ANSWER)


def check_verdict(verdict: Any, extracted: str, name: str) -> bool:
    """
    A grader's verdict. A function that forgets its `return` would grade every answer as wrong.

    Args:
        verdict (`Any`):
            What the grader returned.
        extracted (`str`):
            The answer that it was asked about.
        name (`str`):
            What the grader is called.

    Raises:
        `ValueError`: it is neither true nor false, nor 1 nor 0.
    """
    # numpy's bool too, and no text, list or match, whose truth may be an accident
    if isinstance(verdict, int | np.bool_ | np.integer) and verdict in (0, 1):
        return bool(verdict)
    raise ValueError(
        f"The grader {name!r} returned {verdict!r} for the answer {extracted!r}, but should return True or False."
    )


def _grade(extracted: str, row: dict[str, Any], grader: Grader) -> Grade:
    if check_verdict(grader(extracted, row), extracted, get_callable_name(grader)):
        return Grade(extracted, True, row["answer"])
    return Grade(extracted, False, _vote(extracted, row.get("options"), formula=grader is grade_math))


def grade_flexibly(completion: str, row: dict[str, Any], answer_template: AnswerTemplate, grader: Grader) -> Grade:
    """
    For the flexible accuracy: as [`grade_completion`], but where the template is missing, the last number, option or formula counts.

    Args:
        completion (`str`):
            Text that the model wrote after the prompt.
        row (`dict[str, Any]`):
            Row of the dataset, with the reference in `"answer"`.
        answer_template ([`AnswerTemplate`]):
            How the answer is written.
        grader (`Callable[[str, dict[str, Any]], bool]`):
            As in [`grade_completion`].

    Example:
    ```python
    >>> row = {"prompt": "What is 600 + 400?", "answer": "1000"}
    >>> grade_flexibly("600 + 400 makes 1,000.", row, AnswerTemplate(), grade_answer).correct
    True

    ```
    """
    grade = grade_completion(completion, row, answer_template, grader)
    if grade.extracted is not None:
        return grade
    return _grade_by_any(partial(_grade_last_answer, completion, grader=grader), row)


def _grade_last_answer(completion: str, row: dict[str, Any], grader: Grader) -> Grade:
    found = last_answer(completion, row)
    return NO_ANSWER if found is None else _grade(found, row, grader)


def majority_accuracy(grades: list[Grade]) -> float:
    """
    Whether the most frequent answer is correct: 1 or 0, and where several are as frequent, the share of them that is.

    Completions without answer have no vote; if none has one, 0.
    """
    votes = Counter(grade.vote for grade in grades if grade.vote is not None)
    correct = {grade.vote for grade in grades if grade.correct}
    winners = [vote for vote, count in votes.items() if count == max(votes.values())]
    return sum(vote in correct for vote in winners) / max(len(winners), 1)


def grade_answer(extracted: str, row: dict[str, Any]) -> bool:
    """
    Quantities by their number and unit, formulas by math-verify, other answers by their text.

    A reference that is a quantity (`1,000`, `-$5`, `1/2`, `50 %`, `1.5 million`, `3:30`) equals the same one in another
    form, with words around it that do not change it. One with LaTeX in it is a formula, see [`grade_math`]. Any other is
    compared as text, without case, white space at the ends, a full stop, quotes, Markdown, or an explanation behind it.
    """
    reference = row["answer"]
    if plain(extracted) == plain(reference):
        return True
    if read_quantity(reference, reference=True) is not None:
        return _same_number(reference, extracted, formula=False)
    if _FORMULA.search(reference):
        return grade_math(extracted, row)
    return plain(without_explanation(extracted)) == plain(reference)


def grade_math(extracted: str, row: dict[str, Any]) -> bool:
    """Formulas by math-verify: what stands in a LaTeX box, say, with or without dollar signs around it."""
    reference = row["answer"]
    if plain(extracted) == plain(reference):
        return True
    if (quantity := read_quantity(reference, reference=True, formula=True)) is not None and quantity.relation != "and":
        return _same_number(reference, extracted, formula=True)
    hedge = re.search(r"\$[^$]+\$.*\b(?:and|or|to)\b.*\$[^$]+\$", extracted)
    return not hedge and not is_denied(extracted) and same_formula(reference, extracted)


def grade_option(extracted: str, row: dict[str, Any]) -> bool:
    """
    Multiple choice: the label of the right option, its text, or both, in full.

    `row["options"]` has the lists `"label"` and `"text"`; `row["answer"]` is a label. `B`, `(b)`, `B. iron`, `iron` and
    `option B` are the same answer; `iron` is not `iron ore`.
    """
    return read_option(extracted, row["options"]) == row["answer"]


def _same_number(reference: str, extracted: str, formula: bool) -> bool:
    wanted = read_quantity(reference, reference=True, formula=formula)
    given = read_quantity(extracted, formula=formula)
    if wanted is None or given is not None:
        return wanted is not None and given is not None and same_quantity(wanted, given)
    # No number that stands there, but perhaps an expression that has one: 2^{10}, 5 + 13, n = \\sqrt{25}
    expression = extracted.rpartition("=")[2].strip(" .")
    return not wanted.relation and is_formula(expression) and same_formula(str(wanted.exact()), expression)


def _vote(extracted: str, options: Options | None, formula: bool) -> str:
    """Wrong answers in the same class: the same option, else the same number, exactly, else the same text."""
    if options is not None and (label := read_option(extracted, options)) is not None:
        return label
    quantity = read_quantity(extracted, formula=formula)
    return plain(extracted) if quantity is None or quantity.relation else str(quantity.exact())
