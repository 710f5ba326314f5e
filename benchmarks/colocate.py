# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Whole training steps of `LaTROTrainer`, sampled by transformers and by vLLM on the same GPU.

The model is read by vLLM from a folder, so nothing can be put behind its LM head as in `rollout.py`: with random weights
next to no completion ends by itself, and all have the longest length.
"""

from typing import Any

from contenders import trainers
from meter import Meter
from models import Case
from tokenizer import ANSWER_TEMPLATE
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.rollout.engine import Sampled


ENGINES: dict[str, dict[str, Any]] = {"transformers": {}, "vllm": {"use_vllm": True, "vllm_mode": "colocate"}}


class SampledSteps:
    """
    A training with one engine. After `run`, `decoded` has the tokens that each rollout sampled.

    Args:
        engine (`str`): One of `ENGINES`.
        case (`Case`): What is measured.
        meter (`Meter`): Collects the seconds of the phases "rollout", "sync" (vLLM is given the weights), "scoring" and
            "training".
    """

    def __init__(self, engine: str, case: Case, meter: Meter):
        self.decoded: list[int] = []
        arguments = trainers.trainer_arguments(case)
        if engine == "vllm":
            case.tokenizer.save_pretrained(case.folder)
            arguments["model"].save_pretrained(case.folder)
            arguments["model"].name_or_path = str(case.folder)  # where TRL has vLLM read it
        args = LaTROConfig(answer_template=ANSWER_TEMPLATE, **trainers.settings(case), **ENGINES[engine])
        self.trainer = LaTROTrainer(args=args, **arguments)
        trainers.watch(self.trainer, meter)
        if engine == "vllm":
            meter.watch(self.trainer.engine, "sync_weights", "sync")
        self._count_tokens()
        meter.watch(self.trainer.engine, "generate", "rollout")

    def _count_tokens(self) -> None:
        generate = self.trainer.engine.generate

        def counted(prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
            sampled = generate(prompt_ids, num_generations, answer_budget)
            self.decoded.append(sum(len(ids) for ids, _ in sampled))
            return sampled

        self.trainer.engine.generate = counted

    def run(self, steps: int) -> None:
        trainers.run(self.trainer, steps)
