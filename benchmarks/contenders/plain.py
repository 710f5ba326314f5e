# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the contenders in plain PyTorch share."""

from abc import ABC, abstractmethod

from meter import Meter
from models import Case, Policy


class Plain(ABC):
    """A policy, the rows of a training step, and a meter around each step."""

    def __init__(self, case: Case, meter: Meter):
        self.case = case
        self.meter = meter
        self.policy = Policy(case)
        self.model = self.policy.model
        self.rows = [row for group in case.groups for row in group.rows]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.meter.start()
            self.step()
            self.meter.stop()

    @abstractmethod
    def step(self) -> None: ...
