# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""Tasks by name, and a task of your own: a file or Hub dataset with a question and an answer column."""

import math
import os
from decimal import Decimal
from functools import partial
from typing import Any

from ..grading import Grader, grade_answer
from .arc_challenge import ARC_CHALLENGE
from .gsm8k import GSM8K
from .math import MATH
from .sources import HubSource, Source, local_source
from .task import Example, Task, nonempty_text


TASKS = {"gsm8k": GSM8K, "arc_challenge": ARC_CHALLENGE, "math": MATH}
PROMPT_TEMPLATE = "{question}\nLet's think step by step."


def get_task(
    name: str,
    dataset_config: str | None = None,
    question_column: str = "question",
    answer_column: str = "answer",
    rationale_column: str | None = None,
    prompt_template: str = PROMPT_TEMPLATE,
    grader: Grader = grade_answer,
) -> Task:
    """
    The task of a name, or a task made of your own data. The other arguments belong to your own data.

    Args:
        name (`str`):
            `"gsm8k"`, `"arc_challenge"` or `"math"`; or the path of a JSON lines or CSV file, or of a folder with
            `train.jsonl`, `validation.jsonl` and `test.jsonl` (or `.csv`); or the name of a dataset on the Hub
            (`"organisation/name"`).
        dataset_config (`str`, *optional*):
            Configuration of the Hub dataset.
        question_column (`str`, *optional*, defaults to `"question"`):
            Column of the questions.
        answer_column (`str`, *optional*, defaults to `"answer"`):
            Column of the reference answers, text or numbers, or lists of them where several are right.
        rationale_column (`str`, *optional*):
            Column of gold rationales, if the data have one. Only baselines, few-shot prompts and evaluation read it.
        prompt_template (`str`, *optional*, defaults to `"{question}\\nLet's think step by step."`):
            The prompt, with `{question}` where the question stands.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]):
            Compares an extracted answer with the row's.

    Raises:
        `ValueError`, `FileNotFoundError`: no such task, a prompt template without `{question}`.

    Example:
    ```python
    >>> task = get_task("questions.csv", question_column="ask", answer_column="solution")
    >>> dataset = task.load("train", conversational=True)
    ```
    """
    if name in TASKS:
        return TASKS[name]
    source: Source
    if os.path.exists(name):
        source = local_source(name)
    elif name.count("/") == 1 and not name.endswith((".jsonl", ".json", ".csv")) and name[0] not in "./":
        source = HubSource(name, dataset_config)
    else:
        raise ValueError(
            f"There is no task {name!r}, and no file or folder of that name. Use one of {list(TASKS)}, the path of a "
            "JSON lines or CSV file, or the name of a Hub dataset ('organisation/name')."
        )
    if "{question}" not in prompt_template:
        raise ValueError(
            f"prompt_template is {prompt_template!r} and has no {{question}}: put it where the question stands."
        )
    columns = (question_column, answer_column) + (() if rationale_column is None else (rationale_column,))
    return Task(
        source=source,
        columns=columns,
        to_example=partial(_to_example, columns=columns, prompt_template=prompt_template),
        grader=grader,
    )


def _to_example(row: dict[str, Any], columns: tuple[str, ...], prompt_template: str) -> Example:
    question, answer, *rationale = (row[column] for column in columns)
    if isinstance(answer, list):
        if not answer:
            raise ValueError(f"{columns[1]} should be a non-empty text or a list of such texts, got [].")
        answer = [_to_answer(one, f"Each of {columns[1]}") for one in answer]
    else:
        answer = _to_answer(answer, columns[1])
    prompt = prompt_template.replace("{question}", nonempty_text(question, columns[0]).strip())
    return Example(
        text=prompt,
        message=prompt,
        answer=answer,
        # White space in front stays: it is how the rationale follows the prompt
        rationale=nonempty_text(rationale[0], columns[2]).rstrip() if rationale else None,
    )


def _to_answer(answer: Any, name: str) -> str:
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = write_number(answer, name)
    return nonempty_text(answer, name).strip()


def write_number(number: int | float, name: str) -> str:
    """
    A number as text, without an exponent; one that is an integer without a point, whatever its type: 7 and 7.0 are `"7"`.

    Raises:
        `ValueError`: NaN or infinite, which names `name`.
    """
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        raise ValueError(f"{name} should be a number or a non-empty text, got {number!r}.")
    # `repr` has the digits that the number was written with; at most 17 of them, so that none is rounded here
    return "0" if number == 0 else f"{Decimal(repr(number)).normalize():f}"  # -0.0 too
