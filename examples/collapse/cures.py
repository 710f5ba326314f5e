# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Other answer terms: ways to keep the answer from learning to ignore a wrong rationale."""

from torch import Tensor, nn

from trl_latro import LaTROTrainer


class AnswerTermWherePositive(LaTROTrainer):
    """The answer is learnt after the rationales that have a positive advantage."""

    def _reward(self, logps: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = super()._reward(logps, batch)
        is_positive = (parts["advantages"] > 0)[:, None]  # (B, 1)
        return {**parts, "answer_weights": parts["answer_weights"] * is_positive}


class AnswerTermPhasedIn(LaTROTrainer):
    """`answer_coef` goes from 0 to 1 over the steps."""

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        self.args.answer_coef = self.state.global_step / self.state.max_steps
        return super()._compute_loss(model, inputs)
