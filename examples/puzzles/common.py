# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What all kinds of puzzle share: a state, some steps that change it, and the question where they lead."""

import random
import re
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Step(Protocol):
    """One instruction, as the prompt and as the rationale say it."""

    def apply(self, state: Any) -> Any:
        """The state after it."""

    def instruction(self) -> str:
        """Its sentence in the prompt."""

    def working(self, before: Any, after: Any) -> str:
        """Its sentence in the rationale."""


@dataclass(frozen=True)
class Puzzle(ABC):
    """
    A start and two to four steps. Another kind of puzzle is a subclass with its own text and its own draw.

    Args:
        start (`Any`): The state before the first step.
        steps (`tuple[Step, ...]`): The steps.
    """

    start: Any
    steps: tuple[Step, ...]

    text: ClassVar[str]  # of the prompt, with {start} and {instructions}

    @classmethod
    @abstractmethod
    def draw(cls, rng: random.Random) -> Self:
        """Any puzzle of this kind."""

    @property
    def prompt(self) -> str:
        return self.text.format(start=self.start, instructions=" ".join(step.instruction() for step in self.steps))

    @property
    def states(self) -> list[Any]:
        """The start, and the state after each step."""
        states = [self.start]
        for step in self.steps:
            states.append(step.apply(states[-1]))
        return states

    @property
    def answer(self) -> str:
        return str(self.states[-1])

    @property
    def rationale(self) -> str:
        states = self.states
        walk = zip(self.steps, states[:-1], states[1:], strict=True)
        return " ".join(step.working(before, after) for step, before, after in walk)

    @property
    def held_out(self) -> bool:
        """One puzzle in ten is never trained on, by a checksum of its text: the same split for every seed."""
        return zlib.crc32(self.prompt.encode()) % 10 == 0


AnyPuzzle = TypeVar("AnyPuzzle", bound=Puzzle)


def draw_puzzle(kind: type[AnyPuzzle], rng: random.Random, held_out: bool) -> AnyPuzzle:
    """A puzzle from one side of the split."""
    while True:
        puzzle = kind.draw(rng)
        if puzzle.held_out == held_out:
            return puzzle


def make_puzzles(kind: type[AnyPuzzle], count: int, seed: int, held_out: bool) -> list[AnyPuzzle]:
    """`count` different puzzles of a kind from one side of the split."""
    rng = random.Random(seed)
    puzzles: dict[AnyPuzzle, None] = {}  # a dict keeps the order, a set does not
    while len(puzzles) < count:
        puzzles[draw_puzzle(kind, rng, held_out)] = None
    return list(puzzles)


def is_correct(text: str, answer: str) -> bool:
    """Whether the word after "The answer is" is `answer`; text without such a word is wrong."""
    match = re.search(r"The answer is (\w+)", text)
    return match is not None and match[1] == answer


@torch.no_grad()
def write_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, puzzles: list[AnyPuzzle], sample: bool
) -> list[str]:
    """The model's text for each puzzle, greedy or sampled at temperature 1, up to its EOS token or 40 tokens."""
    prompts = tokenizer(
        [puzzle.prompt for puzzle in puzzles], padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    was_training = model.training
    model.eval()
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
    ids = model.generate(**prompts, **sampling, max_new_tokens=40)
    model.train(was_training)
    return tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
