# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from ..truncation import Truncator
from .engine import RolloutEngine, Sampled


class ContinuousBatchingEngine(RolloutEngine):
    """
    Samples with `generate_batch` of transformers. It has no stop strings (5.23): a completion goes on to its EOS token or
    the length limit, and is truncated.

    Args:
        truncator ([`~trl_latro.truncation.Truncator`]):
            Where a rationale ends.
        max_tokens (`int`):
            Longest rationale.
        generation_config ([`~transformers.GenerationConfig`]):
            Settings of `generate_batch`.
        continuous_batching_config ([`~transformers.ContinuousBatchingConfig`], *optional*):
            Further settings of `generate_batch`.
        open_model (`Callable[[], AbstractContextManager[PreTrainedModel]]`):
            Gathers and unwraps the policy.
    """

    def __init__(
        self,
        truncator: Truncator,
        max_tokens: int,
        generation_config: GenerationConfig,
        continuous_batching_config: ContinuousBatchingConfig | None,
        open_model: Callable[[], AbstractContextManager[PreTrainedModel]],
    ):
        super().__init__(truncator, max_tokens)
        self.generation_config = generation_config
        self.continuous_batching_config = continuous_batching_config
        self.open_model = open_model

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        generation_config = copy.deepcopy(self.generation_config)
        generation_config.max_new_tokens = self.max_tokens + answer_budget
        with self.open_model() as model:
            was_training = model.training
            outputs = model.generate_batch(
                prompt_ids,
                generation_config=generation_config,
                continuous_batching_config=self.continuous_batching_config,
            )
            model.train(was_training)  # `generate_batch` leaves it in evaluation mode
        if len(outputs) < len(prompt_ids):
            raise RuntimeError(
                f"Continuous batching returned {len(outputs)} completions for {len(prompt_ids)} prompts: its log, above, "
                "has the cause."
            )
        return [Sampled(output.generated_tokens) for output in outputs.values()]
