# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""(c) `LaTROTrainer`, through `trainer.train()`. Its completions are given; everything else is the trainer itself."""

from contenders import trainers
from meter import Meter
from models import Case
from tokenizer import ANSWER_TEMPLATE, stop_ids
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.rollout.engine import RolloutEngine, Sampled


class GivenCompletions(RolloutEngine):
    """`case` has the completions, which end with the stop string as sampled ones do."""

    def __init__(self, trainer: LaTROTrainer, case: Case):
        super().__init__(trainer.truncator, trainer.max_completion_length)
        self.case = case

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        rationales = trainers.given_rationales(self.case, prompt_ids, stop_ids(self.case.tokenizer))
        return [Sampled(ids) for ids in rationales]


def config(case: Case, share_prompts: bool = True) -> LaTROConfig:
    return LaTROConfig(answer_template=ANSWER_TEMPLATE, share_prompts=share_prompts, **trainers.settings(case))


class OurLaTRO:
    share_prompts = True

    def __init__(self, case: Case, meter: Meter):
        args = config(case, self.share_prompts)
        self.trainer = LaTROTrainer(args=args, **trainers.trainer_arguments(case))
        self.trainer.engine = GivenCompletions(self.trainer, case)
        self.model = self.trainer.model
        trainers.watch(self.trainer, meter)
        meter.watch(self.trainer.engine, "generate", "rollout")

    def run(self, steps: int) -> None:
        trainers.run(self.trainer, steps)


class OurLaTROUnshared(OurLaTRO):
    """The same with `share_prompts=False`: what the shared prompt saves."""

    share_prompts = False
