# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
(b) What one would write with TRL today: `RLOOTrainer`, a reward function that asks the model for the answer's log-prob, and
a second forward for the answer term.
"""

from typing import Any

import torch
from torch import Tensor
from trl import RLOOConfig, RLOOTrainer
from trl.trainer.utils import pad, selective_log_softmax

from contenders import trainers
from meter import Meter
from models import Case
from tokenizer import answer_text


class RLOOWithAnswerTerm(RLOOTrainer):
    """
    RLOO with LaTRO's answer term. Rows are `[padding | prompt | rationale | answer]`, so that the answers stand at the end
    and the model makes logits for those columns only (`logits_to_keep`).
    """

    case: Case

    def _generate_single_turn(self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any) -> list:
        return trainers.given_rationales(self.case, prompt_ids, end=[])

    def reward(self, prompts: list[str], completion_ids: list[list[int]], answer: list[str], **kwargs: Any) -> list:
        batch_size = self.args.per_device_train_batch_size
        rows = self.answer_rows(prompts, completion_ids, answer)
        with torch.no_grad():
            logps = [
                self.answer_logps(**{name: tensor[start : start + batch_size] for name, tensor in rows.items()})
                for start in range(0, len(prompts), batch_size)
            ]
        return torch.cat(logps).tolist()

    def answer_rows(self, prompts: list[str], completion_ids: list[list[int]], answer: list[str]) -> dict[str, Tensor]:
        texts = [answer_text(text) for text in answer]
        answer_ids = [[*ids, self._tokenizer.eos_token_id] for ids in self._tokenizer(texts)["input_ids"]]
        prompt_ids = self._tokenizer(prompts)["input_ids"]
        rows = [torch.tensor([*x, *z, *y]) for x, z, y in zip(prompt_ids, completion_ids, answer_ids, strict=True)]
        answers = [torch.ones(len(ids), dtype=torch.long) for ids in answer_ids]
        masks = [torch.ones_like(row) for row in rows]
        padded = {
            "answer_row_ids": pad(rows, self._tokenizer.pad_token_id, padding_side="left"),  # (B, L)
            "answer_row_mask": pad(masks, 0, padding_side="left"),  # (B, L)
            "answer_mask": pad(answers, 0, padding_side="left"),  # (B, longest answer)
        }
        return {name: tensor.to(self.accelerator.device) for name, tensor in padded.items()}

    def answer_logps(self, answer_row_ids: Tensor, answer_row_mask: Tensor, answer_mask: Tensor) -> Tensor:
        """`log pi(y|x,z)`, `(B,)`."""
        width = answer_mask.size(1)
        with self.accelerator.autocast():
            logits = self.model(
                input_ids=answer_row_ids, attention_mask=answer_row_mask, logits_to_keep=width + 1, use_cache=False
            ).logits  # (B, width + 1, V)
        return (selective_log_softmax(logits[:, :-1].float(), answer_row_ids[:, -width:]) * answer_mask).sum(1)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        prompts, answers = [row["prompt"] for row in inputs], [row["answer"] for row in inputs]
        completion_ids = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(output["completion_ids"], output["completion_mask"], strict=True)
        ]
        return output | self.answer_rows(prompts, completion_ids, answers)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        rationale_loss = super()._compute_loss(model, inputs)
        names = ("answer_row_ids", "answer_row_mask", "answer_mask")
        return rationale_loss - self.answer_logps(**{name: inputs[name] for name in names}).mean()


class RLOOWithReward:
    def __init__(self, case: Case, meter: Meter):
        def answer_logp(**columns: Any) -> list[float]:
            return self.trainer.reward(**columns)

        self.trainer = RLOOWithAnswerTerm(
            reward_funcs=answer_logp,
            args=RLOOConfig(**trainers.settings(case)),
            **trainers.trainer_arguments(case),
        )
        self.trainer.case = case
        self.model = self.trainer.model
        trainers.watch(self.trainer, meter)
        meter.watch(self.trainer, "_generate_single_turn", "rollout")

    def run(self, steps: int) -> None:
        trainers.run(self.trainer, steps)
