# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the study of collapse compares: objectives on the weak house."""

from dataclasses import dataclass
from typing import Any

from trl_latro import LaTROTrainer

from .cures import AnswerTermPhasedIn, AnswerTermWherePositive


TASK = "weak_house"
STEPS = 60
LOOKS = (0, 5, 10, 20, 40, 60)  # after how many steps the model is evaluated
TEST_PUZZLES = 300
TEST_SAMPLES = 4  # per puzzle, at temperature 1
GUESS = 1 / 16  # the probability of a room that is guessed


@dataclass(frozen=True)
class Objective:
    """
    An objective.

    Args:
        name (`str`): Its name in the tables.
        settings (`dict[str, Any]`): Fields of `LaTROConfig`.
        seeds (`tuple[int, ...]`): Those of the study; one where it falls to guessing at once.
        trainer (`type[LaTROTrainer]`): Its trainer.
    """

    name: str
    settings: dict[str, Any]
    seeds: tuple[int, ...] = (0, 1, 2)
    trainer: type[LaTROTrainer] = LaTROTrainer


OBJECTIVES: dict[str, Objective] = {
    "logprob": Objective("`logprob`", {"reward_type": "logprob"}),
    "logprob_answer_0.1": Objective(
        "`logprob`, `answer_coef` 0.1", {"reward_type": "logprob", "answer_coef": 0.1}, (0,)
    ),
    "logprob_answer_0": Objective("`logprob`, `answer_coef` 0", {"reward_type": "logprob", "answer_coef": 0.0}),
    "logprob_phased_in": Objective(
        "`logprob`, `answer_coef` 0 to 1", {"reward_type": "logprob"}, seeds=(0,), trainer=AnswerTermPhasedIn
    ),
    "logprob_positive": Objective(
        "`logprob`, answer term where A > 0", {"reward_type": "logprob"}, seeds=(0,), trainer=AnswerTermWherePositive
    ),
    "jepo": Objective("`jepo`", {"reward_type": "jepo"}),
    "jepo_floor": Objective("`jepo`, `jepo_floor` 1/16", {"reward_type": "jepo", "jepo_floor": GUESS}),
    "prob_all": Objective(
        "`prob` of template and answer",
        {"reward_type": "prob", "reward_tokens": "template_and_answer"},
        seeds=(0, 1),
    ),
    "prob": Objective("`prob` of the answer", {"reward_type": "prob"}),
    "power": Objective("`power` 0.5 of the answer", {"reward_type": "power"}),
    "power_1_to_0": Objective(
        "`power` 1 to 0 of the answer", {"reward_type": "power", "reward_power": 1.0, "reward_power_end": 0.0}
    ),
    "power_all": Objective(
        "`power` 0.5 of template and answer",
        {"reward_type": "power", "reward_tokens": "template_and_answer"},
        seeds=(0,),
    ),
}
