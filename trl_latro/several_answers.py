# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Several right answers to a question; pure functions on tensors.

A sample with J right answers is one row of the batch, `[prompt | rationale | answer 1 | ... | answer J]`: TRL shuffles, splits
and deals out rows, and a sample stays whole. For the model it is J rows `[prompt | rationale | answer j]`, which every model
takes and which share their prompt as other rows do. Where all samples have one answer, the two are the same.

Symbols: `B` samples, `J` answers of a sample at most, `N` rows for the model, `L` and `W` columns. `answer_index` `(B, L)` is
j on the columns of a sample's answer j, from 1 on, and 0 on others.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor


def fold_answers(rows: dict[str, Tensor], numbers: list[int]) -> dict[str, Tensor]:
    """
    The batch from rows with one answer each.

    Args:
        rows (`dict[str, torch.Tensor]`):
            Tensors of [`~trl_latro.packing.pack_rows`], `(N, W)` each, those of a sample adjacent.
        numbers (`list[int]`):
            Right answers of each sample, which sum up to N.

    Returns:
        `dict[str, torch.Tensor]`: the same and `answer_index`, `(B, L)` each.
    """
    answer_mask = rows["answer_mask"]
    if max(numbers) == 1:
        return rows | {"answer_index": answer_mask}
    index = torch.tensor([answer for number in numbers for answer in range(1, number + 1)])  # (N,)
    is_own = _is_own(index, rows["attention_mask"], answer_mask)  # (N, W)
    ends = list(accumulate(numbers))
    lengths = is_own.sum(1).cumsum(0)[torch.tensor(ends) - 1].diff(prepend=torch.zeros(1, dtype=torch.long))  # (B,)
    is_token = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, L)
    parts = rows | {"answer_index": answer_mask * index[:, None]}
    return {
        name: tensor.new_zeros(is_token.shape).masked_scatter(is_token, tensor[is_own])
        for name, tensor in parts.items()
    }


def unfold_answers(batch: dict[str, Tensor], pad_to_multiple_of: int | None = None) -> dict[str, Tensor]:
    """
    Rows for the model from a batch of [`fold_answers`]: `input_ids`, `attention_mask`, `rationale_mask` and `answer_mask`,
    `(N, W)` each, and `is_own`, the tokens that are a sample's own: the prompt and the rationale of its first row, and all
    answers. A batch in which all samples have one answer is returned as it is.
    """
    numbers = batch["answer_index"].amax(1).clamp(min=1)  # (B,)
    if numbers.max() == 1:
        return batch
    sample = torch.repeat_interleave(numbers)  # (N,)
    index = torch.arange(len(sample), device=numbers.device) - (numbers.cumsum(0) - numbers)[sample] + 1  # (N,)
    of_other = (batch["answer_index"] > 0)[sample] & (batch["answer_index"][sample] != index[:, None])  # (N, L)
    is_taken = batch["attention_mask"][sample].bool() & ~of_other
    lengths = is_taken.sum(1)  # (N,)
    width = -(-int(lengths.max()) // (pad_to_multiple_of or 1)) * (pad_to_multiple_of or 1)
    is_token = torch.arange(width, device=numbers.device) < lengths[:, None]  # (N, W)
    rows = {
        name: batch[name].new_zeros(is_token.shape).masked_scatter(is_token, batch[name][sample][is_taken])
        for name in ("input_ids", "attention_mask", "rationale_mask", "answer_mask")
    }
    return rows | {"is_own": _is_own(index, rows["attention_mask"], rows["answer_mask"])}


def fold_tokens(tokens: Tensor, rows: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Quantities of tokens `(N, W)` of the rows of [`unfold_answers`] in the places `(B, L)` of the batch, differentiable."""
    if rows is batch:
        return tokens
    # Row by row, a sample's own tokens stand in the order in which it has them
    is_token = batch["attention_mask"].bool()  # (B, L)
    return tokens.new_zeros(is_token.shape).masked_scatter(is_token, tokens[rows["is_own"]])


def _is_own(index: Tensor, attention_mask: Tensor, answer_mask: Tensor) -> Tensor:
    """From the numbers of the rows' answers `(N,)` to `(N, W)`, see [`unfold_answers`]."""
    return attention_mask.bool() & ((index == 1)[:, None] | answer_mask.bool())


def of_each_answer(answer_index: Tensor) -> Tensor:
    """Which columns belong to which answer, `(B, J, L)`."""
    numbers = torch.arange(1, max(int(answer_index.max()), 1) + 1, device=answer_index.device)
    return answer_index[:, None, :] == numbers[:, None]


def logps_of_answers(logps: Tensor, mask: Tensor, answer_index: Tensor) -> Tensor:
    """Log-likelihoods `l_j` of the answers, `(B, J)`, over the tokens of `mask` `(B, L)`; -inf where there is no such answer."""
    of_each = of_each_answer(answer_index)
    sums = logps.where(mask.bool(), 0.0)[:, None].where(of_each, 0.0).sum(2)
    return sums.where(of_each.any(2), -math.inf)


def logp_of_any_answer(logps: Tensor, mask: Tensor, answer_index: Tensor) -> Tensor:
    """Log-likelihood that one of the answers follows, `log sum_j exp(l_j)`, `(B,)`; 0 for a sample without answers."""
    of_each = logps_of_answers(logps, mask, answer_index)
    return of_each.logsumexp(1).where((answer_index > 0).any(1), 0.0)


def to_answer_tokens(of_answers: Tensor, answer_index: Tensor) -> Tensor:
    """From a number of each answer `(B, J)` to each column `(B, L)`, 0 on those that belong to none."""
    return of_answers.gather(1, (answer_index - 1).clamp(min=0)).where(answer_index > 0, 0.0)
