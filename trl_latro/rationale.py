# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Where a sampled rationale ends.

Sampled tokens are never decoded and encoded again: the ids trained on are the ids sampled. A rationale ends at the
first end token or where a stop string (by default the answer template's beginning) starts. A stop string may start in
the middle of a token; that token is dropped, and what it holds of the rationale (as a rule the space before "The
answer is") becomes the beginning of the answer's text, the `lead`.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StopStringCriteria


@dataclass(frozen=True)
class Rationale:
    """
    A sampled completion up to its end, without the end token or stop string.

    Args:
        ids (`list[int]`):
            Sampled tokens that are kept, exactly as sampled.
        lead (`str`):
            Text between them and the answer template: what the cut token holds before the stop string, or the
            configured separator.
        finished (`bool`):
            Whether there was an end token or a stop string. `False`: it ran into the length limit.
    """

    ids: list[int]
    lead: str
    finished: bool


def continuation_decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """
    Function from tokens to the text that they add after other text.

    `tokenizer.decode` gives the text of a beginning: SentencePiece-style decoders take a space off it. A rationale and
    an answer follow a prompt, so that space is theirs. With this function the text of a row is the sum of the texts of
    its parts, also where a part is empty.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer.
    """
    before = tokenizer.encode("a", add_special_tokens=False)

    def decode_with_text_before(ids: list[int]) -> str:
        ids = [*before, *ids]
        return cast(str, tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    before_length = len(decode_with_text_before([]))
    return lambda ids: decode_with_text_before(ids)[before_length:]


def find_stop(text: str, stop_strings: list[str]) -> int | None:
    """Earliest character of `text` where a stop string starts, `None` if there is none."""
    return min((start for stop in stop_strings if (start := text.find(stop)) != -1), default=None)


def cut_rationale(
    sampled_ids: list[int],
    tokenizer: PreTrainedTokenizerBase,
    stop_strings: list[str],
    eos_token_ids: list[int],
    separator: str,
) -> Rationale:
    """
    Cut a sampled completion where its rationale ends.

    With `m` the character where the first stop string starts, the largest `i` is taken for which `ids[:i]` decodes to
    a beginning of `text[:m]`: no token that reaches into the stop string is kept, nor one that ends in half a
    character.

    Args:
        sampled_ids (`list[int]`):
            Completion as sampled. What follows the first end token or stop string (padding, which may be the end
            token) is dropped.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model that sampled.
        stop_strings (`list[str]`):
            Strings that end a rationale; may be empty.
        eos_token_ids (`list[int]`):
            Tokens that end a rationale.
        separator (`str`):
            `lead` of a rationale that reached no stop string.
    """
    end = next((position for position, token in enumerate(sampled_ids) if token in eos_token_ids), None)
    ids = sampled_ids[:end]
    decode = continuation_decoder(tokenizer)
    text = decode(ids)
    stop = find_stop(text, stop_strings)
    if stop is None:
        return Rationale(ids, separator, finished=end is not None)

    # Bisection over "reaches character `stop`". Not over the length of the text: half a character decodes to several
    # replacement characters in some tokenizers, so that length can fall with one more token.
    reached = text[: stop + 1]
    kept = bisect_left(range(len(ids)), True, key=lambda i: decode(ids[:i]).startswith(reached))
    # Back over the token that reaches it, and over those that end in half a character.
    while not text[:stop].startswith(decode(ids[:kept])):
        kept -= 1
    return Rationale(ids[:kept], text[len(decode(ids[:kept])) : stop], finished=True)


def until_stop(sampled_ids: list[int], tokenizer: PreTrainedTokenizerBase, stop_strings: list[str]) -> list[int]:
    """
    The tokens up to the one with which the first stop string is complete: what sampling that stops there gives.

    Args:
        sampled_ids (`list[int]`):
            Completion, which may go on after the stop string.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model that sampled.
        stop_strings (`list[str]`):
            Strings that end a rationale; may be empty.
    """
    decode = continuation_decoder(tokenizer)
    if find_stop(decode(sampled_ids), stop_strings) is None:
        return sampled_ids
    lengths = range(len(sampled_ids) + 1)
    return sampled_ids[
        : bisect_left(lengths, True, key=lambda i: find_stop(decode(sampled_ids[:i]), stop_strings) is not None)
    ]


def check_stop_strings(tokenizer: PreTrainedTokenizerBase, stop_strings: list[str]) -> None:
    """
    Check that the model can write every stop string.

    Raises:
        `ValueError`: the tokenizer loses the stop string (it lower-cases, or has no tokens for its characters).
    """
    decode = continuation_decoder(tokenizer)
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
    Stops `generate` for every row that has reached a stop string after its prompt.

    [`~transformers.StopStringCriteria`] looks at all rows at once but compares tokens, so each row that it reports is
    confirmed on the decoded text by the rule of [`cut_rationale`]. Its table over the vocabulary takes seconds to
    build: keep one `RationaleStop` and call `start` before each call of `generate`.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model.
        stop_strings (`list[str]`):
            Strings that end a rationale, at least one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_strings: list[str]):
        self.stop_strings = stop_strings
        self._prompt_length = 0
        self._answer_room = 0
        self._stops_at: dict[int, int] = {}  # row -> number of generated tokens at which it is done
        self._decode = continuation_decoder(tokenizer)
        self._prefilter = StopStringCriteria(tokenizer, stop_strings)

    def start(self, prompt_length: int, answer_room: int = 0) -> None:
        """
        Forget the rows of the last call of `generate`.

        Args:
            prompt_length (`int`):
                Width of the prompts given to `generate`, padding included.
            answer_room (`int`, *optional*, defaults to `0`):
                Tokens that a row goes on for after its stop string, so that there is an answer to grade.
        """
        self._prompt_length = prompt_length
        self._answer_room = answer_room
        self._stops_at = {}

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the rows, in a new call of `generate`."""
        self._stops_at = {new: self._stops_at[old] for new, old in enumerate(rows) if old in self._stops_at}

    def __call__(
        self, input_ids: torch.LongTensor, scores: tuple[torch.Tensor] | None, **kwargs: Any
    ) -> torch.BoolTensor:
        generated = input_ids[:, self._prompt_length :]  # (B, T)
        length = generated.size(1)
        for row in self._prefilter(generated, scores).nonzero().flatten().tolist():
            if (
                row not in self._stops_at
                and find_stop(self._decode(generated[row].tolist()), self.stop_strings) is not None
            ):
                self._stops_at[row] = length + self._answer_room
        done = [length >= self._stops_at.get(row, length + 1) for row in range(generated.size(0))]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))
