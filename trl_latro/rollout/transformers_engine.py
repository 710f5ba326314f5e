# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

import torch
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList
from trl.trainer.utils import pad

from ..truncation import RationaleStop, Truncator
from .engine import RolloutEngine, Sampled
from .unfinished_rows import can_leave_rows_out, generate_until_done


class TransformersEngine(RolloutEngine):
    """
    Samples with `generate` of transformers, all rows in one batch.

    Args:
        truncator ([`~trl_latro.truncation.Truncator`]):
            Where a rationale ends.
        max_tokens (`int`):
            Longest rationale.
        generation_config ([`~transformers.GenerationConfig`]):
            Settings of `generate`.
        generates_alone (`bool`):
            Whether a process may make more or fewer forwards than the others, since it has all weights.
        pad_to_multiple_of (`int`, *optional*):
            Round the width of the prompts up to a multiple of this.
        open_model (`Callable[[], AbstractContextManager[PreTrainedModel]]`):
            Gathers and unwraps the policy.
    """

    def __init__(
        self,
        truncator: Truncator,
        max_tokens: int,
        generation_config: GenerationConfig,
        generates_alone: bool,
        pad_to_multiple_of: int | None,
        open_model: Callable[[], AbstractContextManager[PreTrainedModel]],
    ):
        super().__init__(truncator, max_tokens)
        self.generation_config = generation_config
        self.open_model = open_model
        self.generates_alone = generates_alone
        self.pad_to_multiple_of = pad_to_multiple_of

    @cached_property
    def rationale_stop(self) -> RationaleStop | None:
        """Made when it is first needed: its table over the vocabulary takes seconds."""
        return RationaleStop(self.truncator) if self.truncator.ends else None

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        generation_config = copy.deepcopy(self.generation_config)
        generation_config.max_new_tokens = self.max_tokens + answer_budget
        with self.open_model() as model:
            input_ids, attention_mask = (
                pad(rows, value, padding_side="left", pad_to_multiple_of=self.pad_to_multiple_of).to(model.device)
                for rows, value in (
                    ([torch.tensor(ids) for ids in prompt_ids], generation_config.pad_token_id),
                    ([torch.ones(len(ids), dtype=torch.long) for ids in prompt_ids], 0),
                )
            )  # (B, P)
            stopping_criteria = StoppingCriteriaList()
            if self.rationale_stop is not None:
                is_open = [self.truncator.is_open_after(ids) for ids in prompt_ids]
                self.rationale_stop.start(input_ids.size(1), answer_budget, is_open)
                stopping_criteria.append(self.rationale_stop)
                if self.generates_alone and can_leave_rows_out(model, generation_config):
                    rows = generate_until_done(
                        model, input_ids, attention_mask, self.rationale_stop, generation_config, synced_gpus=False
                    )
                    return [Sampled(ids) for ids in rows]
            output_ids = model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=generation_config,
                stopping_criteria=stopping_criteria,
            )
        return [Sampled(ids) for ids in output_ids[:, input_ids.size(1) :].tolist()]
