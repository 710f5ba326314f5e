# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Tables of forms that an answer may have: the rule of docs/grading.md, line by line, half of them wrong answers."""

import pytest

from trl_latro.answer_template import AnswerTemplate
from trl_latro.grading import grade_answer, grade_completion, grade_math, grade_option
from trl_latro.tasks.math import to_example


TEMPLATE = AnswerTemplate()
BOX = AnswerTemplate("\\boxed{{answer}}")
OPTIONS = {"label": ["A", "B", "C", "D"], "text": ["iron ore", "iron", "because of rain", "The Moon."]}

# Reference, and what follows "The answer is"
RIGHT = [
    # where it stands
    ("5", ":\n\n5"),
    ("5", "\n\n$5$"),
    ("5", ":\n$$\n5\n$$"),
    ("5", ":\n\\[\n5\n\\]\nSo."),
    ("5", ":\n\n**5**\n\nQuestion: What is 3 + 3?"),
    ("5", " 5.\n\nThe answer is 6."),
    ("5", ": 5"),
    ("5", " The answer is 5."),
    ("7", " not 5, it is 7."),
    ("7", " not 5 but 7."),
    ("7", " not 5. It's 7."),
    ("7", " definitely not 5 but rather 7 apples."),
    # signs and dashes
    ("5", " +5."),
    ("-5", " -5."),
    ("-5", " \N{MINUS SIGN}5."),
    ("-5", " \N{MINUS SIGN} 5."),
    ("-5", " \N{EN DASH}5."),
    ("-5", " $- 5$."),
    ("-5", " minus 5."),
    ("-5", " negative five."),
    # money
    ("18", " \\$18 per day."),
    ("18", " $18."),
    ("18", " $\\$18$."),
    ("18", " 18$."),
    ("18", " 18 dollars a day."),
    ("18", " USD 18."),
    ("18", " US$18.00."),
    ("18", " €18."),
    ("18", " 18 €."),
    ("18", " £18 in total."),
    ("-5", " -$5."),
    ("-5", " $-5."),
    ("-$5", " -5."),
    ("-$5", " $-5.00."),
    ("$5", " 5 dollars."),
    ("$0.50", " 50 cents."),
    ("50", " 50 cents."),
    ("5.5", " 5 dollars and 50 cents."),
    ("$1,500,000", " $1.5M."),
    # ways to write a number
    ("1000", " 1,000."),
    ("1,000", " 1000."),
    ("1000", " 1 000."),
    ("1000", " 1\N{NARROW NO-BREAK SPACE}000."),
    ("1000", " 1'000."),
    ("1000", " 1_000."),
    ("1000", " $1{,}000$."),
    ("1000", " $1\\,000$."),
    ("1000000", " 1.000.000."),
    ("1234.5", " 1,234.50."),
    ("1234.5", " 1.234,50."),
    ("1234567", " 12,34,567."),
    ("1000", " 1e3."),
    ("1e3", " 1000."),
    ("1000", " 10³."),
    ("2000", " $2 \\times 10^{3}$."),
    ("0.015", " 1.5E-2."),
    ("5", " 5.0."),
    ("5", " 5"),
    ("5", " 5!"),
    ("0.5", " .5."),
    ("5", " \N{FULLWIDTH DIGIT FIVE}."),
    ("5", " \N{ARABIC-INDIC DIGIT FIVE}."),
    ("0.5", " ½."),
    ("1.5", " 1½."),
    ("½", " 0.5."),
    ("3/4", " 0.75."),
    ("0.75", " \\frac{3}{4}."),
    ("0.5", " $\\frac12$."),
    ("0.5", " $\\dfrac{1}{2}$."),
    ("3.5", " $3\\frac{1}{2}$."),
    ("3 1/2", " 3.5."),
    ("3.5", " 3 and a half hours."),
    ("-3/4", " $-\\frac{3}{4}$."),
    # scale words and words
    ("1500000", " 1.5 million."),
    ("1.5 million", " 1,500,000."),
    ("5000", " 5k."),
    ("5000", " 5 thousand dollars."),
    ("500", " five hundred."),
    ("5", " five."),
    ("25", " twenty-five apples."),
    ("365", " three hundred and sixty-five."),
    ("12", " a dozen."),
    ("24", " two dozen eggs."),
    ("0.5", " half."),
    ("0.75", " three quarters."),
    ("3", " 3 quarters."),
    # percent
    ("0.5", " 50 %."),
    ("50", " 50%."),
    ("50", " 50 percent."),
    ("50%", " 50."),
    ("50\\%", " 0.5."),
    # units
    ("5", " 5 apples."),
    ("5", " 5 apples each."),
    ("5", " 5cm."),
    ("5", " $5\\text{ cm}$."),
    ("5", " 5°."),
    ("5", " $5^\\circ$."),
    ("5 km", " 5 kilometers."),
    ("5 km", " 5."),
    ("5 apples", " 5."),
    ("20", " 20 cups of feed in the final meal of the day."),
    ("460", " $460 for 45 hours of work."),
    # decoration
    ("5", " **5**."),
    ("5", " `5`."),
    ("5", " *5*."),
    ("5", ' "5".'),
    ("5", " (5)."),
    ("5", " [5]."),
    ("5", " \\boxed{5}."),
    ("5", " $\\boxed{5}$ apples."),
    ("5", " \\(5\\)."),
    ("5", " \\text{5}."),
    ("5", " <b>5</b>."),
    ("7", " ~~5~~ 7."),
    # words that lead to it, and what explains it
    ("5", " about 5."),
    ("5", " ~5."),
    ("5", " exactly 5."),
    ("5", " a total of 5 apples."),
    ("5", " that he has 5 apples left."),
    ("18", " Janet makes $18 per day."),
    ("5", " x = 5."),
    ("18", " 9 * 2 = 18."),
    ("60", " $20 * 3 = $60."),
    ("5", " 5 apples, because 2 and 3 make 5."),
    ("5", " 5 (2 + 3)."),
    ("5", " 5 (five)."),
    ("5", " 5, since 2 + 3 = 5."),
    ("5", " 5, not 6."),
    ("5", " 5 instead of 6."),
    ("5", " 5, that is, five apples."),
    # expressions
    ("1024", " $2^{10}$."),
    ("5", " $\\sqrt{25}$."),
    ("5", " 2 + 3."),
    ("120", " $5!$."),
    # more than one number
    ("3:30", " 3:30 pm."),
    ("3:1", " 3 to 1."),
    ("5-6", " 5\N{EN DASH}6."),
    ("5-6", " between 5 and 6."),
    ("5 and 6", " 5, 6."),
    # text
    ("Paris", " Paris, because it is the capital."),
    ("paris", " **Paris**."),
    ("not enough information", " not enough information."),
    ("12 Angry Men", " 12 Angry Men."),
]

WRONG = [
    # denied
    ("5", "n't 5."),
    ("5", "n\N{RIGHT SINGLE QUOTATION MARK}t 5."),
    ("5", " not 5."),
    ("5", " not 5, it is 7."),
    ("5", " not 5 but 7."),
    ("7", " not 5, it is not 7."),
    ("5", " never 5."),
    ("5", " neither 5 nor 6."),
    ("5", " unlikely to be 5."),
    ("5", " anything but 5."),
    ("5", " 5 is wrong."),
    ("5", " 5 is not right."),
    ("6", " 5, not 6."),
    ("7", " 7, no, 8."),
    # two numbers
    ("5", " 5 or 6."),
    ("6", " 5 or 6."),
    ("5", " either 5 or 6."),
    ("5", " 5 and 6."),
    ("5", " 5, 6."),
    ("5", " 5,6."),
    ("6", " 5,6."),
    ("5", " 5, 6 or 7."),
    ("5", " 5\N{EN DASH}6."),
    ("5", " 5-6."),
    ("6", " 5\N{EM DASH}6."),
    ("5", " 5 to 6."),
    ("6", " from 5 to 6."),
    ("5", " between 5 and 6."),
    ("3", " 3:1."),
    ("3", " 3 : 1."),
    ("1", " 3:1."),
    ("3", " 3:30."),
    ("3", " 3 to 1."),
    ("30", " 3:30 pm."),
    ("5", " 5 out of 6."),
    ("5", " 5 of 6."),
    ("5", " 5 in 6."),
    ("5", " 5/6."),
    ("5", " 5 by 6."),
    ("5", " 5 x 6."),
    ("5", " 5 ± 1."),
    ("5", " 5 apples and 3 pears."),
    ("3", " 5 apples and three pears."),
    ("5", " 5 feet 6 inches."),
    ("5", " 5'6\"."),
    ("2", " 2 hours and 30 minutes."),
    ("5", " 5 (or 6)."),
    ("5", " 5 (6 with the tip)."),
    ("5", " 5, maybe 6."),
    ("5", " 5? No, 7."),
    ("5", " 5, so 6 in total."),
    ("5", " x = 5 or x = 6."),
    ("6", " x = 5 and y = 6."),
    ("6", " 5 = 6."),
    ("18", " $18 per 2 days."),
    ("5", " $5-$6."),
    ("5", " $5 and $6."),
    # another number
    ("5", " 5 million."),
    ("5", " 5 hundred."),
    ("5", " 5k."),
    ("5", " $5M."),
    ("5", " five thousand."),
    ("5", " 5 dozen."),
    ("1", " 1e3."),
    ("10", " 10³."),
    ("2", " $2 \\times 10^3$."),
    ("5", " 5²."),
    ("5", " $5^2$."),
    ("5", " 5 squared."),
    ("5", " $5!$."),
    ("5!", " 5 apples."),
    ("5", " -5."),
    ("5", " \N{MINUS SIGN}5."),
    ("5", " -$5."),
    ("5", " minus 5."),
    ("-5", " (5)."),
    ("5", " 5.5."),
    ("5", " 15."),
    ("5", " 5½."),
    ("1", " 1 1/2."),
    ("5", " 5 and a half."),
    ("2", " 2 thirds."),
    ("2", " two thirds."),
    ("1000", " 1.000."),
    ("10", " 1,0."),
    ("1000000", " 1000001."),
    ("0.3333333333", " 1/3."),
    ("12345678901234567", " 12345678901234568."),
    ("52", " 5²."),
    ("0.5", " 0.5%."),
    # a bound, a function, a part of something
    ("5", " more than 5."),
    ("5", " less than 5."),
    ("5", " at least 5."),
    ("5", " at most 5."),
    ("5", " almost 5."),
    ("5", " 5+."),
    ("5", " >5."),
    ("5", " $x \\geq 5$."),
    ("5", " 5 or more."),
    ("5", " 5 less than 10."),
    ("25", " the square root of 25."),
    ("10", " half of 10."),
    ("5", " twice 5."),
    ("5", " 5 times 6."),
    ("5", " 5 plus 6."),
    ("5", " 5x."),
    ("5", " 5 \\pi."),
    ("5", " $5\\sqrt{2}$."),
    ("5", " x5."),
    ("5", " room A5."),
    ("5", " 5th."),
    ("5", " the fifth."),
    ("1", " one of the five apples."),
    ("5", " 5/6/2020."),
    ("5", " 1.5.2."),
    ("5", " - 5."),
    ("-5", " - 5."),
    ("5", " unknown, if not 5."),
    ("5", " unknown."),
    # another unit
    ("5 km", " 5 m."),
    ("5 km", " 5 kilograms."),
    ("5 km per hour", " 5 km."),
    ("$5", " €5."),
    ("$5", " 5 cents."),
    ("5 apples", " 5 pears."),
    ("3:30 pm", " 3:30 am."),
    ("3:1", " 1:3."),
    ("5-6", " 5."),
    ("5 and 6", " 5 or 6."),
    # text
    ("Paris", " not Paris."),
    ("Paris", " Paris or London."),
    ("12 Angry Men", " 12."),
    ("4 July 1776", " 4."),
    ("yes", " no, because yes."),
    # where it stands
    ("5", "."),
    ("5", "\n"),
    ("5", ":\n\nQuestion: 5 + 3?"),
    ("6", " 5.\n\nThe answer is 6."),
]


@pytest.mark.parametrize(("reference", "text"), RIGHT)
def test_the_same_quantity_in_another_form_is_right(reference: str, text: str) -> None:
    completion = f"So it is 2 + 3. The answer is{text}"
    assert grade_completion(completion, {"answer": reference}, TEMPLATE, grade_answer).correct


@pytest.mark.parametrize(("reference", "text"), WRONG)
def test_another_quantity_and_what_leaves_it_in_doubt_is_wrong(reference: str, text: str) -> None:
    completion = f"So it is 2 + 3. The answer is{text}"
    assert not grade_completion(completion, {"answer": reference}, TEMPLATE, grade_answer).correct


def test_the_tables_are_large_and_half_of_them_is_wrong() -> None:
    assert len(RIGHT) >= 120 and len(WRONG) >= 120
    assert len(set(RIGHT)) == len(RIGHT) and len(set(WRONG)) == len(WRONG)


@pytest.mark.parametrize(
    "completion",
    [
        "I don't think the answer is 5.",
        "It is not true that the answer is 5.",
        "If the answer is 5, she has 3 left.",
        "It is wrong to say that the answer is 5.",
        "The answer isn't 5.",
        "They soothe; answer is 5.",
    ],
)
def test_a_sentence_that_does_not_give_the_answer_has_none(completion: str) -> None:
    assert grade_completion(completion, {"answer": "5"}, TEMPLATE, grade_answer).extracted is None
    completion += " The answer is 5."
    assert grade_completion(completion, {"answer": "5"}, TEMPLATE, grade_answer).correct


@pytest.mark.parametrize("text", ["Answer: cannot be 5", "Answer: isn't 5", "Answer: it is not 5", "Answer: 6"])
def test_denials_behind_another_template(text: str) -> None:
    assert not grade_completion(text, {"answer": "5"}, AnswerTemplate("Answer: {answer}"), grade_answer).correct


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" \\boxed{C}.", "C"),
        (" $\\boxed{\\text{C}}$.", "C"),
        (" $C$.", "C"),
        (":\n\nC", "C"),
        (":\n\n**(C)**", "C"),
        (" C, because it rains.", "C"),
        (" C because A and B are no weather.", "C"),
        (" C: because of rain.", "C"),
        (" C - because of rain.", "C"),
        (" [C].", "C"),
        (" option C, since A is a stone.", "C"),
        (" C, not D.", "C"),
        (" C (not D).", "C"),
        (" C is correct.", "C"),
        (" not D but C.", "C"),
        (" not D, it is C.", "C"),
        (" iron, because it rusts.", "B"),
        (" because of rain.", "C"),
        (" because of rain, since A is a stone.", "C"),
        (" the correct option is (b).", "B"),
        (" C or D.", None),
        (" C and D.", None),
        (" C, D.", None),
        (" C/D.", None),
        (" C (D).", None),
        (" either C or D.", None),
        ("n't C.", None),
        (" not C.", None),
        (" C is wrong.", None),
        (" C) iron.", None),
        (" iron or iron ore.", None),
        (" a stone.", None),
        (" Copper.", None),
        (" B2.", None),
        (" none of them.", None),
    ],
)
def test_forms_of_options(text: str, label: str | None) -> None:
    for answer in OPTIONS["label"]:
        row = {"answer": answer, "options": OPTIONS}
        verdict = grade_completion(f"The answer is{text}", row, TEMPLATE, grade_option)
        assert verdict.correct == (answer == label)


@pytest.mark.parametrize(
    ("reference", "completion", "correct"),
    [
        ("5", "so $\\boxed 5$.", True),
        ("5", "\\fbox{5}", True),
        ("5", "\\boxed5", True),
        ("\\frac{1}{2}", "$\\boxed\\frac12$", True),
        ("\\frac{\\sqrt{2}}{2}", "$\\boxed\\frac{1}{\\sqrt{2}}$.", True),
        ("18", "\\boxed{\\$18}", True),
        ("\\$18", "\\boxed{18}", True),
        ("5", "\\boxed{x = 5}", True),
        ("5", "\\boxed{5\\text{ cm}}", True),
        ("120", "\\boxed{5!}", True),
        ("50\\%", "\\boxed{50}", True),
        ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", True),
        ("3:1", "\\boxed{3 : 1}", True),
        ("1,2", "\\boxed{2, 1}", True),
        ("90^\\circ", "\\boxed{90}", True),
        ("5", "\\fbox{6}", False),
        ("5", "\\boxed 6", False),
        ("3", "\\boxed{3:1}", False),
        ("5", "\\boxed{5!}", False),
        ("5", "\\boxed{5\\text{ million}}", False),
        ("5", "\\boxed{5\\text{ or }6}", False),
        ("5", "\\boxed{5x}", False),
        ("5", "\\boxed{5\\pi}", False),
        ("5", "\\boxed{\\text{not }5}", False),
        ("5", "\\boxed{x > 5}", False),
        ("5", "\\boxed{5, 6}", False),
        ("5", "\\boxed{(5, 6)}", False),
        ("x + 1", "\\boxed{x - 1}", False),
        ("1,2", "\\boxed{1,3}", False),
    ],
)
def test_forms_of_boxed_formulas(reference: str, completion: str, correct: bool) -> None:
    assert grade_completion(completion, {"answer": reference}, BOX, grade_math).correct == correct


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("It is $\\boxed\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("It is $\\boxed\\frac12$.", "\\frac12"),
        ("It is $\\boxed 12$.", "12"),
        ("It is $\\boxed5$.", "5"),
        ("It is \\fbox{5}.", "5"),
        ("It is $\\fbox 5$.", "5"),
    ],
)
def test_boxes_of_math_solutions(solution: str, answer: str) -> None:
    assert to_example({"problem": "What is it?", "solution": solution}).answer == answer
