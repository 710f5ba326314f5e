# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""GSM8K (https://huggingface.co/papers/2110.14168): grade-school mathematics, zero-shot, the answer is a number."""

import re
from typing import Any

from .sources import HubSource
from .task import Example, Task, nonempty_text


CALCULATOR_NOTE = re.compile(r"<<[^<>]*>>")
ANSWER_MARK = "####"


def to_example(row: dict[str, Any]) -> Example:
    """
    Make a prompt and an answer of a row of GSM8K.

    The gold rationale in front of `####` loses its `<<48/2=24>>` calculator notes. The answer keeps its thousands
    separators, as in the data.

    Example:
    ```python
    >>> row = {"question": "What is 1,000 + 234?", "answer": "It is <<1000+234=1234>>1,234.\\n#### 1,234"}
    >>> to_example(row)[1:4]
    ("What is 1,000 + 234? Let's think step by step.", '1,234', 'It is 1,234.')

    ```
    """
    question = nonempty_text(row["question"], "question").strip()
    rationale, mark, answer = nonempty_text(row["answer"], "answer").rpartition(ANSWER_MARK)
    if not mark or not answer.strip():
        raise ValueError(f"answer should end with {ANSWER_MARK!r} and the number, got {row['answer']!r}.")
    return Example(
        text=f"{question}\nLet's think step by step.",
        message=f"{question} Let's think step by step.",
        answer=answer.strip(),
        rationale=CALCULATOR_NOTE.sub("", rationale).strip(),
    )


GSM8K = Task(
    source=HubSource("openai/gsm8k", "main"),
    columns=("question", "answer"),
    to_example=to_example,
    split_sizes={"train": 7473},
)
