# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Rows `[prompt | rationale | answer | padding]`.

The three parts are contiguous, so that one causal forward gives the log-probs of the rationale and of the answer, and
every model numbers their positions right. Masks are made from lengths, never from `ids != pad`: the padding token may
be an EOS token, and then stands in the row as a token too.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .answer_template import AnswerTemplate, list_answers
from .several_answers import fold_answers
from .truncation import ContinuationDecoder, Rationale


# Texts put before an answer to encode it as a continuation. A line break merges with no word; but some tokenizers drop
# it, or know a continuation only inside a word.
_ANCHORS = ("\n", "a")


def encode_answer(
    rationale_ids: list[int], answer_text: str, decode: ContinuationDecoder, end_of_turn_id: int
) -> list[int]:
    """
    Tokens of the answer after a rationale: its text, tokenised in one go, and the end of the turn.

    The row's text is that of the rationale followed by `answer_text`, exactly, where the tokenizer can write it. Many
    tokenizers put a space before a text that they encode, which in the middle of a row would be one too many; then the
    text is encoded behind another one, whose tokens are taken off again. An empty rationale is no special case: the
    prompt stands before the answer, so that, say, " The" is the token of a following word, and "The" is not.

    Args:
        rationale_ids (`list[int]`):
            Tokens of the rationale, may be empty.
        answer_text (`str`):
            Lead of the rationale and the answer template with the answer.
        decode ([`~trl_latro.truncation.ContinuationDecoder`]):
            Text of the model's tokens; its tokenizer encodes the answer.
        end_of_turn_id (`int`):
            Last token of the answer.
    """
    tokenizer = decode.tokenizer
    row_text = decode(rationale_ids) + answer_text

    def is_exact(ids: list[int]) -> bool:
        return decode([*rationale_ids, *ids]) == row_text

    plain = tokenizer.encode(answer_text, add_special_tokens=False)
    if is_exact(plain):
        return [*plain, end_of_turn_id]
    continuations = list(_continuations(answer_text, tokenizer))
    # No encoding is exact where the tokenizer loses white space, case or characters.
    best = next(filter(is_exact, continuations), next(iter(continuations), plain))
    return [*best, end_of_turn_id]


def _continuations(text: str, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Encodings of a text that stands behind another one."""
    for anchor in _ANCHORS:
        anchor_ids = tokenizer.encode(anchor, add_special_tokens=False)
        ids = tokenizer.encode(anchor + text, add_special_tokens=False)
        if ids[: len(anchor_ids)] == anchor_ids:
            yield ids[len(anchor_ids) :]


def count_template_tokens(answer_ids: list[int], own_text: str, decode: ContinuationDecoder) -> int:
    """
    Tokens before the answer itself: the template's, and those of the lead. A token that covers both is the answer's, and so are all tokens of
    the answer's first character.

    Args:
        answer_ids (`list[int]`):
            Tokens of [`encode_answer`], which end with the end of the turn.
        own_text (`str`):
            The answer itself and what follows.
        decode ([`~trl_latro.truncation.ContinuationDecoder`]):
            Text of the model's tokens.

    Returns:
        `int`: the largest `i` for which `answer_ids[i:]` still hold all of `own_text`. 0 where the tokenizer loses some
        of it: then no token is known to be the template's alone.
    """
    text_ids = answer_ids[:-1]
    # From the front: the template is short, the answer may be a paragraph
    holding = takewhile(lambda i: decode(text_ids[i:]).endswith(own_text), range(1, len(text_ids) + 1))
    return max(holding, default=0)


class EncodedAnswer(NamedTuple):
    """
    A right answer as it is scored.

    Args:
        ids (`list[int]`): Its tokens in the template, with the end of the turn unless it is truncated.
        template_length (`int`): How many of them come before the answer itself.
    """

    ids: list[int]
    template_length: int


def encode_answers(
    rationales: list[Rationale],
    answers: Sequence[str | list[str]],
    template: AnswerTemplate,
    decode: ContinuationDecoder,
    end_of_turn_id: int,
    max_length: int | None = None,
) -> list[list[EncodedAnswer]]:
    """
    Tokens of the right answers after their rationales, in the template.

    An answer counts once, however often a list has it. So does a truncated one that is the beginning of others, whose
    probability is part of its own.

    Args:
        rationales (`list[Rationale]`):
            Truncated rationales.
        answers (`Sequence[str | list[str]]`):
            Right answers of each, one or several.
        template ([`~trl_latro.answer_template.AnswerTemplate`]):
            How they are written.
        decode ([`~trl_latro.truncation.ContinuationDecoder`]):
            Text of the model's tokens.
        end_of_turn_id (`int`):
            Last token of each.
        max_length (`int`, *optional*):
            Tokens that an answer has behind the template's at most; what follows is left out.
    """

    def encode(rationale: Rationale, answer: str) -> EncodedAnswer:
        text = template.fill(answer)
        ids = encode_answer(rationale.ids, rationale.lead + text, decode, end_of_turn_id)
        start, _ = template.span(answer)
        template_length = count_template_tokens(ids, text[start:], decode)
        return EncodedAnswer(ids if max_length is None else ids[: template_length + max_length], template_length)

    return [
        _distinct([encode(rationale, answer) for answer in list_answers(of_row)])
        for rationale, of_row in zip(rationales, answers, strict=True)
    ]


def _distinct(answers: list[EncodedAnswer]) -> list[EncodedAnswer]:
    """Without those that begin with all tokens of another; of equal ones the first stays."""
    return [
        one
        for position, one in enumerate(answers)
        if not any(
            one.ids[: len(other.ids)] == other.ids and (len(other.ids) < len(one.ids) or earlier < position)
            for earlier, other in enumerate(answers)
        )
    ]


def pack_samples(
    prompt_ids: list[list[int]],
    rationale_ids: list[list[int]],
    answers: list[list[EncodedAnswer]],
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
    sampling_logps: Sequence[Sequence[float | None]] | None = None,
) -> dict[str, Tensor]:
    """
    Pack samples with their right answers, each into one row (see [`~trl_latro.several_answers`]).

    Args:
        answers (`list[list[EncodedAnswer]]`):
            Right answers of each sample, at least one; one without tokens where answers are not scored.

    The others are those of [`pack_rows`].

    Returns:
        `dict[str, Tensor]`: what [`pack_rows`] returns, and `answer_index`, the number of the answer that a column belongs
        to, `(B, L)` each.
    """
    numbers = [len(of_sample) for of_sample in answers]

    def for_each_answer(of_samples: Sequence[Any]) -> list[Any]:
        return [one for one, number in zip(of_samples, numbers, strict=True) for _ in range(number)]

    flat = [one for of_sample in answers for one in of_sample]
    rows = pack_rows(
        for_each_answer(prompt_ids),
        for_each_answer(rationale_ids),
        [one.ids for one in flat],
        pad_token_id,
        pad_to_multiple_of,
        [one.template_length for one in flat],
        None if sampling_logps is None else for_each_answer(sampling_logps),
    )
    return fold_answers(rows, numbers)


def pack_rows(
    prompt_ids: list[list[int]],
    rationale_ids: list[list[int]],
    answer_ids: list[list[int]],
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
    template_lengths: list[int] | None = None,
    sampling_logps: Sequence[Sequence[float | None]] | None = None,
) -> dict[str, Tensor]:
    """
    Pack prompts, rationales and answers into rows, padded once on the right.

    Args:
        prompt_ids (`list[list[int]]`):
            Tokens of each row's prompt.
        rationale_ids (`list[list[int]]`):
            Tokens of each row's rationale; a rationale may be empty.
        answer_ids (`list[list[int]]`):
            Tokens of each row's answer.
        pad_token_id (`int`):
            Padding token.
        pad_to_multiple_of (`int`, *optional*):
            Round the width up to a multiple of this.
        template_lengths (`list[int]`, *optional*):
            Tokens of the template before each row's answer itself, the first of `answer_ids`; none if `None`.
        sampling_logps (`Sequence[Sequence[float | None]]`, *optional*):
            The engine's log-probs of each row's rationale, and of what followed it; TRL has `None` for a NaN of vLLM's.

    Returns:
        `dict[str, Tensor]`: `input_ids`, `attention_mask`, `rationale_mask`, `answer_mask` and `own_mask`, long,
        `(B, L)`. The masks are 1 on the columns of all tokens, of the rationale's, of the answer's in its template, and of
        the answer's own and what follows. With `sampling_logps` these too, float, 0 on other columns.
    """
    rows = list(zip(prompt_ids, rationale_ids, answer_ids, template_lengths or [0] * len(prompt_ids), strict=True))
    longest = max(len(prompt) + len(rationale) + len(answer) for prompt, rationale, answer, _ in rows)
    width = _round_up(longest, pad_to_multiple_of)
    input_ids = torch.full((len(rows), width), pad_token_id)  # (B, L)
    attention_mask = torch.zeros_like(input_ids)
    rationale_mask = torch.zeros_like(input_ids)
    answer_mask = torch.zeros_like(input_ids)
    own_mask = torch.zeros_like(input_ids)
    for index, (prompt, rationale, answer, template_length) in enumerate(rows):
        answer_start = len(prompt) + len(rationale)
        end = answer_start + len(answer)
        input_ids[index, :end] = torch.tensor([*prompt, *rationale, *answer])
        attention_mask[index, :end] = 1
        rationale_mask[index, len(prompt) : answer_start] = 1
        answer_mask[index, answer_start:end] = 1
        own_mask[index, answer_start + template_length : end] = 1
    batch = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "rationale_mask": rationale_mask,
        "answer_mask": answer_mask,
        "own_mask": own_mask,
    }
    if sampling_logps is not None:
        flat = [
            math.nan if logp is None else logp
            for logps, rationale in zip(sampling_logps, rationale_ids, strict=True)
            for logp in logps[: len(rationale)]
        ]
        batch["sampling_logps"] = torch.zeros(input_ids.shape).masked_scatter(
            rationale_mask.bool(), torch.tensor(flat)
        )
    return batch


def trim_padding(batch: dict[str, Tensor], pad_to_multiple_of: int | None = None) -> dict[str, Tensor]:
    """
    Trim the columns that are padding in every row: a micro-batch may be narrower than the batch that it comes from.

    Args:
        batch (`dict[str, Tensor]`):
            `attention_mask` and other tensors of [`pack_rows`], or rows of them. Those of shape `(B, L)` are trimmed,
            those of other shapes are passed on.
        pad_to_multiple_of (`int`, *optional*):
            Round the width up to a multiple of this.
    """
    width = _round_up(int(batch["attention_mask"].sum(1).max()), pad_to_multiple_of)
    return {name: tensor[:, :width] if tensor.dim() == 2 else tensor for name, tensor in batch.items()}


def split_rows(
    batch: dict[str, Tensor], size: int, by_length: bool, multiple: int | None = None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """
    Split a batch into forwards.

    Args:
        batch (`dict[str, torch.Tensor]`):
            `attention_mask` and other tensors of [`pack_rows`], `(B, L)`.
        size (`int`):
            Rows of a forward, at most.
        by_length (`bool`):
            Whether to put rows of similar lengths together, or to keep their order.
        multiple (`int`, *optional*):
            Round the width of a forward up to a multiple of this.

    Yields:
        `tuple[torch.Tensor, dict[str, torch.Tensor]]`: positions of the rows in the batch, and the rows without the
        columns that are padding in all of them.
    """
    lengths = batch["attention_mask"].sum(1)  # (B,)
    order = lengths.argsort() if by_length else torch.arange(len(lengths), device=lengths.device)
    for rows in order.split(size):
        yield rows, trim_padding({name: tensor[rows] for name, tensor in batch.items()}, multiple)


def _round_up(width: int, multiple: int | None) -> int:
    return width if multiple is None else -(-width // multiple) * multiple
