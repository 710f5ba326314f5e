# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A trainer whose completions are written down beforehand, and the completions: everything but the sampling is real."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerFast

import tiny
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.rollout.engine import Completion, RolloutEngine, Sampled


NUM_GENERATIONS = 4

# How a rationale ended: at the stop string, at an end token, or at the length limit
STOP, END, OTHER_END, LIMIT = "stop", "end", "other end", "limit"

# Prompt, answer, and the completions of the prompt; "|" in a text is where the token ids are not those the tokenizer
# would choose for the whole text (the two parts are tokenized on their own), as sampling may well have it
SAMPLES: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "What is 1 + 2?\n",
        "3",
        [
            ("1 + 2 = 3. The answer is", STOP),
            ("I gu|ess.", END),
            ("First, dou|ble it", LIMIT),
            ("", END),
        ],
    ),
    (
        "Let's think step by step. 12 apples, she eats 3 of them.",
        "nine (9)",
        [
            ("The answer is", STOP),
            ("There are 12 apples,\nThe ans|wer is", STOP),
            ("Then add 5. So the answer is not known", LIMIT),
            ("12 - 3 = 9.", END),
        ],
    ),
    (
        "2 * 7?",
        "9 or 14",
        [
            ("step", LIMIT),
            ("2 * 7 = 14.  The answer is", STOP),
            ("So", END),
            ("So|So The answer is", STOP),
        ],
    ),
]


# What two functions give these completions: a verdict, right in no completion of the second prompt, and a share that does
# not always apply
VERDICTS: list[list[float | None]] = [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
SHARES: list[list[float | None]] = [[0.5, None, 0.25, 1.0], [0.25, 0.125, None, None], [None, 0.0, 0.75, None]]


def _look_up(table: list[list[float | None]], prompts: list[Any], completions: list[Any]) -> list[float | None]:
    """What the table gives completions; a `KeyError` for one that is not as it was sampled."""
    found = {
        (prompt, text.replace("|", "")): value
        for (prompt, _, samples), values in zip(SAMPLES, table, strict=True)
        for (text, _), value in zip(samples, values, strict=True)
    }
    texts = (
        (p, c) if isinstance(p, str) else (p[-1]["content"], c[-1]["content"])
        for p, c in zip(prompts, completions, strict=True)
    )
    return [found[key] for key in texts]


def verdict(prompts: list[Any], completions: list[Any], **kwargs: Any) -> list[float | None]:
    return _look_up(VERDICTS, prompts, completions)


async def share(prompts: list[Any], completions: list[Any], **kwargs: Any) -> list[float | None]:
    return _look_up(SHARES, prompts, completions)


@dataclass
class Generation:
    """One call for completions: the parameters it was made with, and the samples of each prompt."""

    policy: dict[str, torch.Tensor]
    groups: list[tuple[list[int], list[list[int]]]]


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def logps_of_sample(model: nn.Module, prompt_ids: list[int], sample: list[int]) -> list[float]:
    """Log-probs of a sample's tokens, as an engine gives them."""
    logps = model(input_ids=torch.tensor([prompt_ids + sample])).logits[0].log_softmax(-1)  # (L, V)
    return [logps[len(prompt_ids) - 1 + i, token].item() for i, token in enumerate(sample)]


class GivenCompletions(RolloutEngine):
    """
    Completions written down beforehand: `completions[prompt ids]` are the K samples. With a `sampler` the engine gives
    log-probs, as if it had drawn them from this model.
    """

    sampler: nn.Module | None = None

    def __init__(self, trainer: LaTROTrainer, completions: dict[tuple[int, ...], list[list[int]]]):
        super().__init__(trainer.truncator, trainer.max_completion_length)
        self.model = trainer.model
        self.completions = completions
        self.generations: list[Generation] = []

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        groups = [(list(ids), self.completions[tuple(ids)]) for ids in prompt_ids[::num_generations]]
        self.generations.append(Generation(snapshot(self.model), groups))
        if self.sampler is None:
            return [Sampled(list(sample)) for _, samples in groups for sample in samples]
        return [
            Sampled(list(sample), logps_of_sample(self.sampler, ids, sample))
            for ids, samples in groups
            for sample in samples
        ]


class TrainerGivenCompletions(LaTROTrainer):
    """The trainer, its completions written down beforehand."""

    engine: GivenCompletions

    def __init__(self, *args, completions: dict[tuple[int, ...], list[list[int]]], **kwargs):
        super().__init__(*args, **kwargs)
        self.engine = GivenCompletions(self, completions)


def watch_completions(trainer: LaTROTrainer) -> list[Completion]:
    """A list that holds the completions of the last roll-out, from now on."""
    seen: list[Completion] = []
    roll_out = trainer.engine.roll_out

    def watched(*args: Any) -> list[Completion]:
        seen[:] = roll_out(*args)
        return list(seen)

    trainer.engine.roll_out = watched
    return seen


def sample_ids(tokenizer: PreTrainedTokenizerFast, text: str, how: str) -> list[int]:
    ids = [i for part in text.split("|") for i in tokenizer(part, add_special_tokens=False)["input_ids"]]
    if how == END:
        ids.append(tokenizer.eos_token_id)
    elif how == OTHER_END:
        ids.append(tokenizer.convert_tokens_to_ids(tiny.END_OF_TURN))
    return ids


def lora_config(dropout: float = 0.0) -> LoraConfig:
    return LoraConfig(r=2, target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM")


@torch.no_grad()
def scored_completions(trainer: LaTROTrainer, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Completions with their rewards, also where it is the loss that scores."""
    batch = trainer._generate_and_score_completions(inputs)
    if "advantages" in batch:
        return batch
    return batch | trainer._reward(trainer._score(trainer.model, batch), batch)


@torch.no_grad()
def perturb(model: nn.Module, seed: int, size: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += size * torch.randn(parameter.shape, generator=generator)


def cpu_config(path: str, **settings: Any) -> LaTROConfig:
    """A configuration for the CPU that says nothing to anyone, with the groups of `SAMPLES`; `settings` go first."""
    defaults = {
        "num_generations": NUM_GENERATIONS,
        "per_device_train_batch_size": 12,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 64,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
    }
    return LaTROConfig(output_dir=path, **{**defaults, **settings})
