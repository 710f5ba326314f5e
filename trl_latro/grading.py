# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Is a completion's answer the reference answer?

First the answer is extracted: the text that stands for `{answer}` in the [`AnswerTemplate`]. Then a grader compares it
with the reference. A grader is any function `(extracted, row) -> bool`, where `row` is the row of the dataset with all its
columns.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from math_verify import parse, verify

from .answer_template import AnswerTemplate


__all__ = [
    "NO_ANSWER",
    "Grade",
    "Grader",
    "grade_answer",
    "grade_completion",
    "grade_math",
    "grade_option",
    "majority_accuracy",
]

Grader = Callable[[str, dict[str, Any]], bool]

# 72, -3, 1,000, $5.00, .5, 3/4, 50 %
_NUMBER = re.compile(r"[-+]?\s?[$€£]?\s?(\d[\d,]*(\.\d*)?|\.\d+)(\s?/\s?\d+)?\s?%?")
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
    Extract a completion's answer and grade it.

    Args:
        completion (`str`):
            Text that the model wrote after the prompt.
        row (`dict[str, Any]`):
            Row of the dataset, with the reference in `"answer"`.
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
    extracted = answer_template.extract(completion, row["answer"])
    if extracted is None:
        return NO_ANSWER
    if grader(extracted, row):
        return Grade(extracted, True, row["answer"])
    return Grade(extracted, False, _vote(extracted, row.get("options")))


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
    Numbers and formulas by [math-verify](https://github.com/huggingface/Math-Verify), other answers by their text.

    A reference that is a number (`1,000`, `$5.00`, `1/2`, `50 %`) equals the same number in another form, with units
    behind it or not. One with LaTeX in it is a formula, see [`grade_math`]. Any other is compared as text, without
    case, white space at the ends, a full stop, quotes or Markdown's stars.
    """
    reference = row["answer"]
    if _plain(extracted) == _plain(reference):
        return True
    if _NUMBER.fullmatch(_plain(reference)):
        # math-verify takes one number of several: two different ones are no answer
        return not _is_hedge(extracted) and _math_equal(_plain(reference), _plain(extracted))
    if _FORMULA.search(reference):
        return grade_math(extracted, row)
    return False


def grade_math(extracted: str, row: dict[str, Any]) -> bool:
    """Formulas by math-verify: what stands in a LaTeX box, say, with or without dollar signs around it."""
    reference = row["answer"]
    if _plain(extracted) == _plain(reference):
        return True
    return _math_equal(_as_formula(reference), _as_formula(extracted))


def grade_option(extracted: str, row: dict[str, Any]) -> bool:
    """
    Multiple choice: the label of the right option, its text, or both, in full.

    `row["options"]` has the lists `"label"` and `"text"`; `row["answer"]` is a label. `B`, `(b)`, `B. iron`, `iron` and
    `option B` are the same answer; `iron` is not `iron ore`.
    """
    return _option_label(extracted, row["options"]) == row["answer"]


def _option_label(extracted: str, options: dict[str, list[str]]) -> str | None:
    given = re.sub(r"^(the\s+)?(option|choice|answer)\s+", "", _plain(extracted))
    pairs = list(zip(options["label"], options["text"], strict=True))
    for label, text in pairs:
        short, long = re.escape(label.casefold()), re.escape(_plain(text))
        if re.fullmatch(rf"\(?{short}[).:]*(\s+[-–]?\s*{long})?", given) or re.fullmatch(
            rf"{long}\s*\({short}\)", given
        ):
            return label
    same_text = [label for label, text in pairs if _plain(text) == given]
    return same_text[0] if len(same_text) == 1 else None


def _math_equal(reference: str, extracted: str) -> bool:
    return bool(verify(parse(reference), parse(extracted)))


def _as_formula(text: str) -> str:
    return f"${_plain(text).strip('$')}$"


def _is_hedge(extracted: str) -> bool:
    return re.search(r"\d.*\b(and|or|to)\b.*\d", extracted) is not None


def _plain(text: str) -> str:
    """Text without what does not change the answer: case, Markdown's stars, quotes, white space, a full stop."""
    text = text.replace("−", "-").replace("**", "").strip(" \t\n\"'`*").rstrip(".").strip(" \t\n\"'`*")
    return re.sub(r"\s+", " ", text).casefold()


def _vote(extracted: str, options: dict[str, list[str]] | None) -> str:
    """Wrong answers in the same class: the same option, else the same number, else the same text."""
    if options is not None and (label := _option_label(extracted, options)) is not None:
        return label
    plain = _plain(extracted)
    number = re.fullmatch(r"[-+]?\$?\d[\d,]*(\.\d+)?", plain)
    return f"{float(re.sub('[$,]', '', plain)):g}" if number else plain
