# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the study of collapse compares: objectives on the weak house."""

from typing import Any

from torch import Tensor

from trl_latro.objective import logprob


TASK = "weak_house"
STEPS = 60
LOOKS = (0, 5, 10, 20, 40, 60)  # after how many updates the model is evaluated
TEST_PUZZLES = 300
TEST_SAMPLES = 4  # per puzzle, at temperature 1
TAU = 0.5


def half_power(logps: Tensor, mask: Tensor) -> Tensor:
    """`(p^tau - 1) / tau` with `tau = 1/2`: between `prob`, at 1, and `logprob`, at 0."""
    return ((TAU * logprob(logps, mask)).exp() - 1) / TAU  # (B,)


# Method -> its settings of `LaTROConfig`
OBJECTIVES: dict[str, dict[str, Any]] = {
    "logprob": {"reward_type": "logprob"},
    "jepo": {"reward_type": "jepo"},
    "prob_all": {"reward_type": "prob", "reward_tokens": "template_and_answer"},
    "prob": {"reward_type": "prob", "reward_tokens": "answer"},
    "half_power": {"reward_type": half_power},
    "logprob_answer_0.1": {"reward_type": "logprob", "answer_coef": 0.1},
    "logprob_answer_0": {"reward_type": "logprob", "answer_coef": 0.0},
}
# Method -> its name in the tables
METHODS = {
    "logprob": "`logprob`",
    "jepo": "`jepo`",
    "prob_all": "`prob` of template and answer",
    "prob": "`prob` of the answer",
    "half_power": "`((p^0.5) - 1) / 0.5`",
    "logprob_answer_0.1": "`logprob`, `answer_coef` 0.1",
    "logprob_answer_0": "`logprob`, `answer_coef` 0",
}
