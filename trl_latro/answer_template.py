# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""How an answer is written after a rationale, and how it is read back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


_FIELD = "{answer}"
# A completion is graded on what follows the template: the model may write its answer in a longer form than the reference
_EXTRA_TOKENS = 16


def list_answers(answer: str | list[str]) -> list[str]:
    """The right answers of a row, whose `answer` is one or a list of them."""
    return [answer] if isinstance(answer, str) else answer


@dataclass(frozen=True)
class AnswerTemplate:
    """
    The text that is scored after a rationale, with a field for the answer.

    Args:
        text (`str`, *optional*, defaults to `"The answer is {answer}."`):
            Template. `{answer}` stands for the row's answer; every other character, braces too, stands for itself.
        separator (`str`, *optional*, defaults to `" "`):
            Text between a rationale and the template, where the rationale did not reach the template's beginning.
        rationale_stop_strings (`tuple[str, ...]`, *optional*):
            Where a rationale ends, if not at the template's beginning.

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
    separator: str = " "
    rationale_stop_strings: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if _FIELD not in self.text:
            raise ValueError(
                f"`answer_template` is {self.text!r} and has no `{_FIELD}`. Put `{_FIELD}` where the row's answer stands, "
                f"as in 'The answer is {_FIELD}.'."
            )

    def fill(self, answer: str) -> str:
        """
        The text with an answer in its field (in every field, where there are several). White space at the answer's ends is
        no part of it.
        """
        return self.text.replace("{answer}", answer.strip())

    def span(self, answer: str) -> tuple[int, int]:
        """Where the answer's own characters are in [`fill`]: `fill(answer)[start:end] == answer.strip()`."""
        start = self.text.index(_FIELD)
        return start, start + len(answer.strip())

    @property
    def stop_strings(self) -> list[str]:
        """
        Where a rationale ends, unless said otherwise: the text before the answer, without trailing white space; none if
        there is no text.
        """
        if self.rationale_stop_strings is not None:
            return list(self.rationale_stop_strings)
        before = self.text.partition(_FIELD)[0].rstrip()
        return [before] if before else []

    def lengths(
        self, tokenizer: PreTrainedTokenizerBase, answers: Sequence[str | list[str]], lead: str = ""
    ) -> list[int]:
        """Tokens of each row's longest answer in the template, behind `lead`."""
        texts = [lead + self.fill(answer) for of_row in answers for answer in list_answers(of_row)]
        lengths = map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
        return [max(next(lengths) for _ in list_answers(of_row)) for of_row in answers]

    def token_budget(self, tokenizer: PreTrainedTokenizerBase, answers: Sequence[str | list[str]]) -> int:
        """Tokens in which a completion gives its answer: those of the longest reference in the template, and 16 more."""
        return max(self.lengths(tokenizer, answers)) + _EXTRA_TOKENS

    def extract(self, completion: str, reference: str) -> str | None:
        """
        The text that stands for `{answer}`, at the first position where the template's beginning stands and no denial
        around it.

        The first position, because there the rationale ends in training, and because a base model may go on with
        questions of its own. The answer stands in the first line with text. It ends where the template's end stands (a
        full stop inside a word or number is none), at the latest at the end of that line; after an opening brace, as in
        `\\boxed{{answer}}`, at the closing one. Of "not 5, it is 7" it is the 7.

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
        start = _head_pattern(head)
        for match in start.finditer(completion) if head else start.finditer(completion, 0, 0):
            rest = completion[match.end() :]
            if match[0].endswith("{"):
                inside = _inside_braces(rest)
                rest = rest.strip(" \t:").partition("\n")[0] if inside is None else inside
            elif head.endswith("{"):
                rest = _unbraced(rest)
            else:
                if _DENIED_BEFORE.search(completion[: match.start()]):
                    continue
                rest = _first_line(rest)
                if head and start.search(rest):
                    continue  # "The answer is" once more: what follows there counts
                if not _same_text(rest, reference, tail):
                    rest = _corrected(rest)
                rest = _until_tail(rest, tail, skipped=_count_tails(reference, tail))
            rest = rest.strip()
            if rest and (_same_text(rest, reference, tail) or not _DENIED.match(rest)):
                return rest
        return None


_DENIED = re.compile(
    r"(?:(?:definitely|certainly|clearly|obviously|simply|just|actually|probably|surely|most)\s+)*"
    r"(?:(?:is|was|are|will|would|could|can|should|must|does|did|has)\s+not\b|cannot\b|(?:is|was|are|wo|would|could|ca|can"
    r"|should|must|does|did)n?['\N{RIGHT SINGLE QUOTATION MARK}]t\b|not\b|no longer\b|nowhere near\b|anything but\b"
    r"|unlikely\b|never\s+\S|neither\s.*\bnor\b|other than\b|different from\b|nothing like\b)",
    re.IGNORECASE,
)
# "not 5, it is 7", "not 5 but 7", "not 5. It is 7"
_CORRECTION = re.compile(
    r"(?:[,;:.\N{EN DASH}\N{EM DASH}]|\s-)?\s+(?:(?:but|and|rather|instead|it\s+is|it['\N{RIGHT SINGLE QUOTATION MARK}]s|it\s+(?:should|must)\s+be"
    r"|it\s+equals|the\s+(?:right|correct|true)\s+(?:answer|one|number|value)\s+is)[,:]?\s+)+"
    r"(?:(?:rather|instead|actually|simply)\s+)*",
    re.IGNORECASE,
)
# "I do not think that the answer is 5", "if the answer is 5": nobody says that it is
_DENIED_BEFORE = re.compile(
    r"(?:(?:\bnot|n['\N{RIGHT SINGLE QUOTATION MARK}]t|\bnever|\bcannot|\bhardly)\s+(?:really\s+|necessarily\s+|yet\s+)?(?:think|believe|say"
    r"|mean|claim|conclude|true|certain|sure|clear|know|tell|the\s+case|possible|correct|right)"
    r"|\b(?:doubt|if|whether|unless|suppose|supposing|assume|assuming|wrong|false|incorrect|impossible|untrue))"
    r"(?:\s+(?:that|if|whether|to\s+(?:say|think|assume)(?:\s+that)?))*\s*$",
    re.IGNORECASE,
)
# Lines that only open a formula or a block of code
_OPENING_LINE = re.compile(r"\s*(?:\$\$|\\\[|\\begin\{\w+\*?\}|```\w*|\*\*|[:>])\s*")
# Full stops that end no sentence
_ABBREVIATION = re.compile(
    r"(?<!\w)(?:Rs|approx|ca|Mr|Mrs|Ms|Dr|St|vs|i\.e|e\.g|[ap]\.m|US|U\.S)$|(?<!\w)No$(?=\. ?\d)", re.IGNORECASE
)


def _head_pattern(head: str) -> re.Pattern[str]:
    r"""
    The template's beginning, with any white space and case: "So the answer is 5." is an answer too.

    No letter may stand beside its own ("isn't"). A box may be written `\fbox{5}` or `\boxed 5`. A template without
    beginning stands where the completion starts.
    """
    if head.endswith("\\boxed{"):
        words = r"\s+".join(map(re.escape, head[: -len("\\boxed{")].split()))
        return re.compile(words + r"\s*\\(?:boxed|fbox)(?:\s*\{|(?![A-Za-z{])\s*(?=[^\s{}$]))", re.IGNORECASE)
    pattern = r"\s+".join(map(re.escape, head.split()))
    if re.match(r"[A-Za-z]", head):
        pattern = r"(?<![A-Za-z])" + pattern
    if re.search(r"[A-Za-z]$", head):
        pattern += r"(?![A-Za-z]|\s?n?['\N{RIGHT SINGLE QUOTATION MARK}]t\b)"
    return re.compile(pattern, re.IGNORECASE)


def _first_line(text: str) -> str:
    """The first line with text: the answer may stand below "The answer is:", in a block too."""
    for line in text.split("\n"):
        line = re.sub(r"^\s*(?:\.{2,}|\N{HORIZONTAL ELLIPSIS})\s+", "", line)
        line = re.sub(r"^[\s:\N{FULLWIDTH COLON},]*(?:\*\*|__)?(?=\s|:|$)[\s:]*|^[\s:\N{FULLWIDTH COLON}]+", "", line)
        if line.strip() and not _OPENING_LINE.fullmatch(line):
            return line
    return ""


def _same_text(text: str, reference: str, tail: str) -> bool:
    """Whether a reference that looks like a denial ("not enough information") is the answer."""
    return text.strip().rstrip(tail).casefold() == reference.strip().rstrip(tail).casefold()


def _corrected(text: str) -> str:
    """What a denial puts right."""
    while denied := _DENIED.match(text):
        correction = _CORRECTION.search(text, denied.end())
        if correction is None or correction.start() == denied.end():
            return text
        text = text[correction.end() :]
    return text


def _unbraced(text: str) -> str:
    r"""What `\boxed` encloses without a brace: up to a space, a dollar sign or the end of a sentence."""
    end = 0
    if command := re.match(r"\\[A-Za-z]+", text):
        end = command.end()
        while (brace := re.compile(r"\s*\{").match(text, end)) and (
            inside := _inside_braces(text[brace.end() :])
        ) is not None:
            end = brace.end() + len(inside) + 1
    if end == 0 or not text[:end].endswith("}"):
        end = re.match(r"\S*", text).end()  # type: ignore[union-attr]  # matches the empty text too
    return re.sub(r"[.,;:!?)]+$", "", text[:end].partition("$")[0])


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
    if tail.startswith("."):
        ends = [end for end in ends if not _ABBREVIATION.search(text, 0, end) or not text[end + 1 :].strip()]
    return text[: ends[skipped]] if len(ends) > skipped else text
