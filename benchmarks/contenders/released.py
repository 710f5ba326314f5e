# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
(a) The formulation of the released code, in plain PyTorch: three scoring forwards and two training graphs per sample, on
padded batches, each with all logits `(batch, length, vocabulary)` and their log-softmax.
"""

import torch
from torch import Tensor, nn

from contenders.plain import Plain
from models import Case, autocast
from rows import Row


class Released(Plain):
    """
    Kinder than the released code where the description leaves it open: a batch is padded to its own longest row, the two
    graphs follow each other instead of being held together, and rationales end where they end. The gradient is that of the
    paper: the answer term has weight 1.
    """

    def step(self) -> None:
        case, rows = self.case, self.rows
        batches = [rows[start : start + case.micro_batch] for start in range(0, len(rows), case.micro_batch)]
        with self.meter.phase("scoring"), torch.no_grad():
            rewards = []
            for batch in batches:
                reward = answer_logps(self.model, batch, case)
                rationale = rationale_logps(self.model, batch, case)
                if case.beta != 0.0:
                    with self.policy.as_reference() as reference:
                        reward = reward - case.beta * (rationale - rationale_logps(reference, batch, case))
                rewards.append(reward)
            advantages = leave_one_out(torch.cat(rewards), case.num_generations).split(case.micro_batch)
        for batch, advantage in zip(batches, advantages, strict=True):
            (-(advantage * rationale_logps(self.model, batch, case)).sum() / len(rows)).backward()
            (-answer_logps(self.model, batch, case).sum() / len(rows)).backward()
        self.policy.step()


def leave_one_out(rewards: Tensor, num_generations: int) -> Tensor:
    """`A_k = r_k - mean_{j != k} r_j`, `(N,)`, the rows of a prompt adjacent."""
    groups = rewards.view(-1, num_generations)  # (N / K, K)
    return ((groups - groups.mean(1, keepdim=True)) * num_generations / (num_generations - 1)).view(-1)


def rationale_logps(model: nn.Module, rows: list[Row], case: Case) -> Tensor:
    """`log pi(z|x)`, `(B,)`."""
    return summed_logps(model, [row.prompt + row.rationale for row in rows], [row.rationale for row in rows], case)


def answer_logps(model: nn.Module, rows: list[Row], case: Case) -> Tensor:
    """`log pi(y|x,z)`, `(B,)`."""
    ids = [row.prompt + row.rationale + row.answer for row in rows]
    return summed_logps(model, ids, [row.answer for row in rows], case)


def summed_logps(model: nn.Module, ids: list[list[int]], last: list[list[int]], case: Case) -> Tensor:
    """Sum of the log-probs of the `last` tokens of each row, `(B,)`."""
    width = max(map(len, ids))
    input_ids = torch.full((len(ids), width), case.tokenizer.pad_token_id)  # (B, L)
    attention_mask = torch.zeros_like(input_ids)
    scored = torch.zeros_like(input_ids)
    for index, (row, end) in enumerate(zip(ids, last, strict=True)):
        input_ids[index, : len(row)] = torch.tensor(row)
        attention_mask[index, : len(row)] = 1
        scored[index, len(row) - len(end) : len(row)] = 1
    input_ids, attention_mask, scored = (tensor.to(case.device) for tensor in (input_ids, attention_mask, scored))
    with autocast(case):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits  # (B, L, V)
    logps = logits[:, :-1].float().log_softmax(-1)  # (B, L - 1, V)
    logps = logps.gather(2, input_ids[:, 1:, None]).squeeze(2)
    return (logps * scored[:, 1:]).sum(1)
