# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Word problems about a number of things that goes up and down, in two to four steps, with worked solutions."""

import json
import random
import zlib
from dataclasses import dataclass
from pathlib import Path


NAMES = ("Zoe", "Omar", "Mia", "Ben", "Lena", "Raj", "Nora", "Tom", "Aisha", "Paul")
THINGS = ("shells", "marbles", "stickers", "coins", "beads", "cards", "stamps", "pencils", "buttons", "apples")
GAINS = (
    "{name} wins {amount} at a fair.",
    "{name} finds {amount} more.",
    "{name} buys {amount} more.",
    "{name} gets {amount} from an uncle.",
)
LOSSES = (
    "{name} gives {amount} to a friend.",
    "{name} loses {amount} on the way home.",
    "{name} sells {amount} at a market.",
    "{name} leaves {amount} at school.",
)

# Of ten problems, by a checksum of their text: the same split for every seed
SPLITS = ("test", "validation", "warm_start", "warm_start", "warm_start", "train", "train", "train", "train", "train")


@dataclass(frozen=True)
class WordProblem:
    """
    A number of things and what happens to it.

    Args:
        name (`str`): Whose things they are.
        thing (`str`): What they are.
        start (`int`): How many at first.
        changes (`tuple[int, ...]`): How many are gained (above zero) or lost, step by step.
        events (`tuple[str, ...]`): The sentence of each change.
    """

    name: str
    thing: str
    start: int
    changes: tuple[int, ...]
    events: tuple[str, ...]

    @property
    def question(self) -> str:
        events = " ".join(self.events)
        return f"{self.name} has {self.start} {self.thing}. {events} How many {self.thing} does {self.name} have now?"

    @property
    def rationale(self) -> str:
        sentences, number = [f"{self.name} starts with {self.start} {self.thing}."], self.start
        for change in self.changes:
            sentences.append(f"{number} {'+' if change > 0 else '-'} {abs(change)} = {number + change}.")
            number += change
        return " ".join(sentences)

    @property
    def answer(self) -> str:
        return str(self.start + sum(self.changes))

    @property
    def split(self) -> str:
        return SPLITS[zlib.crc32(self.question.encode()) % len(SPLITS)]


def draw_problem(rng: random.Random) -> WordProblem:
    """Any problem, with numbers of which a model of 135M parameters learns sums fast. They never fall below zero."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    start = number = rng.randint(5, 20)
    changes, events = [], []
    for _ in range(rng.randint(2, 4)):
        amount = rng.randint(2, 9)
        gains = rng.random() < 0.5 or amount > number
        changes.append(amount if gains else -amount)
        events.append(rng.choice(GAINS if gains else LOSSES).format(name=name, amount=amount))
        number += changes[-1]
    return WordProblem(name, thing, start, tuple(changes), tuple(events))


def make_problems(count: int, seed: int, split: str) -> list[WordProblem]:
    """`count` different problems of a split: `"warm_start"`, `"train"`, `"validation"` or `"test"`."""
    rng = random.Random(seed)
    problems: dict[WordProblem, None] = {}  # a dict keeps the order, a set does not
    while len(problems) < count:
        problem = draw_problem(rng)
        if problem.split == split:
            problems[problem] = None
    return list(problems)


def write_problems(path: Path, problems: list[WordProblem]) -> None:
    """Write the file that `trl-latro --task` reads: the columns `question`, `answer` and `rationale`."""
    lines = [json.dumps({"question": p.question, "answer": p.answer, "rationale": p.rationale}) for p in problems]
    path.write_text("\n".join(lines) + "\n")
