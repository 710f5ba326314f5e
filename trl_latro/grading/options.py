# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""An answer that is an option of multiple choice: its label, its text, or both."""

import re

from .writing import plain


Options = dict[str, list[str]]

_LEAD = re.compile(
    r"^(?:(?:the|is|it|it's|that|correct|right|best|final|probably|likely|definitely|most|clearly|simply|i think|would be"
    r"|must be|either way)\s+)*(?:(?:option|choice|answer|letter|label)s?\b\s*(?:is\s+)?[:#]?\s*)?(?:is\s+)?"
)
# What may stand behind an option. A second option behind "or", "and" or a comma is not among it.
_END = (
    r"(?:\s*[.!]?$"
    r"|\s*[,;:.(–—-]*\s*\b(?:because|since|as|due to|given that|considering|which|instead of|rather than)\b.*"
    r"|\s*[,;(–—-]+\s*(?:and |but )?not\b.*"
    r"|\s+(?:is|would be|must be|seems)\s+(?:the\s+|most\s+)*(?:correct|right|best|true|answer|likely)\b(?: (?:answer|one|option|choice))?\.?$)"
)


def read_option(text: str, options: Options) -> str | None:
    """
    The label of the option that an answer names; `None` where it names none, or more than one.

    Args:
        text (`str`):
            What stands for the answer.
        options (`dict[str, list[str]]`):
            The lists `"label"` and `"text"`.

    Example:
    ```python
    >>> options = {"label": ["A", "B"], "text": ["iron ore", "iron"]}
    >>> [read_option(text, options) for text in ("(b)", "$\\boxed{B}$", "iron, because it rusts", "A or B")]
    ['B', 'B', 'B', None]

    ```
    """
    given = plain(text)
    forms = {given, given.strip("()[] "), _LEAD.sub("", given, count=1)}
    pairs = [
        (label, plain(label), plain(option)) for label, option in zip(options["label"], options["text"], strict=True)
    ]
    for matches in (_is_label, _is_text, _begins_with_label, _begins_with_text):
        found = [label for label, short, long in pairs if any(matches(form, short, long) for form in forms)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _is_label(given: str, short: str, long: str) -> bool:
    return re.fullmatch(rf"[(\[]?{re.escape(short)}[)\].:]*", given) is not None


def _is_text(given: str, short: str, long: str) -> bool:
    return given == long


def _begins_with_label(given: str, short: str, long: str) -> bool:
    label, option = rf"[(\[]?{re.escape(short)}[)\].:]*", re.escape(long)
    return re.match(rf"{label}(?:[\s,]*[-–—:=]?\s*[(\"']?{option}[)\"']?)?{_END}", given) is not None


def _begins_with_text(given: str, short: str, long: str) -> bool:
    return re.match(rf"{re.escape(long)}(?:,?\s*[(\[]?{re.escape(short)}[)\]])?{_END}", given) is not None
