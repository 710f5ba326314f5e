# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The rows of a micro-batch as one sequence without padding, and attention that works on it piece by piece."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from rows import Row


BY_PIECE = "benchmark_by_piece"


@dataclass(frozen=True)
class Piece:
    """Tokens `start:end` of the sequence, which see those before them in the piece and all of `prefix`."""

    start: int
    end: int
    prefix: slice | None = None
    mask: Tensor | None = None  # (piece, prefix + piece) what they see, with a prefix; without one it is causal


@dataclass(frozen=True)
class Packed:
    """A micro-batch as one sequence of `T` tokens, of which `S` are scored."""

    input_ids: Tensor  # (1, T)
    position_ids: Tensor  # (1, T)
    pieces: list[Piece]
    predicts: Tensor  # (S,) the position that a scored token is predicted from
    targets: Tensor  # (S,) the scored tokens
    row_of: Tensor  # (S,)
    is_rationale: Tensor  # (S,)

    def to(self, device: torch.device) -> "Packed":
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        pieces = [piece if piece.mask is None else replace(piece, mask=piece.mask.to(device)) for piece in self.pieces]
        return replace(self, pieces=pieces, **tensors)


def pack(rows: list[Row], share_prompt: bool) -> Packed:
    """Rows one after the other, each behind its prompt, or rows with the same prompt behind one prompt."""
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[Piece] = []
    scored: list[tuple[int, int, int, bool]] = []
    prompt_at: dict[tuple[int, ...], slice] = {}
    for index, row in enumerate(rows):
        start = len(ids)
        continuation = [*row.rationale, *row.answer]
        prefix = prompt_at.get(tuple(row.prompt)) if share_prompt else None
        if prefix is None:
            ids += row.prompt
            positions += range(len(row.prompt))
            prompt = slice(start, len(ids))
            if share_prompt:
                prompt_at[tuple(row.prompt)] = prefix = prompt
                pieces.append(Piece(prompt.start, prompt.stop))
                start = len(ids)
        else:
            prompt = prefix
        before = prompt.stop - 1  # the position that predicts the next token
        for offset, token in enumerate(continuation):
            scored.append((before, token, index, offset < len(row.rationale)))
            before = len(ids)
            ids.append(token)
            positions.append(len(row.prompt) + offset)
        mask = None
        if prefix is not None:
            length = len(ids) - start
            mask = torch.ones(length, len(row.prompt) + length, dtype=torch.bool).tril(len(row.prompt))
        pieces.append(Piece(start, len(ids), prefix, mask))
    predicts, targets, row_of, is_rationale = (torch.tensor(column) for column in zip(*scored, strict=True))
    return Packed(torch.tensor([ids]), torch.tensor([positions]), pieces, predicts, targets, row_of, is_rationale)


def attend_by_piece(
    module: nn.Module,
    query: Tensor,  # (1, H, T, D)
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    pieces: list[Piece],
    **kwargs: Any,
) -> tuple[Tensor, None]:
    groups = query.size(1) // key.size(1)
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    outputs = []
    for piece in pieces:
        q, k, v = (tensor[:, :, piece.start : piece.end] for tensor in (query, key, value))
        if piece.prefix is None:
            outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling))
            continue
        k = torch.cat([key[:, :, piece.prefix], k], dim=2)
        v = torch.cat([value[:, :, piece.prefix], v], dim=2)
        outputs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=piece.mask, scale=scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None  # (1, T, H, D)


AttentionInterface.register(BY_PIECE, attend_by_piece)
