# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""The arguments of a training with LaTRO: rewards from outside, and how much the console shows."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..latro_config import LaTROConfig
from ..outside_rewards import AccuracyReward
from .common import TrainArguments
from .task_arguments import find_function


@dataclass
class RewardArguments(TrainArguments):
    """
    Arguments of a training with LaTRO: those of [`TrainArguments`] and

    Args:
        reward_funcs (`list[str]`, *optional*):
            Rewards that are added to the self-reward: `"accuracy"`, by the task's grader on the completion's own answer, or
            functions as TRL takes them, as `"module.function"`.
        verbose (`bool`, *optional*, defaults to `False`):
            Whether to print all metrics of a log, as transformers does, instead of a line.
    """

    reward_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": "Rewards that are added to the self-reward: accuracy (by the task's grader, on the completion's own "
            "answer), or functions (prompts, completions, **kwargs) -> rewards as module.function."
        },
    )
    verbose: bool = field(default=False, metadata={"help": "Whether to print all metrics of a log instead of a line."})

    def find_reward_functions(self) -> list[Callable[..., Any] | None]:
        """The functions; `None` stands for accuracy. Raises `ValueError` for one that cannot be found or called."""
        return [None if name == "accuracy" else find_reward_function(name) for name in self.reward_funcs or []]

    def make_reward_functions(
        self, tokenizer: PreTrainedTokenizerBase, training_args: LaTROConfig
    ) -> list[Callable[..., Any]]:
        """The functions, that of accuracy for this tokenizer and these settings."""
        accuracy = AccuracyReward(tokenizer, training_args, self.get_task().grader)
        return [accuracy if function is None else function for function in self.find_reward_functions()]


def find_reward_function(name: str) -> Callable[..., Any]:
    """
    The function of the name `"module.function"`, see [`find_function`].

    Raises:
        `ValueError`: no such function, or one that does not take what TRL passes.
    """
    if "." not in name:
        raise ValueError(f"reward_funcs is {name!r}, but should be 'accuracy' or 'module.function'.")
    function = find_function(name, "reward_funcs", example="my_rewards.is_short")
    wanted = "it should take completions and more: def is_short(completions, **kwargs): ..."
    try:
        signature = inspect.signature(function)
    except ValueError as error:  # compiled, without a signature
        raise ValueError(f"reward_funcs is {name!r}, whose arguments Python does not know, but {wanted}") from error
    passed = ("prompts", "completions", "completion_ids", "answer", "trainer_state", "log_extra", "log_metric")
    try:
        signature.bind(**dict.fromkeys(passed))
    except TypeError as error:
        raise ValueError(f"reward_funcs is {name!r}, whose arguments are {signature}, but {wanted}") from error
    return function
