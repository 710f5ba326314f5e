# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""(c) `LaTROTrainer`, through `trainer.train()`. Its completions are given; everything else is the trainer itself."""

from typing import Any

from contenders import trainers
from meter import Meter
from models import Case
from tokenizer import ANSWER_TEMPLATE, stop_ids
from trl_latro import LaTROConfig, LaTROTrainer


class GivenCompletions(LaTROTrainer):
    """`case` has the completions, which end with the stop string as sampled ones do."""

    case: Case

    def _roll_out(self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any) -> list[list[int]]:
        return trainers.given_rationales(self.case, prompt_ids, stop_ids(self.case.tokenizer))


def config(case: Case, share_prompts: bool = True) -> LaTROConfig:
    return LaTROConfig(answer_template=ANSWER_TEMPLATE, share_prompts=share_prompts, **trainers.settings(case))


class OurLaTRO:
    share_prompts = True

    def __init__(self, case: Case, meter: Meter):
        args = config(case, self.share_prompts)
        self.trainer = GivenCompletions(args=args, **trainers.trainer_arguments(case))
        self.trainer.case = case
        self.model = self.trainer.model
        trainers.watch(self.trainer, meter)

    def run(self, updates: int) -> None:
        trainers.run(self.trainer, updates)


class OurLaTROUnshared(OurLaTRO):
    """The same with `share_prompts=False`: what the shared prompt saves."""

    share_prompts = False
