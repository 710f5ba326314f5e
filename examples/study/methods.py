# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The methods that the study compares. Another setting of LaTRO is one more entry of `METHODS`."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """
    A way to train.

    Args:
        title (`str`): Its name in tables.
        sees (`str`): What it learns from, beside the questions.
        objective (`dict[str, Any]`, *optional*): Settings of `LaTROConfig`, for those that `LaTROTrainer` runs.
        is_control (`bool`): Whether every question has the answer of another one: it must not learn to reason.
    """

    title: str
    sees: str
    objective: dict[str, Any] | None = None
    is_control: bool = False


PROB: dict[str, Any] = {"reward_type": "prob"}  # of the answer alone
NO_ANSWER_TERM = {"answer_coef": 0.0}
ALL = {"reward_tokens": "template_and_answer"}
ANSWERS, OTHER_ANSWERS, VERIFIER = "answers", "answers of other questions", "a verifier"

METHODS = {
    "base": Method("base model", "nothing"),
    "sft_answer": Method("SFT, answers only", ANSWERS),
    "sft_gold": Method("SFT, gold rationales", "gold rationales"),
    "rejection": Method("rejection sampling", VERIFIER),
    "posterior": Method("prompt posterior sampling", VERIFIER),
    "rlvr": Method("RLVR", VERIFIER, {"self_reward_weight": 0.0, "answer_coef": 0.0}),
    "rloo": Method("RLVR, TRL's `RLOOTrainer`", VERIFIER),
    "logprob": Method("LaTRO, `logprob`", ANSWERS, {"reward_type": "logprob"}),
    "logprob_answer": Method("LaTRO, `logprob` of the answer", ANSWERS, {"reward_tokens": "answer"}),
    "jepo": Method("LaTRO, `jepo`", ANSWERS, {"reward_type": "jepo"}),
    "power": Method("LaTRO, `power` 0.5", ANSWERS, {"reward_type": "power"}),
    "prob": Method("LaTRO, `prob`", ANSWERS, PROB),
    "prob_all": Method("LaTRO, `prob` of template and answer", ANSWERS, PROB | ALL),
    "mean_prob_all": Method("LaTRO, `mean_prob` of template and answer", ANSWERS, {"reward_type": "mean_prob"} | ALL),
    "prob_coef_0": Method("LaTRO, `prob`, `answer_coef` 0", ANSWERS, PROB | NO_ANSWER_TERM),
    "prob_frozen": Method("LaTRO, `prob`, frozen scorer", ANSWERS, PROB | {"scorer": "reference"}),
    "permuted": Method("LaTRO, `prob`, permuted answers", OTHER_ANSWERS, PROB, is_control=True),
    "permuted_coef_0": Method(
        "LaTRO, `prob`, permuted, `answer_coef` 0", OTHER_ANSWERS, PROB | NO_ANSWER_TERM, is_control=True
    ),
}

# With another coefficient of the KL than the task's
OTHER_BETAS = {
    "prob_beta_0.2": Method("LaTRO, `prob`, `beta` 0.2", ANSWERS, PROB | {"beta": 0.2}),
    "prob_beta_0.5": Method("LaTRO, `prob`, `beta` 0.5", ANSWERS, PROB | {"beta": 0.5}),
    "permuted_beta_0.2": Method("LaTRO, `prob`, permuted, `beta` 0.2", OTHER_ANSWERS, PROB | {"beta": 0.2}, True),
    "permuted_beta_0.5": Method("LaTRO, `prob`, permuted, `beta` 0.5", OTHER_ANSWERS, PROB | {"beta": 0.5}, True),
}
ALL_METHODS = METHODS | OTHER_BETAS
