# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Completions and likelihoods with `transformers`: greedy, or samples of the model itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList

from ..answer_template import AnswerTemplate
from ..rollout.sampling_settings import only_generation_config
from ..thinking import Thinking
from ..truncation import RationaleStop, Truncator
from .likelihood import answer_logps
from .model import find_eos_token_ids


class TransformersModel:
    """
    Generates with `transformers`, all rows of a call in one batch.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model, in evaluation mode.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        answer_template ([`~trl_latro.answer_template.AnswerTemplate`]):
            How an answer is written; its text before `{answer}` ends a rationale.
        max_completion_length (`int`):
            L, the longest rationale in tokens.
        answer_budget (`int`):
            Tokens that a completion goes on for after its rationale.
        thinking ([`~trl_latro.thinking.Thinking`], *optional*):
            How the model writes its thinking, if it does.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        answer_template: AnswerTemplate,
        max_completion_length: int,
        answer_budget: int,
        thinking: Thinking | None = None,
    ):
        self.model = model
        self.eos_token_ids = find_eos_token_ids(model.generation_config, tokenizer)
        self.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.max_new_tokens = max_completion_length + answer_budget
        self.answer_budget = answer_budget
        self.truncator = Truncator(tokenizer, answer_template.stop_strings, self.eos_token_ids, thinking=thinking)
        self.rationale_stop = RationaleStop(self.truncator) if self.truncator.ends else None

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], num_samples: int, greedy: bool, seed: int
    ) -> list[list[list[int]]]:
        rows = [ids for ids in prompt_ids for _ in range(num_samples)]
        width = max(map(len, rows))
        device = self.model.device
        padding = [width - len(ids) for ids in rows]
        input_ids = torch.tensor([[self.pad_token_id] * pads + ids for pads, ids in zip(padding, rows, strict=True)])
        attention_mask = torch.tensor([[0] * pads + [1] * (width - pads) for pads in padding])  # (B, P)
        config = GenerationConfig(
            do_sample=not greedy,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
            # Samples of the model itself: transformers would keep the 50 likeliest tokens
            **({} if greedy else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
        )
        are_open = [self.truncator.is_open_after(ids) for ids in rows]
        stopping_criteria = StoppingCriteriaList()
        if self.rationale_stop is not None:
            self.rationale_stop.start(width, self.answer_budget, are_open)
            stopping_criteria.append(self.rationale_stop)
        with _seeded(seed, device), only_generation_config(self.model, config):
            output_ids = self.model.generate(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                generation_config=config,
                stopping_criteria=stopping_criteria,
            )
        outputs = zip(output_ids[:, width:].tolist(), are_open, strict=True)
        completions = [self.truncator.without_padding(ids, is_open) for ids, is_open in outputs]
        return [completions[start : start + num_samples] for start in range(0, len(rows), num_samples)]

    def answer_logps(self, context_ids: list[list[int]], answer_ids: list[list[int]]) -> list[float]:
        return answer_logps(self.model, context_ids, answer_ids, self.pad_token_id)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed`, and after it as if none had been drawn: an evaluation must not change a training."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
