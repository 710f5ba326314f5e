# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Completions and likelihoods with `transformers`: greedy, or samples of the model itself."""

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from ..answer_template import AnswerTemplate
from ..rollout.row_draws import RowDraws
from ..rollout.sampling_settings import only_generation_config
from ..rollout.unfinished_rows import can_leave_rows_out, generate_until_done
from ..thinking import Thinking
from ..truncation import RationaleStop, Truncator
from .halving import Halving
from .likelihood import answer_logps
from .model import ScoredRow, find_eos_token_ids


class TransformersModel:
    """
    Generates with `transformers`, all rows of a call in one batch or, where the memory does not hold them, in several. Each
    sample has random numbers of its own, so it is the same in either case, but for the rounding of the model's arithmetic.

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
        self._generate_halving, self._score_halving = Halving("A batch"), Halving("A forward")

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], num_samples: int, greedy: bool, seed: int
    ) -> list[list[list[int]]]:
        prompts = [ids for ids in prompt_ids for _ in range(num_samples)]
        seeds = np.random.SeedSequence(seed).generate_state(len(prompts), np.uint64).tolist()
        rows = list(zip(prompts, seeds, strict=True))
        completions = self._generate_halving(lambda part: self._generate(part, greedy), rows)
        return [completions[start : start + num_samples] for start in range(0, len(rows), num_samples)]

    def _generate(self, rows: list[tuple[list[int], int]], greedy: bool) -> list[list[int]]:
        """A completion of each row, a prompt and a seed."""
        prompts, seeds = zip(*rows, strict=True)
        width = max(map(len, prompts))
        device = self.model.device
        padding = [width - len(ids) for ids in prompts]
        input_ids = torch.tensor(
            [[self.pad_token_id] * pads + ids for pads, ids in zip(padding, prompts, strict=True)], device=device
        )  # (B, P)
        attention_mask = torch.tensor([[0] * pads + [1] * (width - pads) for pads in padding], device=device)
        config = GenerationConfig(
            do_sample=False,  # each row's own draws make samples of it
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
        )
        are_open = [self.truncator.is_open_after(ids) for ids in prompts]
        row_draws = None if greedy else RowDraws(seeds, self.max_new_tokens, device)
        stopping_criteria = StoppingCriteriaList()
        if self.rationale_stop is not None:
            self.rationale_stop.start(width, self.answer_budget, are_open)
            stopping_criteria.append(self.rationale_stop)
        with only_generation_config(self.model, config):
            if self.rationale_stop is not None and can_leave_rows_out(self.model, config):
                sampled = generate_until_done(
                    self.model, input_ids, attention_mask, self.rationale_stop, config, row_draws
                )
            else:
                output_ids = self.model.generate(
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    generation_config=config,
                    stopping_criteria=stopping_criteria,
                    logits_processor=LogitsProcessorList([] if row_draws is None else [row_draws]),
                )
                sampled = output_ids[:, width:].tolist()
        outputs = zip(sampled, are_open, strict=True)
        return [self.truncator.without_padding(ids, is_open) for ids, is_open in outputs]

    def answer_logps(self, rows: list[ScoredRow]) -> list[float]:
        return [float(logps.sum()) for logps in self.answer_token_logps(rows)]

    def answer_token_logps(self, rows: list[ScoredRow]) -> list[torch.Tensor]:
        """Log-probs of the tokens of each answer, `(A,)` on the CPU."""
        return self._score_halving(lambda part: answer_logps(self.model, part, self.pad_token_id), rows)
