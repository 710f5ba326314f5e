# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Real generation with a model whose rationales have lengths like GSM8K's, and the count of what it decodes.

A model with random weights does not end its text. So its LM head is followed by a rule that makes it a real, if simple,
language model: after a prompt it names the number of tokens to come, drawn from GSM8K's distribution, and then counts down,
"~41", "~40", ..., "~1", "The", " answer", " is" and the EOS token. The rule looks at the last token alone, so it holds in
any batch and order of rows. Greedy decoding would give all rows the likeliest length, so there the prompt's last letter
stands for one. Everything else (embedding, layers, cache, LM head, sampling, stopping) is done as always.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerFast
from trl import RLOOConfig, RLOOTrainer

from contenders import trainers
from contenders.latro import config as latro_config
from meter import Meter
from models import Case, Policy, autocast
from rows import RATIONALE_LENGTH
from tokenizer import LETTERS, filler_ids, stop_ids
from trl_latro import LaTROTrainer
from trl_latro.rollout.engine import Sampled


def next_token_logits(tokenizer: PreTrainedTokenizerFast, longest: int) -> tuple[Tensor, Tensor]:
    """
    The language as a table: for each last token the one token that follows, `(V,)`, or -1 after which the length is
    drawn; and the logits of the draw, `(V,)`.
    """
    fillers, stop = filler_ids(tokenizer), stop_ids(tokenizer)
    longest = min(longest - len(stop) - 1, len(fillers))  # so that every rationale reaches its end
    follows = torch.full((len(tokenizer),), -1)
    for number in range(1, longest + 1):  # "~0" is the last filler: number tokens are left, itself included
        follows[fillers[number - 1]] = stop[0] if number == 1 else fillers[number - 2]
    for token, following in zip(stop, [*stop[1:], tokenizer.eos_token_id], strict=True):
        follows[token] = following
    follows[tokenizer.eos_token_id] = tokenizer.eos_token_id
    follows[tokenizer.pad_token_id] = tokenizer.eos_token_id
    mean, deviation = RATIONALE_LENGTH
    draw = torch.full((len(tokenizer),), -math.inf)
    for number in range(1, longest + 1):
        draw[fillers[number - 1]] = -math.log(number) - (math.log(number) - mean) ** 2 / (2 * deviation**2)
    return follows, draw


class CountingDown:
    """
    Puts the rule behind a model's LM head, and counts positions while it is active.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): The policy.
        case (`Case`): What is measured.
    """

    def __init__(self, model: nn.Module, case: Case):
        self.follows, self.draw = (
            tensor.to(case.device) for tensor in next_token_logits(case.tokenizer, case.longest_rationale)
        )
        letters = torch.tensor(
            [case.tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS], device=case.device
        )
        generator = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(self.draw.cpu().softmax(-1), len(letters), replacement=True, generator=generator)
        self.greedy_follows = self.follows.scatter(0, letters, drawn.to(case.device))
        self.decoded = 0  # tokens made: one per row and decoding step, also for rows that have ended
        self.computed = 0  # positions that went through the layers, padding of prompts included
        self._active = False
        self._greedy = False
        self._last_ids: Tensor = torch.empty(0)
        model.get_input_embeddings().register_forward_hook(self._see_tokens)
        model.get_output_embeddings().register_forward_hook(self._rule)

    @contextmanager
    def active(self, greedy: bool = False) -> Iterator[None]:
        self._active, self._greedy = True, greedy
        yield
        self._active = False

    def _see_tokens(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if self._active:
            self._last_ids = args[0]  # (B, T)
            self.computed += args[0].numel()

    def _rule(self, module: nn.Module, args: tuple[Tensor], logits: Tensor) -> Tensor | None:
        if not self._active:
            return None
        self.decoded += logits.shape[:-1].numel()
        follows = self.greedy_follows if self._greedy else self.follows
        following = follows[self._last_ids[:, -logits.size(1) :]]  # (B, T')
        forced = torch.full_like(logits, -math.inf).scatter(2, following.clamp(min=0)[..., None], 0.0)
        return torch.where((following >= 0)[..., None], forced, self.draw.to(logits.dtype))  # (B, T', V)


class Rollout:
    """
    A contender in generation. After `run`, `counts` has what each rollout decoded and kept.

    Args:
        case (`Case`): What is measured.
        meter (`Meter`): Collects the seconds of the phase "rollout".
    """

    def __init__(self, case: Case, meter: Meter):
        self.case = case
        self.meter = meter
        self.counts: list[dict[str, int]] = []

    def count(self, rule: CountingDown, completions: list[list[int]]) -> None:
        """Kept are the tokens up to the end of the stop string: what follows it, no contender has a use for."""
        kept = sum(kept_tokens(ids, stop_ids(self.case.tokenizer)) for ids in completions)
        self.counts.append({"decoded": rule.decoded, "computed": rule.computed, "kept": kept})
        rule.decoded = rule.computed = 0


def kept_tokens(ids: list[int], stop: list[int]) -> int:
    ends = [end for end in range(len(stop), len(ids) + 1) if ids[end - len(stop) : end] == stop]
    return ends[0] if ends else len(ids)


class ReleasedRollout(Rollout):
    """(a) `generate` with nothing that ends a row: every sample is decoded to the limit."""

    def run(self, steps: int) -> None:
        case, model = self.case, Policy(self.case).model
        rule = CountingDown(model, case)
        rows = [group.prompt_ids for group in case.groups for _ in group.rationales]
        width = max(map(len, rows))
        pad = case.tokenizer.pad_token_id
        input_ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=case.device)
        attention_mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=case.device)
        generation = GenerationConfig(max_new_tokens=case.longest_rationale, do_sample=True, top_k=0, pad_token_id=pad)
        model.generation_config = generation
        model.eval()  # no gradient checkpointing, which would do without the cache
        for _ in range(steps):
            self.meter.start()
            with self.meter.phase("rollout"), torch.no_grad(), autocast(case), rule.active():
                output = model.generate(input_ids=input_ids, attention_mask=attention_mask)
            self.meter.stop()
            self.count(rule, output[:, width:].tolist())


class TrainerRollout(Rollout):
    """(b) and (c): the trainer's own generation, in `trainer.train()`."""

    def trainer(self) -> Any:
        raise NotImplementedError

    def count_calls(self, trainer: Any, rule: CountingDown) -> None:
        """Have every generation counted and timed."""
        raise NotImplementedError

    def run(self, steps: int) -> None:
        trainer = self.trainer()
        self.count_calls(trainer, CountingDown(trainer.model, self.case))
        trainers.watch(trainer, self.meter)
        trainers.run(trainer, steps)


class RLOORollout(TrainerRollout):
    def trainer(self) -> RLOOTrainer:
        return RLOOTrainer(
            reward_funcs=no_reward,
            args=RLOOConfig(**trainers.settings(self.case)),
            **trainers.trainer_arguments(self.case),
        )

    def count_calls(self, trainer: RLOOTrainer, rule: CountingDown) -> None:
        generate = trainer._generate_single_turn

        def counted(prompt_ids: list[list[int]], images: Any, multimodal_fields: Any) -> list[list[int]]:
            with rule.active():
                completions = generate(prompt_ids, images, multimodal_fields)
            self.count(rule, completions)
            return completions

        trainer._generate_single_turn = counted
        self.meter.watch(trainer, "_generate_single_turn", "rollout")


def no_reward(completions: list[str], **columns: Any) -> list[float]:
    """What follows the rollout is not looked at here."""
    return [0.0] * len(completions)


class OurRollout(TrainerRollout):
    def trainer(self) -> LaTROTrainer:
        return LaTROTrainer(args=latro_config(self.case), **trainers.trainer_arguments(self.case))

    def count_calls(self, trainer: LaTROTrainer, rule: CountingDown) -> None:
        generate = trainer.engine.generate

        def counted(prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
            with rule.active():
                sampled = generate(prompt_ids, num_generations, answer_budget)
            self.count(rule, [ids for ids, _ in sampled])
            return sampled

        trainer.engine.generate = counted
        self.meter.watch(trainer.engine, "generate", "rollout")


ROLLOUTS = {"released": ReleasedRollout, "rloo": RLOORollout, "ours": OurRollout}
