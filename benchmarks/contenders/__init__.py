# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Ways to do the same training step. Each has `model`, the policy, and `run(steps)`, whose phases a `Meter` collects."""

from contenders.floor import SharedFloor, UnsharedFloor
from contenders.latro import OurLaTRO, OurLaTROUnshared
from contenders.released import Released
from contenders.rloo import RLOOWithReward


CONTENDERS = {
    "released": Released,
    "rloo": RLOOWithReward,
    "ours_unshared": OurLaTROUnshared,
    "ours": OurLaTRO,
    "floor_unshared": UnsharedFloor,
    "floor_shared": SharedFloor,
}
