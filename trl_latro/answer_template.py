# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""How an answer is written after a rationale, and how it is read back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


_FIELD = "{answer}"
# A completion is graded on what follows the template: the model may write its answer in a longer form than the reference
_EXTRA_TOKENS = 16


@dataclass(frozen=True)
class AnswerTemplate:
    """
    The text that is scored after a rationale, with a field for the answer.

    Args:
        text (`str`, *optional*, defaults to `"The answer is {answer}."`):
            Template. `{answer}` stands for the row's answer; every other character, braces too, stands for itself.

    Raises:
        `ValueError`: a template without `{answer}`.

    Example:
    ```python
    >>> template = AnswerTemplate("The answer is {answer}.")
    >>> template.fill("7")
    'The answer is 7.'
    >>> template.stop_strings
    ['The answer is']
    >>> template.extract("The answer is not 5. The answer is 7.", reference="7")
    '7'

    ```
    """

    text: str = f"The answer is {_FIELD}."

    def __post_init__(self) -> None:
        if _FIELD not in self.text:
            raise ValueError(
                f"`answer_template` is {self.text!r} and has no `{_FIELD}`. Put `{_FIELD}` where the row's answer stands, "
                f"as in 'The answer is {_FIELD}.'."
            )

    def fill(self, answer: str) -> str:
        """The text with an answer in its field (in every field, where there are several)."""
        return self.text.replace("{answer}", answer)

    def span(self, answer: str) -> tuple[int, int]:
        """Where the answer's own characters are in [`fill`]: `fill(answer)[start:end] == answer`."""
        start = self.text.index(_FIELD)
        return start, start + len(answer)

    @property
    def stop_strings(self) -> list[str]:
        """Where a rationale ends: the text before the answer, without trailing white space; none if there is no text."""
        before = self.text.partition(_FIELD)[0].rstrip()
        return [before] if before else []

    def token_budget(self, tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> int:
        """Tokens in which a completion gives its answer: those of the longest reference in the template, and 16 more."""
        texts = [self.fill(answer) for answer in answers]
        return max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) + _EXTRA_TOKENS

    def extract(self, completion: str, reference: str) -> str | None:
        """
        The text that stands for `{answer}`, at the first position where the template's beginning stands and no "not"
        follows.

        The first position, because there the rationale ends in training, and because a base model may go on with
        questions of its own. The answer ends where the template's end stands (a full stop inside a word or number is
        none), at the latest at the end of the line; after an opening brace, as in `\\boxed{{answer}}`, at the closing one.

        Args:
            completion (`str`):
                Text that the model wrote after the prompt.
            reference (`str`):
                The reference answer. An answer may have as many full stops inside as it has ("U. S. Grant").

        Returns:
            `str | None`: the answer, `None` if there is none.
        """
        before, _, after = self.text.partition(_FIELD)
        head, tail = before.rstrip(), after.strip().partition("\n")[0]
        # "So the answer is 5." is an answer too. A template without beginning stands where the completion starts.
        start = re.compile(r"\s+".join(map(re.escape, head.split())), re.IGNORECASE)
        for match in start.finditer(completion) if head else start.finditer(completion, 0, 0):
            rest = completion[match.end() :]
            if head.endswith("{"):
                inside = _inside_braces(rest)
                rest = rest if inside is None else inside
            else:
                rest = rest.lstrip(" \t:").partition("\n")[0]
                rest = _until_tail(rest, tail, skipped=_count_tails(reference, tail))
            rest = rest.strip()
            if rest and not re.match(r"not\b", rest, re.IGNORECASE):
                return rest
        return None


def _inside_braces(text: str) -> str | None:
    """Text up to the brace that closes the one in front of it; `None` if none does."""
    depth = 1
    for position, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:position]
    return None


def _tail_pattern(tail: str) -> re.Pattern[str]:
    return re.compile(re.escape(tail) + r"(?=\s|$)")


def _count_tails(reference: str, tail: str) -> int:
    return len(_tail_pattern(tail).findall(reference.rstrip(tail))) if tail else 0


def _until_tail(text: str, tail: str, skipped: int) -> str:
    if not tail:
        return text
    ends = [match.start() for match in _tail_pattern(tail).finditer(text)]
    return text[: ends[skipped]] if len(ends) > skipped else text
