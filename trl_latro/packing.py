# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Rows `[prompt | rationale | answer | padding]`.

The three parts are contiguous, so that one causal forward gives the log-probs of the rationale and of the answer, and
every model numbers their positions right. Masks are made from lengths, never from `ids != pad`: the padding token may
be an EOS token, and then stands in the row as a token too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .truncation import ContinuationDecoder


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


def pack_rows(
    prompt_ids: list[list[int]],
    rationale_ids: list[list[int]],
    answer_ids: list[list[int]],
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
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

    Returns:
        `dict[str, Tensor]`: `input_ids`, `attention_mask`, `rationale_mask` and `answer_mask`, long, `(B, L)`. The
        masks are 1 on the columns of all tokens, of the rationale's and of the answer's.
    """
    rows = list(zip(prompt_ids, rationale_ids, answer_ids, strict=True))
    width = _round_up(
        max(len(prompt) + len(rationale) + len(answer) for prompt, rationale, answer in rows), pad_to_multiple_of
    )
    input_ids = torch.full((len(rows), width), pad_token_id)  # (B, L)
    attention_mask = torch.zeros_like(input_ids)
    rationale_mask = torch.zeros_like(input_ids)
    answer_mask = torch.zeros_like(input_ids)
    for index, (prompt, rationale, answer) in enumerate(rows):
        answer_start = len(prompt) + len(rationale)
        end = answer_start + len(answer)
        input_ids[index, :end] = torch.tensor([*prompt, *rationale, *answer])
        attention_mask[index, :end] = 1
        rationale_mask[index, len(prompt) : answer_start] = 1
        answer_mask[index, answer_start:end] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "rationale_mask": rationale_mask,
        "answer_mask": answer_mask,
    }


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
