# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""ARC-Challenge (https://huggingface.co/papers/1803.05457): science questions, the answer is an option's label."""

from typing import Any

from ..grading import grade_option
from .sources import HubSource
from .task import Example, Task, nonempty_text


INSTRUCTION = "Let's think step by step, then end with 'The answer is' and the label of the right option."


def to_example(row: dict[str, Any]) -> Example:
    """
    Make a prompt and an answer of a row of ARC-Challenge.

    Options stand with their labels (letters or digits, as in the data) and the answer is the label. (The released code
    of LaTRO lists the texts alone and scores the text of the right option.)

    Example:
    ```python
    >>> row = {"question": "What is wet?", "choices": {"text": ["water", "sand"], "label": ["A", "B"]}, "answerKey": "A"}
    >>> print(to_example(row).text)
    Question: What is wet?
    Options:
    A. water
    B. sand
    Answer: Let's think step by step.

    ```
    """
    question = nonempty_text(row["question"], "question").strip()
    choices = row["choices"]
    if not isinstance(choices, dict) or not {"text", "label"} <= choices.keys():
        raise ValueError(f"choices should hold lists named 'text' and 'label', got {choices!r}.")
    texts, labels, answer = choices["text"], choices["label"], row["answerKey"]
    for name, options in (("text", texts), ("label", labels)):
        if not isinstance(options, list) or not options:
            raise ValueError(f"choices should hold a list {name!r} with texts, got {options!r}.")
        for option in options:
            nonempty_text(option, f"an option's {name}")
    if len(texts) != len(labels):
        raise ValueError(f"choices has {len(texts)} texts but {len(labels)} labels.")
    if answer not in labels:
        raise ValueError(f"answerKey is {answer!r}, which is not one of the labels {labels}.")
    options = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=True))
    body = f"Question: {question}\nOptions:\n{options}"
    return Example(
        text=f"{body}\nAnswer: Let's think step by step.",
        message=f"{body}\n{INSTRUCTION}",
        answer=answer,
        options={"label": list(labels), "text": list(texts)},
    )


ARC_CHALLENGE = Task(
    source=HubSource("allenai/ai2_arc", "ARC-Challenge"),
    columns=("question", "choices", "answerKey"),
    to_example=to_example,
    grader=grade_option,
    split_sizes={"train": 1119, "validation": 299},
)
