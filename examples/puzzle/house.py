# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The house puzzle: a walk by a map that the prompt does not show, easy step by step and out of reach in one go.

    You are in the hall. Go north. Go up. Where are you?
    North from the hall is the cellar. Up from the cellar is the studio. The answer is studio.

It has the interface of the dial puzzle (`puzzle.py`), but what a step needs is a fact known by heart, not arithmetic.
"""

import random
import zlib
from dataclasses import dataclass


DIRECTIONS = ("north", "south", "east", "west", "up", "down")
# Where the door in each direction leads: drawn once by chance. Doors do not lead back. Each direction reaches every
# room from exactly one other, so that all rooms are equally likely answers.
HOUSE = {
    # room: (north, south, east, west, up, down)
    "attic": ("lobby", "bathroom", "hall", "office", "library", "lobby"),
    "bathroom": ("parlor", "studio", "nursery", "nursery", "laundry", "pantry"),
    "bedroom": ("garage", "pantry", "lobby", "closet", "kitchen", "closet"),
    "cellar": ("bathroom", "attic", "pantry", "hall", "studio", "office"),
    "closet": ("library", "bedroom", "attic", "studio", "parlor", "studio"),
    "garage": ("bedroom", "closet", "cellar", "lobby", "closet", "cellar"),
    "hall": ("cellar", "parlor", "closet", "attic", "lobby", "parlor"),
    "kitchen": ("nursery", "office", "garage", "laundry", "cellar", "bathroom"),
    "laundry": ("pantry", "kitchen", "library", "cellar", "pantry", "nursery"),
    "library": ("kitchen", "laundry", "bathroom", "parlor", "bathroom", "kitchen"),
    "lobby": ("laundry", "cellar", "studio", "pantry", "attic", "laundry"),
    "nursery": ("closet", "lobby", "laundry", "kitchen", "hall", "attic"),
    "office": ("attic", "library", "parlor", "bathroom", "garage", "bedroom"),
    "pantry": ("hall", "garage", "bedroom", "library", "bedroom", "hall"),
    "parlor": ("studio", "hall", "office", "garage", "office", "garage"),
    "studio": ("office", "nursery", "kitchen", "bedroom", "nursery", "library"),
}
ROOMS = tuple(HOUSE)


@dataclass(frozen=True)
class Step:
    """A walk through one door."""

    direction: str

    def apply(self, room: str) -> str:
        return HOUSE[room][DIRECTIONS.index(self.direction)]

    def instruction(self) -> str:
        return f"Go {self.direction}."

    def working(self, before: str, after: str) -> str:
        return f"{self.direction.capitalize()} from the {before} is the {after}."


@dataclass(frozen=True)
class Puzzle:
    """A start room and two to four steps."""

    start: str
    steps: tuple[Step, ...]

    @property
    def prompt(self) -> str:
        instructions = " ".join(step.instruction() for step in self.steps)
        return f"You are in the {self.start}. {instructions} Where are you?"

    @property
    def answer(self) -> str:
        room = self.start
        for step in self.steps:
            room = step.apply(room)
        return room

    @property
    def rationale(self) -> str:
        sentences, room = [], self.start
        for step in self.steps:
            sentences.append(step.working(room, step.apply(room)))
            room = step.apply(room)
        return " ".join(sentences)

    @property
    def held_out(self) -> bool:
        """One puzzle in ten is never trained on, by a checksum of its text: the same split for every seed."""
        return zlib.crc32(self.prompt.encode()) % 10 == 0


def draw_puzzle(rng: random.Random, held_out: bool) -> Puzzle:
    """A puzzle from one side of the split; few have two steps, because there are only 576 of them."""
    while True:
        (count,) = rng.choices((2, 3, 4), weights=(1, 4, 5))
        puzzle = Puzzle(rng.choice(ROOMS), tuple(Step(rng.choice(DIRECTIONS)) for _ in range(count)))
        if puzzle.held_out == held_out:
            return puzzle
