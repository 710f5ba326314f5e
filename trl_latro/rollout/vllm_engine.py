# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trl.extras.profiling import ProfilingContext
from trl.generation.vllm_generation import VLLMGeneration

from ..truncation import Truncator
from .engine import RolloutEngine, Sampled


class VLLMEngine(RolloutEngine):
    """
    Samples with vLLM, on a server or beside the trainer.

    Args:
        truncator ([`~trl_latro.truncation.Truncator`]):
            Where a rationale ends.
        max_tokens (`int`):
            Longest rationale.
        vllm ([`~trl.generation.vllm_generation.VLLMGeneration`]):
            TRL's client of vLLM.
        sync_weights (`Callable[[], None]`):
            Gives vLLM the policy's weights if they have changed.
        profiler (`Callable[[], ProfilingContext]`):
            Logs how long a generation takes.
    """

    def __init__(
        self,
        truncator: Truncator,
        max_tokens: int,
        vllm: VLLMGeneration,
        sync_weights: Callable[[], None],
        profiler: Callable[[], ProfilingContext],
    ):
        super().__init__(truncator, max_tokens)
        self.vllm = vllm
        self.sync_weights = sync_weights
        self.profiler = profiler
        vllm.logprobs = 0  # of each sampled token its own

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        self.sync_weights()
        with self._answer_budget(answer_budget):
            _, completion_ids, logps, _ = self.vllm.generate(
                prompts=prompt_ids, images=None, num_generations=num_generations, profiler=self.profiler()
            )
        return [
            Sampled(ids, [logp for (logp,) in logps_of_tokens])
            for ids, logps_of_tokens in zip(completion_ids, logps, strict=True)
        ]

    @contextmanager
    def _answer_budget(self, answer_budget: int) -> Iterator[None]:
        """`VLLMGeneration` takes stop strings and the limit from its attributes."""
        vllm, kwargs = self.vllm, self.vllm.generation_kwargs
        vllm.max_completion_length = self.max_tokens + answer_budget
        # vLLM stops at a string wherever it stands, so not at one that may stand inside a block of thinking
        thinking = self.truncator.thinking
        stop_strings = self.truncator.stop_strings if thinking is None else [thinking.closing]
        if stop_strings and answer_budget == 0:
            # The string has to be in the output, or its end would not be found
            stop = {"stop": stop_strings, "include_stop_str_in_output": True}
            tags = {} if thinking is None else {"skip_special_tokens": False}  # a tag may be one
            vllm.generation_kwargs = {**kwargs, **stop, **tags}
        try:
            yield
        finally:
            vllm.max_completion_length, vllm.generation_kwargs = self.max_tokens, kwargs
