# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Log-likelihood of an answer after a prompt and a rationale."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


@torch.no_grad()
def answer_logps(
    model: PreTrainedModel, context_ids: list[list[int]], answer_ids: list[list[int]], pad_token_id: int
) -> list[float]:
    """
    `l = sum_t log pi(y_t | x, z, y_<t)` of each row.

    Rows are padded on the left, so that all answers end in the last column, and logits exist for the last columns
    only: `(B, A + 1, V)`, with A the tokens of the longest answer, instead of `(B, T, V)`.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model, in evaluation mode.
        context_ids (`list[list[int]]`):
            Tokens of each row's prompt and rationale.
        answer_ids (`list[list[int]]`):
            Tokens of each row's answer.
        pad_token_id (`int`):
            Padding token.

    Returns:
        `list[float]`: sums over the answer's tokens.
    """
    rows = [context + answer for context, answer in zip(context_ids, answer_ids, strict=True)]
    width = max(map(len, rows))
    longest = max(map(len, answer_ids))
    input_ids = torch.tensor([[pad_token_id] * (width - len(row)) + row for row in rows])  # (B, T)
    lengths = torch.tensor([len(row) for row in rows])
    attention_mask = (torch.arange(width) >= width - lengths[:, None]).long()  # (B, T)
    # Models with absolute positions would count the padding
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)  # (B, T)
    answer_lengths = torch.tensor([len(answer) for answer in answer_ids])
    answer_mask = torch.arange(longest) >= longest - answer_lengths[:, None]  # (B, A)

    logits = model(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        position_ids=position_ids.to(model.device),
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits  # (B, A + 1, V)
    targets = input_ids[:, -longest:].to(logits.device)  # (B, A)
    logps = token_logps(logits[:, :-1], targets)  # the logits of a column are those of the next token
    return (logps * answer_mask.to(logps.device)).sum(1).tolist()


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-prob of each target in float32: `(B, A, V)` and `(B, A)` give `(B, A)`."""
    rows = []
    # Row by row: a float32 copy of one row at a time
    for row_logits, row_targets in zip(logits, targets, strict=True):
        row_logits = row_logits.float()
        chosen = row_logits.gather(-1, row_targets[:, None]).squeeze(-1)
        rows.append(chosen - row_logits.logsumexp(-1))
    return torch.stack(rows)
