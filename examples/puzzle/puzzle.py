# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The dial puzzle: a task that is easy step by step and out of reach in one go.

    The dial shows 5. Turn right 7. Double it. What does it show?
    Right 7 from 5 is 2. Double 2 is 4. The answer is 4.

The dial has the digits 0 to 9, so every step is taken modulo 10.
"""

import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


Turn = Literal["right", "left", "double"]
TURNS: tuple[Turn, ...] = ("right", "left", "double")


@dataclass(frozen=True)
class Step:
    """One instruction: `right` or `left` by `amount` (1 to 9), or `double` (whose `amount` is not used)."""

    turn: Turn
    amount: int = 0

    def apply(self, digit: int) -> int:
        if self.turn == "double":
            return 2 * digit % 10
        return (digit + self.amount if self.turn == "right" else digit - self.amount) % 10

    def instruction(self) -> str:
        return "Double it." if self.turn == "double" else f"Turn {self.turn} {self.amount}."

    def working(self, before: int, after: int) -> str:
        if self.turn == "double":
            return f"Double {before} is {after}."
        return f"{self.turn.capitalize()} {self.amount} from {before} is {after}."


@dataclass(frozen=True)
class Puzzle:
    """A start digit and two to four steps."""

    start: int
    steps: tuple[Step, ...]

    @property
    def prompt(self) -> str:
        instructions = " ".join(step.instruction() for step in self.steps)
        return f"The dial shows {self.start}. {instructions} What does it show?"

    @property
    def answer(self) -> str:
        digit = self.start
        for step in self.steps:
            digit = step.apply(digit)
        return str(digit)

    @property
    def rationale(self) -> str:
        sentences, digit = [], self.start
        for step in self.steps:
            sentences.append(step.working(digit, step.apply(digit)))
            digit = step.apply(digit)
        return " ".join(sentences)

    @property
    def held_out(self) -> bool:
        """One puzzle in ten is never trained on, by a checksum of its text: the same split for every seed."""
        return zlib.crc32(self.prompt.encode()) % 10 == 0


def draw_puzzle(rng: random.Random, held_out: bool) -> Puzzle:
    """A puzzle of two, three or four steps from one side of the split."""
    while True:
        steps = []
        for _ in range(rng.randint(2, 4)):
            turn = rng.choice(TURNS)
            steps.append(Step(turn) if turn == "double" else Step(turn, rng.randint(1, 9)))
        puzzle = Puzzle(rng.randrange(10), tuple(steps))
        if puzzle.held_out == held_out:
            return puzzle


def make_puzzles(
    count: int, seed: int, held_out: bool, draw: Callable[[random.Random, bool], Any] = draw_puzzle
) -> list[Any]:
    """`count` different puzzles from one side of the split, dial puzzles unless `draw` is that of another kind."""
    rng = random.Random(seed)
    puzzles: dict[Any, None] = {}  # a dict keeps the order, a set does not
    while len(puzzles) < count:
        puzzles[draw(rng, held_out)] = None
    return list(puzzles)


def is_correct(text: str, answer: str) -> bool:
    """Whether the word after "The answer is" is `answer`; text without such a word is wrong."""
    match = re.search(r"The answer is (\w+)", text)
    return match is not None and match[1] == answer


@torch.no_grad()
def write_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    puzzles: list[Any],
    sample: bool,
    max_new_tokens: int = 40,
) -> list[str]:
    """The model's text for each puzzle, greedy or sampled at temperature 1, up to its end token."""
    prompts = tokenizer(
        [puzzle.prompt for puzzle in puzzles], padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    was_training = model.training
    model.eval()
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
    ids = model.generate(**prompts, **sampling, max_new_tokens=max_new_tokens)
    model.train(was_training)
    return tokenizer.batch_decode(ids[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
