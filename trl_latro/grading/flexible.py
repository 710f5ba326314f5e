# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The answer of a completion that does not write it into the template: its last number, its last option."""

import re
from typing import Any

from .numerals import find_numerals
from .options import Options
from .quantities import read_quantity
from .writing import clean


def last_answer(completion: str, row: dict[str, Any]) -> str | None:
    """
    What the flexible accuracy takes for the answer, by the kind of the reference.

    Args:
        completion (`str`):
            Text that the model wrote after the prompt.
        row (`dict[str, Any]`):
            Row of the dataset: with `"options"` the last option counts, with a number in `"answer"` the last number, with
            a formula the last one between dollar signs or LaTeX's brackets.

    Example:
    ```python
    >>> last_answer("9 * 2 = 18, so she makes $18 a day.", {"answer": "18"})
    '$18'
    >>> last_answer("It must be (B).", {"answer": "B", "options": {"label": ["A", "B"], "text": ["wood", "iron"]}})
    'B'

    ```
    """
    if row.get("options") is not None:
        return _last_option(completion, row["options"])
    reference = row["answer"]
    if (quantity := read_quantity(reference, reference=True)) is not None and not quantity.relation:
        return _last_number(completion)
    formulas = re.findall(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", completion, re.DOTALL)
    is_formula = re.search(r"[\\^_{}=$]", reference) is not None
    return next(filter(None, formulas[-1])).strip() if formulas and is_formula else None


def _last_number(completion: str) -> str | None:
    text = clean(completion)
    numerals = find_numerals(text)
    if not numerals:
        return None
    last = numerals[-1]
    percent = re.match(r"\s?(?:%|percent\b|cents?\b|¢)", text[last.end :])
    return text[last.start : last.end + (percent.end() if percent else 0)]


def _last_option(completion: str, options: Options) -> str | None:
    text = clean(completion)
    found = []  # (end, length, label)
    for label, option in zip(options["label"], options["text"], strict=True):
        # "A magnet" is no label
        word = r"(?![)\]]?\s+[a-z])" if label in ("A", "I") else ""
        for match in re.finditer(rf"(?<![\w.,'-])[(\[]?{re.escape(label)}[)\]]?(?![\w'-]|[.,]\d){word}", text):
            found.append((match.end(), len(match[0]), label))
        whole = re.escape(clean(option).rstrip("."))
        for match in re.finditer(rf"(?<!\w){whole}(?!\w)", text, re.IGNORECASE) if whole else ():
            found.append((match.end(), len(match[0]), label))
    return max(found)[2] if found else None
