# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Where a sampled rationale ends.

Sampled tokens are never decoded and encoded again: the ids trained on are the ids sampled. A rationale ends at the
first EOS token or where a stop string (by default the answer template's beginning) starts. A stop string may start in
the middle of a token; that token is dropped, and the text that it holds of the rationale (as a rule the space before
"The answer is") becomes the beginning of the answer's text, the `lead`.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StopStringCriteria


@dataclass(frozen=True)
class Rationale:
    """
    A sampled completion up to its end, without the EOS token or stop string.

    Args:
        ids (`list[int]`):
            Sampled tokens that are kept, exactly as sampled.
        lead (`str`):
            Text between them and the answer template: the part of the truncated token before the stop string, or the
            configured separator.
        finished (`bool`):
            Whether there was an EOS token or a stop string. `False`: it ran into the length limit.
    """

    ids: list[int]
    lead: str
    finished: bool


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

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model that sampled.
        stop_strings (`list[str]`):
            Strings that end a rationale; may be empty.
        eos_token_ids (`list[int]`):
            Tokens that end a completion, and so its rationale.
        separator (`str`, *optional*, defaults to `" "`):
            `lead` of a rationale that reached no stop string.

    Attributes:
        decode ([`ContinuationDecoder`]): Text of sampled tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop_strings: list[str],
        eos_token_ids: list[int],
        separator: str = " ",
    ):
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.eos_token_ids = eos_token_ids
        self.separator = separator
        self.decode = ContinuationDecoder(tokenizer)

    def find_stop(self, text: str) -> int | None:
        """Earliest character of `text` where a stop string starts, `None` if there is none."""
        return min((start for stop in self.stop_strings if (start := text.find(stop)) != -1), default=None)

    def has_stop(self, ids: list[int]) -> bool:
        """Whether the tokens hold a stop string."""
        return self.find_stop(self.decode(ids)) is not None

    def until_eos(self, ids: list[int]) -> list[int]:
        """The tokens before the first EOS token."""
        return ids[: next((position for position, token in enumerate(ids) if token in self.eos_token_ids), None)]

    def until_stop(self, ids: list[int]) -> list[int]:
        """The tokens up to the one with which the first stop string is complete: sampling that stops there gives these."""
        if not self.has_stop(ids) or not self.has_stop(ids[:-1]):  # as a rule sampling has stopped there
            return ids
        return ids[: bisect_left(range(len(ids) + 1), True, key=lambda length: self.has_stop(ids[:length]))]

    def without_padding(self, ids: list[int]) -> list[int]:
        """Without the padding after the first EOS token (which stays), or after a completion with a stop string."""
        before_eos = self.until_eos(ids)
        if len(before_eos) < len(ids):
            return ids[: len(before_eos) + 1]
        kept = len(ids)
        while kept > 0 and ids[kept - 1] == self.tokenizer.pad_token_id:
            kept -= 1
        # A row that ran into the length limit has none: the model may have sampled that token
        return ids[:kept] if kept < len(ids) and self.has_stop(ids) else ids

    def truncate(self, ids: list[int]) -> Rationale:
        """
        Truncate a sampled completion where its rationale ends.

        With `m` the character where the first stop string starts, the largest `i` is taken for which `ids[:i]` decodes
        to a beginning of `text[:m]`: no token that reaches into the stop string is kept, nor one that ends in half a
        character.

        Args:
            ids (`list[int]`):
                Completion as sampled. Tokens after the first EOS token or stop string (padding, which may be the EOS
                token) are dropped.
        """
        kept_ids = self.until_eos(ids)
        text = self.decode(kept_ids)
        stop = self.find_stop(text)
        if stop is None:
            return Rationale(kept_ids, self.separator, finished=len(kept_ids) < len(ids))

        # Bisection over "reaches character `stop`". Not over the length of the text: half a character decodes to several
        # replacement characters in some tokenizers, so that length can fall with one more token.
        reached = text[: stop + 1]
        kept = bisect_left(range(len(kept_ids)), True, key=lambda i: self.decode(kept_ids[:i]).startswith(reached))
        # Back over the token that reaches it, and over those that end in half a character.
        while not text[:stop].startswith(self.decode(kept_ids[:kept])):
            kept -= 1
        return Rationale(kept_ids[:kept], text[len(self.decode(kept_ids[:kept])) : stop], finished=True)


def check_stop_strings(tokenizer: PreTrainedTokenizerBase, stop_strings: list[str]) -> None:
    """
    Check that the model can write every stop string.

    Raises:
        `ValueError`: the tokenizer loses the stop string (it lower-cases, or has no tokens for its characters).
    """
    decode = ContinuationDecoder(tokenizer)
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
    confirmed on the decoded text by the rule of [`Truncator`]. Its table over the vocabulary takes seconds to build:
    keep one `RationaleStop` and call `start` before each call of `generate`.

    Args:
        truncator ([`Truncator`]):
            Where rationales end; it has at least one stop string.
    """

    def __init__(self, truncator: Truncator):
        self.truncator = truncator
        self._prompt_length = 0
        self._answer_budget = 0
        self._stops_at: dict[int, int] = {}  # row -> number of generated tokens at which it is done
        self._prefilter = StopStringCriteria(truncator.tokenizer, truncator.stop_strings)

    def start(self, prompt_length: int, answer_budget: int = 0) -> None:
        """
        Forget the rows of the last call of `generate`.

        Args:
            prompt_length (`int`):
                Width of the prompts given to `generate`, padding included.
            answer_budget (`int`, *optional*, defaults to `0`):
                Tokens that a row goes on for after its stop string, so that there is an answer to grade.
        """
        self._prompt_length = prompt_length
        self._answer_budget = answer_budget
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
            if row not in self._stops_at and self.truncator.has_stop(generated[row].tolist()):
                self._stops_at[row] = length + self._answer_budget
        done = [length >= self._stops_at.get(row, length + 1) for row in range(generated.size(0))]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))
