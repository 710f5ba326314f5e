# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Where a sampled rationale ends.

Sampled tokens are never decoded and encoded again: the ids trained on are the ids sampled. A rationale ends at the
first EOS token or where a stop string (by default the answer template's beginning) starts. A stop string may start in
the middle of a token; that token is dropped, and the text that it holds of the rationale (as a rule the space before
"The answer is") becomes the beginning of the answer's text, the `lead`. Where the model thinks in a block of its own, the
rationale ends with that block, see `thinking.py`.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StopStringCriteria

from .thinking import Thinking


@dataclass(frozen=True)
class Rationale:
    """
    A sampled completion up to its end, without the EOS token or stop string.

    Args:
        ids (`list[int]`):
            Sampled tokens that are kept, exactly as sampled.
        lead (`str`):
            Text between them and the answer template: the part of the truncated token before the stop string, or the
            configured separator; and what closes a block of thinking.
        finished (`bool`):
            Whether there was an EOS token or a stop string, or the end of the block of thinking if one was open. `False`:
            it ran into the length limit, or the EOS token came inside the block.
    """

    ids: list[int]
    lead: str
    finished: bool


class End(NamedTuple):
    """
    Where the rationale ends in a completion's text.

    Args:
        start (`int`, *optional*):
            Character where the stop string, or the tag that closes the block of thinking, starts; `None` if there is none.
        is_open (`bool`):
            Whether a block of thinking is open there, or at the end of the text.
    """

    start: int | None
    is_open: bool


class ContinuationDecoder:
    """
    From tokens to the text that they add after other text.

    `tokenizer.decode` gives the text of a beginning: SentencePiece-style decoders take a space off it. A rationale and
    an answer follow a prompt, so that space is theirs. With this decoder the text of a row is the sum of the texts of
    its parts, also where a part is empty.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self._before = tokenizer.encode("a", add_special_tokens=False)
        self._before_length = len(self._decode_after_text([]))

    def __call__(self, ids: list[int]) -> str:
        return self._decode_after_text(ids)[self._before_length :]

    def _decode_after_text(self, ids: list[int]) -> str:
        ids = [*self._before, *ids]
        return cast(str, self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Truncator:
    """
    Finds the end of rationales in sampled tokens.

    Of each completion it has to be known whether it begins inside a block of thinking: `is_open` below, which
    [`is_open_after`] tells of a prompt.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model that sampled.
        stop_strings (`list[str]`):
            Strings that end a rationale; may be empty.
        eos_token_ids (`list[int]`):
            Tokens that end a completion, and so its rationale.
        separator (`str`, *optional*, defaults to `" "`):
            `lead` of a rationale that reached no stop string.
        thinking ([`~trl_latro.thinking.Thinking`], *optional*):
            How the model writes its thinking, if it does.

    Attributes:
        decode ([`ContinuationDecoder`]): Text of sampled tokens.
        ends (`list[str]`): All strings that can end a rationale.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop_strings: list[str],
        eos_token_ids: list[int],
        separator: str = " ",
        thinking: Thinking | None = None,
    ):
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.eos_token_ids = eos_token_ids
        self.separator = separator
        self.thinking = thinking
        self.decode = ContinuationDecoder(tokenizer)
        self.ends = stop_strings if thinking is None else [*stop_strings, thinking.closing]

    def is_open_after(self, prompt_ids: list[int]) -> bool:
        """Whether a completion of the prompt begins inside a block of thinking."""
        return self.thinking is not None and self.thinking.is_open_after(prompt_ids, self.tokenizer)

    def find_end(self, text: str, is_open: bool = False) -> End:
        """Where the rationale ends in the text of a completion."""
        stop = self._find_stop_string(text)
        if self.thinking is None:
            return End(stop, False)
        inside = 0 if is_open else text.find(self.thinking.opening)
        if inside == -1 or (not is_open and stop is not None and stop < inside):
            return End(stop, False)
        closed = text.find(self.thinking.closing, inside)
        return End(None if closed == -1 else closed, True)

    def find_answer(self, text: str, is_open: bool = False) -> int | None:
        """
        Where the completion's own answer begins: as a rule where its rationale ends, but a model that thinks may write more
        between its block and the template.
        """
        end = self.find_end(text, is_open)
        if end.start is None or not end.is_open:
            return end.start
        behind = self.behind_thinking(text, is_open)
        stop = self._find_stop_string(behind) if self.stop_strings else 0
        return None if stop is None else len(text) - len(behind) + stop

    def behind_thinking(self, text: str, is_open: bool = False) -> str:
        """The text of a completion without its block of thinking: all of it without a block, none if that is not closed."""
        end = self.find_end(text, is_open)
        if self.thinking is None or not end.is_open:
            return text
        return "" if end.start is None else text[end.start + len(self.thinking.closing) :]

    def _find_stop_string(self, text: str) -> int | None:
        """Earliest character of `text` where a stop string starts, `None` if there is none."""
        return min((start for stop in self.stop_strings if (start := text.find(stop)) != -1), default=None)

    def has_end(self, ids: list[int], is_open: bool = False) -> bool:
        """Whether the tokens hold the end of their rationale, EOS tokens aside."""
        return self.find_end(self.decode(ids), is_open).start is not None

    def has_answer(self, ids: list[int], is_open: bool = False) -> bool:
        """Whether the tokens hold the beginning of their answer."""
        return self.find_answer(self.decode(ids), is_open) is not None

    def until_eos(self, ids: list[int]) -> list[int]:
        """The tokens before the first EOS token."""
        return ids[: next((position for position, token in enumerate(ids) if token in self.eos_token_ids), None)]

    def until_end(self, ids: list[int], is_open: bool = False) -> list[int]:
        """The tokens up to the one with which the rationale's end is complete: sampling that stops there gives these."""
        return _shortest(ids, lambda beginning: self.has_end(beginning, is_open))

    def until_answer(self, ids: list[int], is_open: bool = False) -> list[int]:
        """The tokens up to the one with which the answer's beginning is complete."""
        return _shortest(ids, lambda beginning: self.has_answer(beginning, is_open))

    def without_padding(self, ids: list[int], is_open: bool = False) -> list[int]:
        """Without the padding after the first EOS token (which stays), or after a completion with the rationale's end."""
        before_eos = self.until_eos(ids)
        if len(before_eos) < len(ids):
            return ids[: len(before_eos) + 1]
        kept = len(ids)
        while kept > 0 and ids[kept - 1] == self.tokenizer.pad_token_id:
            kept -= 1
        # A row that ran into the length limit has none: the model may have sampled that token
        return ids[:kept] if kept < len(ids) and self.has_end(ids, is_open) else ids

    def no_rationale(self, is_open: bool = False) -> Rationale:
        """A rationale without tokens: of a model that thinks, an empty block."""
        return self.given_rationale([], is_open)

    def given_rationale(self, ids: list[int], is_open: bool = False) -> Rationale:
        """A rationale that was not sampled; of a model that thinks, with tokens that close no block."""
        if self.thinking is None:
            return Rationale(ids, self.separator, finished=True)
        opening = "" if ids else self.thinking.open(is_open)
        return Rationale(ids, opening + self.thinking.close(self.decode(ids)), finished=True)

    def truncate(self, ids: list[int], is_open: bool = False) -> Rationale:
        """
        Truncate a sampled completion where its rationale ends.

        With `m` the character where its end starts, the largest `i` is taken for which `ids[:i]` decodes to a beginning of
        `text[:m]`: no token that reaches into the end is kept, nor one that ends in half a character.

        Args:
            ids (`list[int]`):
                Completion as sampled. Tokens after the first EOS token or the end (padding, which may be the EOS token) are
                dropped.
            is_open (`bool`, *optional*, defaults to `False`):
                Whether it begins inside a block of thinking.
        """
        kept_ids = self.until_eos(ids)
        text = self.decode(kept_ids)
        end = self.find_end(text, is_open)
        if end.start is None:
            if self.thinking is not None and end.is_open:
                return Rationale(kept_ids, self.thinking.close(text), finished=False)
            return Rationale(kept_ids, self.separator, finished=len(kept_ids) < len(ids))

        # Bisection over "reaches the end's first character". Not over the length of the text: half a character decodes to
        # several replacement characters in some tokenizers, so that length can fall with one more token.
        before, reached = text[: end.start], text[: end.start + 1]
        kept = bisect_left(range(len(kept_ids)), True, key=lambda i: self.decode(kept_ids[:i]).startswith(reached))
        # Back over the token that reaches it, and over those that end in half a character.
        while not before.startswith(self.decode(kept_ids[:kept])):
            kept -= 1
        lead = before[len(self.decode(kept_ids[:kept])) :]
        if self.thinking is not None and end.is_open:
            lead += self.thinking.closing + self.thinking.after_closing
        return Rationale(kept_ids[:kept], lead, finished=True)


def _shortest(ids: list[int], is_complete: Callable[[list[int]], bool]) -> list[int]:
    """The shortest beginning of the tokens that is complete, all of them where none is."""
    if not is_complete(ids) or not is_complete(ids[:-1]):  # as a rule sampling has stopped there
        return ids
    return ids[: bisect_left(range(len(ids) + 1), True, key=lambda length: is_complete(ids[:length]))]


def check_stop_strings(
    tokenizer: PreTrainedTokenizerBase, stop_strings: list[str], thinking: Thinking | None = None
) -> None:
    """
    Check that the model can write every stop string, and the tags of its thinking.

    Raises:
        `ValueError`: the tokenizer loses the stop string (it lower-cases, or has no tokens for its characters).
    """
    decode = ContinuationDecoder(tokenizer)
    for tag in () if thinking is None else (thinking.opening, thinking.closing):
        written = decode(tokenizer.encode(tag, add_special_tokens=False))
        if tag not in written:
            raise ValueError(
                f"The tag {tag!r} cannot be written with this tokenizer, which makes {written!r} of it, so no rationale would "
                "ever end there. Choose other `thinking_tags`, or an empty list for a model that does not think."
            )
    for stop in stop_strings:
        written = decode(tokenizer.encode(stop, add_special_tokens=False))
        if stop not in written:
            raise ValueError(
                f"The stop string {stop!r} cannot be written with this tokenizer, which makes {written!r} of it, so "
                "no rationale would ever end there. Choose other `rationale_stop_strings` or another "
                "`answer_template`."
            )


class RationaleStop(StoppingCriteria):
    """
    Stops `generate` for every row whose rationale has ended after its prompt.

    [`~transformers.StopStringCriteria`] looks at all rows at once but compares tokens, so each row that it reports is
    confirmed on the decoded text by the rule of [`Truncator`]. Its table over the vocabulary takes seconds to build:
    keep one `RationaleStop` and call `start` before each call of `generate`.

    Args:
        truncator ([`Truncator`]):
            Where rationales end; it has at least one string that ends them.
    """

    def __init__(self, truncator: Truncator):
        self.truncator = truncator
        self._prompt_length = 0
        self._answer_budget = 0
        self._is_open: list[bool] = []
        self._stops_at: dict[int, int] = {}  # row -> number of generated tokens at which it is done
        self._prefilter = StopStringCriteria(truncator.tokenizer, truncator.ends)

    def start(self, prompt_length: int, answer_budget: int = 0, is_open: list[bool] | None = None) -> None:
        """
        Forget the rows of the last call of `generate`.

        Args:
            prompt_length (`int`):
                Width of the prompts given to `generate`, padding included.
            answer_budget (`int`, *optional*, defaults to `0`):
                Tokens that a row goes on for after the beginning of its answer, so that there is an answer to grade. 0: it
                stops where its rationale ends.
            is_open (`list[bool]`, *optional*):
                Whether each row begins inside a block of thinking; none does if `None`.
        """
        self._prompt_length = prompt_length
        self._answer_budget = answer_budget
        self._is_open = is_open or []
        self._stops_at = {}

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the rows, in a new call of `generate`."""
        self._stops_at = {new: self._stops_at[old] for new, old in enumerate(rows) if old in self._stops_at}
        self._is_open = [self._is_open[row] for row in rows if self._is_open]

    def __call__(
        self, input_ids: torch.LongTensor, scores: tuple[torch.Tensor] | None, **kwargs: Any
    ) -> torch.BoolTensor:
        generated = input_ids[:, self._prompt_length :]  # (B, T)
        length = generated.size(1)
        is_complete = self.truncator.has_answer if self._answer_budget > 0 else self.truncator.has_end
        for row in self._prefilter(generated, scores).nonzero().flatten().tolist():
            is_open = bool(self._is_open) and self._is_open[row]
            if row not in self._stops_at and is_complete(generated[row].tolist(), is_open):
                self._stops_at[row] = length + self._answer_budget
        done = [length >= self._stops_at.get(row, length + 1) for row in range(generated.size(0))]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))
