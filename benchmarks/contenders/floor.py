# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
(d) The floor: what the method has to do, done plainly. One forward and backward over the tokens, and one forward of the
reference where beta is not 0. Nothing is scored before: the advantages are given.

The tokens of a micro-batch are one sequence without padding. All layers but attention work on single tokens, so they run
over the whole sequence at once; attention runs row by row, on slices, so that no row sees another one and nothing is
computed for padding. The LM head works on the positions whose next token is scored, and nowhere else.

`UnsharedFloor` has each row with its own prompt. `SharedFloor` has each prompt once per group and micro-batch: the keys and
values of the prompt stand before those of each of its rows.

It is no bound in the strict sense. The logits are whole, `(S, V)` in float32 with their log-softmax, so less memory is
possible; and attention is one small call per row, which on a GPU costs a launch each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders.packed import BY_PIECE, Packed, pack
from contenders.plain import Plain
from meter import Meter
from models import Case, autocast


class Floor(Plain):
    share_prompt: bool

    def __init__(self, case: Case, meter: Meter):
        super().__init__(case, meter)
        for model in (self.policy.model, self.policy.reference):
            if model is not None:
                model.config._attn_implementation = BY_PIECE
        self.advantages = torch.ones(len(self.rows), device=case.device)

    def step(self) -> None:
        size = self.case.micro_batch
        batches = [
            (pack(self.rows[start : start + size], self.share_prompt).to(self.case.device), start)
            for start in range(0, len(self.rows), size)
        ]
        if self.case.beta != 0.0:
            with self.meter.phase("scoring"), torch.no_grad(), self.policy.as_reference() as reference:
                for packed, _ in batches:
                    self.logps(reference, packed)
        for packed, start in batches:
            advantages = self.advantages[start : start + size][packed.row_of]  # (S,)
            weights = torch.where(packed.is_rationale, advantages, 1.0)
            (-(weights * self.logps(self.model, packed)).sum() / len(self.rows)).backward()
        self.policy.step()

    def logps(self, model: nn.Module, packed: Packed) -> Tensor:
        """Log-probs of the scored tokens, `(S,)`."""
        causal_lm = model.get_base_model() if self.case.lora else model
        with autocast(self.case):
            hidden = causal_lm.base_model(
                input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False, pieces=packed.pieces
            ).last_hidden_state[0]  # (T, hidden)
            logits = causal_lm.get_output_embeddings()(hidden[packed.predicts])  # (S, V)
        return -F.cross_entropy(logits.float(), packed.targets, reduction="none")


class UnsharedFloor(Floor):
    share_prompt = False


class SharedFloor(Floor):
    share_prompt = True
