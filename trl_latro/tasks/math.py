# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

r"""MATH (https://huggingface.co/papers/2103.03874): competition mathematics, the answer is a formula in `\boxed{}`."""

import re
from typing import Any

from ..answer_template import AnswerTemplate
from ..grading import grade_math
from .sources import HubSource
from .task import Example, Task, nonempty_text


ANSWER_TEMPLATE = AnswerTemplate("\\boxed{{answer}}")
INSTRUCTION = "Let's think step by step and put the final answer within \\boxed{}."


def to_example(row: dict[str, Any]) -> Example:
    r"""
    Make a prompt and an answer of a row with a problem and a solution, whose last `\boxed{}` holds the answer.

    Example:
    ```python
    >>> row = {"problem": "What is $1 + 1$?", "solution": "It is $\\boxed{2}$."}
    >>> to_example(row)[1:4]
    ("What is $1 + 1$? Let's think step by step and put the final answer within \\boxed{}.", '2', 'It is $')

    ```
    """
    problem = nonempty_text(row["problem"], "problem").strip()
    solution = nonempty_text(row["solution"], "solution")
    # Some solutions write \fbox{2}, \boxed 2 or \boxed\frac12
    solution = re.sub(r"\\fbox(?![A-Za-z])", r"\\boxed", solution)
    rationale, box, rest = solution.rpartition("\\boxed")
    if box and rest.startswith(" "):
        rest = f"{{{rest.split('$')[0].strip()}}}"
    answer = ANSWER_TEMPLATE.extract(box + rest, reference="")
    if answer is None:
        raise ValueError(f"solution should have its answer in \\boxed{{}}, got {row['solution']!r}.")
    return Example(
        text=f"{problem}\n{INSTRUCTION}",
        message=f"{problem} {INSTRUCTION}",
        answer=answer,
        rationale=rationale.strip(),
    )


MATH = Task(
    source=HubSource("DigitalLearningGmbH/MATH-lighteval", "default"),
    columns=("problem", "solution"),
    to_example=to_example,
    answer_template=ANSWER_TEMPLATE,
    grader=grade_math,
)
