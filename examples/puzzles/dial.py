# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The dial puzzle: arithmetic that is easy step by step and out of reach in one go.

    The dial shows 5. Turn right 7. Double it. What does it show?
    Right 7 from 5 is 2. Double 2 is 4. The answer is 4.

The dial has the digits 0 to 9, so every step is taken modulo 10.
"""

import random
from dataclasses import dataclass
from typing import Literal, Self

from .common import Puzzle


Turn = Literal["right", "left", "double"]
TURNS: tuple[Turn, ...] = ("right", "left", "double")


@dataclass(frozen=True)
class DialStep:
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


class DialPuzzle(Puzzle):
    """A start digit and two to four steps."""

    text = "The dial shows {start}. {instructions} What does it show?"

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        steps = []
        for _ in range(rng.randint(2, 4)):
            turn = rng.choice(TURNS)
            steps.append(DialStep(turn) if turn == "double" else DialStep(turn, rng.randint(1, 9)))
        return cls(rng.randrange(10), tuple(steps))
