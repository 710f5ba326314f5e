# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""GSM8K (https://huggingface.co/papers/2110.14168): grade-school mathematics, zero-shot, the answer is a number."""

from typing import Any

from . import Example, Task, nonempty_text


ANSWER_MARK = "#### "


def to_example(row: dict[str, Any]) -> Example:
    """
    Make a prompt and an answer of a row of GSM8K.

    The gold rationale in front of `#### `, with its `<<48/2=24>>` calculator notes, is dropped: LaTRO samples its own.
    The answer keeps its thousands separators, as in the data.

    Example:
    ```python
    >>> row = {"question": "What is 1,000 + 234?", "answer": "It is <<1000+234=1234>>1,234.\\n#### 1,234"}
    >>> to_example(row).message, to_example(row).answer
    ("What is 1,000 + 234? Let's think step by step.", '1,234')

    ```
    """
    question = nonempty_text(row["question"], "question").strip()
    _, mark, answer = nonempty_text(row["answer"], "answer").rpartition(ANSWER_MARK)
    if not mark or not answer.strip():
        raise ValueError(f"answer should end with {ANSWER_MARK!r} and the number, got {row['answer']!r}.")
    return Example(
        text=f"{question}\nLet's think step by step.",
        message=f"{question} Let's think step by step.",
        answer=answer.strip(),
    )


GSM8K = Task(hub_name="openai/gsm8k", hub_config="main", columns=("question", "answer"), to_example=to_example)
