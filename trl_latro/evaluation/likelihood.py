# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Log-likelihood of an answer after a prompt and a rationale."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..packing import pack_rows
from ..shared_prompt import by_length, enabled_shared_prompts, share_prompts, why_not_shared
from .model import ScoredRow


@torch.no_grad()
def answer_logps(model: PreTrainedModel, rows: list[ScoredRow], pad_token_id: int) -> list[Tensor]:
    """
    `log pi(y_t | x, z, y_<t)` of the tokens of each row's answer. Their sum is its log-likelihood.

    Where the model can, the rows are one sequence, in which those that follow each other with the same prompt share it;
    else rows of similar lengths are one forward. Logits exist for the answers' tokens only.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model, in evaluation mode.
        rows (`list[ScoredRow]`):
            The rows.
        pad_token_id (`int`):
            Padding token.

    Returns:
        `list[torch.Tensor]`: one of shape `(A,)` for each row, on the CPU.
    """
    if why_not_shared(model) is None:
        return _of_one_sequence(model, rows, pad_token_id)
    logps: dict[int, Tensor] = {}
    for similar in by_length([sum(map(len, row)) for row in rows]):
        logps |= zip(similar, _of_padded_rows(model, [rows[index] for index in similar], pad_token_id), strict=True)
    return [logps[index] for index in range(len(rows))]


def _of_one_sequence(model: PreTrainedModel, rows: list[ScoredRow], pad_token_id: int) -> list[Tensor]:
    prompts, rationales, answers = ([row[part] for row in rows] for part in range(3))
    packed = pack_rows(prompts, rationales, answers, pad_token_id)
    batch = {name: tensor.to(model.device) for name, tensor in packed.items()}  # (B, L) each
    sequence = share_prompts(batch)
    labels = sequence.pop("shift_labels")[0]  # (T,): the next token of a rationale or an answer, or -100
    answer_mask, rationale_mask = batch["answer_mask"].bool(), batch["rationale_mask"].bool()
    of_answer = answer_mask[answer_mask | rationale_mask]  # of all labels, row by row
    columns = (labels != -100).nonzero()[of_answer, 0]  # (N,)
    with enabled_shared_prompts(model):
        # A list, because accelerate would move a tensor away from the last layer where a model is spread over devices
        logits = model(**sequence, logits_to_keep=columns.tolist(), use_cache=False).logits[0]  # (N, V)
    targets = labels[columns].to(logits.device)
    lengths = list(map(len, answers))
    return [logps_of(*answer) for answer in zip(logits.split(lengths), targets.split(lengths), strict=True)]


def _of_padded_rows(model: PreTrainedModel, rows: list[ScoredRow], pad_token_id: int) -> list[Tensor]:
    """Padded on the left: all answers end in the last column, so logits are needed for the last columns only."""
    tokens = [[*row.prompt, *row.rationale, *row.answer] for row in rows]
    width = max(map(len, tokens))
    longest = max(len(row.answer) for row in rows)
    input_ids = torch.tensor([[pad_token_id] * (width - len(row)) + row for row in tokens])  # (B, T)
    lengths = torch.tensor([len(row) for row in tokens])
    attention_mask = (torch.arange(width) >= width - lengths[:, None]).long()  # (B, T)
    # Models with absolute positions would count the padding
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)  # (B, T)
    logits = model(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        position_ids=position_ids.to(model.device),
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits  # (B, A + 1, V), with A the tokens of the longest answer
    input_ids = input_ids.to(logits.device)
    # The logits of a column are those of the next token
    return [
        logps_of(of_row[-1 - len(row.answer) : -1], ids[-len(row.answer) :])
        for row, of_row, ids in zip(rows, logits, input_ids, strict=True)
    ]


def logps_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The targets' log-probs: `(A, V)` and `(A,)` give `(A,)` in float32, without a float32 copy of all rows."""
    logits = logits.float()
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)  # (A,)
    return (chosen - logits.logsumexp(-1)).cpu()
