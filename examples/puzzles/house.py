# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The house puzzle: a walk by a map that the prompt does not show, easy step by step and out of reach in one go.

    You are in the hall. Go north. Go up. Where are you?
    North from the hall is the cellar. Up from the cellar is the studio. The answer is studio.

What a step needs is a fact known by heart, where that of the dial needs arithmetic.
"""

import random
from dataclasses import dataclass
from typing import Self

from .common import Puzzle


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
class HouseStep:
    """A walk through one door."""

    direction: str

    def apply(self, room: str) -> str:
        return HOUSE[room][DIRECTIONS.index(self.direction)]

    def instruction(self) -> str:
        return f"Go {self.direction}."

    def working(self, before: str, after: str) -> str:
        return f"{self.direction.capitalize()} from the {before} is the {after}."


class HousePuzzle(Puzzle):
    """A start room and two to four steps; few have two, because there are only 576 of them."""

    text = "You are in the {start}. {instructions} Where are you?"

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        (count,) = rng.choices((2, 3, 4), weights=(1, 4, 5))
        return cls(rng.choice(ROOMS), tuple(HouseStep(rng.choice(DIRECTIONS)) for _ in range(count)))
