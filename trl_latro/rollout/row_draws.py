# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Samples that do not depend on the rows beside them: each row has random numbers of its own."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor


# The vocabulary is drawn from in two steps, a block of tokens and one of them: sums over all of it would round away
# probabilities below 1e-7, and the long tail of unlikely tokens with them
_BLOCK = 256


class RowDraws(LogitsProcessor):
    """
    Makes greedy decoding sample: draws the next token of each row and leaves no other to choose.

    Args:
        seeds (`Sequence[int]`):
            Seed of each row.
        max_tokens (`int`):
            Tokens that are drawn for a row at most.
        device (`torch.device`):
            Where the logits are.
    """

    def __init__(self, seeds: Sequence[int], max_tokens: int, device: torch.device):
        draws = [torch.rand(max_tokens, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self._draws = torch.stack(draws).to(device)  # (B, T, 2)
        self._step = 0

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        self._draws = self._draws[rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> torch.FloatTensor:
        block_draw, token_draw = self._draws[:, self._step].unbind(1)  # (B,) each
        self._step += 1
        probabilities = nn.functional.pad(scores.softmax(-1), (0, -scores.size(1) % _BLOCK))
        blocks = probabilities.view(len(scores), -1, _BLOCK)  # (B, V / 256, 256)
        block = choose(blocks.sum(-1), block_draw)
        token = block * _BLOCK + choose(blocks[torch.arange(len(block), device=block.device), block], token_draw)
        chosen = torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)
        return cast(torch.FloatTensor, chosen)


def choose(weights: Tensor, draw: Tensor) -> Tensor:
    """Indices `(B,)` with the probabilities `weights / weights.sum()`, `(B, N)`, from uniform draws of `[0, 1)`, `(B,)`."""
    sums = weights.cumsum(-1)
    index = torch.searchsorted(sums, draw[:, None] * sums[:, -1:], right=True)[:, 0]
    last = (weights > 0).cumsum(-1).argmax(-1)  # where rounding reaches the sum: the last index that has a probability
    return torch.minimum(index, last)
