# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Rewards from outside: functions of completions, as TRL's trainers take them, that are added to the self-reward.

Symbols: `N` samples, `F` functions. `None` of a function is NaN, as in TRL: it does not apply to that sample.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl import is_conversational
from trl.trainer.utils import get_callable_name, get_config_model_id, nanstd

from .answer_template import AnswerTemplate
from .grading import Grader, grade_answer, grade_completion
from .latro_config import LaTROConfig
from .loading import one_line
from .objective import Mixture
from .prompts import tokenize_prompts
from .rollout.engine import Completion
from .thinking import find_thinking
from .truncation import Truncator


RewardFunc: TypeAlias = str | PreTrainedModel | Callable[..., Any]
"""As in TRL: the name or path of a reward model, such a model, or a function, which may be async."""
RewardProcessing: TypeAlias = PreTrainedTokenizerBase | None
"""As in TRL: the tokenizer of a reward model, `None` for its own and for a function."""


class AccuracyReward:
    """
    1 where the completion's own answer is right, else 0: `reward_funcs=AccuracyReward(tokenizer, args)`.

    The answer is read and graded as in evaluation, behind the block that the model thinks in.

    Args:
        processing_class ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model that is trained.
        args ([`LaTROConfig`]):
            How the answer is written, and how the model thinks.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]):
            Compares an extracted answer with the row.
    """

    __name__ = "accuracy"

    def __init__(self, processing_class: PreTrainedTokenizerBase, args: LaTROConfig, grader: Grader = grade_answer):
        self.tokenizer = processing_class
        self.args = args
        self.template = AnswerTemplate(args.answer_template, args.answer_separator)
        self.grader = grader

    def __call__(self, prompts: list[Any], completions: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
        """Rewards of completions, `(N,)`; `columns` are those of the dataset, among others of TRL's."""
        conversational = is_conversational({"prompt": prompts[0]})
        kwargs = self.args.chat_template_kwargs or {}
        thinking = find_thinking(self.tokenizer, conversational, kwargs, self.args.thinking_tags)
        truncator = Truncator(self.tokenizer, self.args.rationale_stop_strings or [], [], thinking=thinking)
        prompt_ids = tokenize_prompts(self.tokenizer, prompts, kwargs)
        rewards = []
        of_rows = {name: values for name, values in columns.items() if isinstance(values, list)}
        for row, (ids, completion) in enumerate(zip(prompt_ids, completions, strict=True)):
            text = completion[-1]["content"] if conversational else completion
            text = truncator.behind_thinking(text, truncator.is_open_after(ids))
            example = {"prompt": prompts[row], **{name: values[row] for name, values in of_rows.items()}}
            rewards.append(float(grade_completion(text, example, self.template, self.grader).correct))
        return rewards


def function_name(function: RewardFunc) -> str:
    """The name of a reward function in metrics and tables, as TRL makes it."""
    if isinstance(function, str):
        return function.split("/")[-1]
    if isinstance(function, PreTrainedModel):
        return str(get_config_model_id(function.config).split("/")[-1])
    return get_callable_name(function)


def check_functions(
    reward_funcs: RewardFunc | list[RewardFunc] | None,
    processing_classes: RewardProcessing | list[RewardProcessing],
    args: LaTROConfig,
) -> tuple[list[RewardFunc], list[str]]:
    """
    Check reward functions, the tokenizers of reward models, and the settings that depend on whether there are any.

    Returns:
        `tuple[list[RewardFunc], list[str]]`: the functions, in a list of their own (TRL puts the models that it loads into
        it), and their names.

    Raises:
        `TypeError`: something that is no reward function. `ValueError`: a reward model that cannot be found, a setting
        without meaning, or two functions of the same name.
    """
    functions = list(reward_funcs) if isinstance(reward_funcs, list) else [reward_funcs] if reward_funcs else []
    for function in functions:
        if not isinstance(function, str | PreTrainedModel) and not callable(function):
            raise TypeError(
                f"`reward_funcs` has {function!r}, but must be functions, or reward models by name or as objects."
            )
        if isinstance(function, str):
            _check_model(function, args)
    names = [function_name(function) for function in functions]
    taken = [name for name in names if names.count(name) > 1 or name == "reward"]
    if taken:
        raise ValueError(
            f"`reward_funcs` are called {names}, but each needs a name of its own in the logs, where 'reward' is their sum: "
            f"rename {taken[0]!r}."
        )
    number = len(processing_classes) if isinstance(processing_classes, list) else 1
    if processing_classes is not None and number != len(functions):
        raise ValueError(
            f"`reward_processing_classes` has {number} tokenizers, but there are {len(functions)} `reward_funcs`: give one for "
            "each, `None` for a function, or leave them unset."
        )
    _check_weights(names, args)
    if functions:
        return functions, names
    if args.self_reward_weight == 0:
        raise ValueError(
            "`self_reward_weight` is 0, but there are no `reward_funcs`, so no sample would have a reward: pass some, or "
            "leave it at 1."
        )
    if args.self_reward_when != "always":
        raise ValueError(
            f"`self_reward_when` is {args.self_reward_when!r}, but without `reward_funcs` nothing is verified: pass some, or "
            "leave it at 'always'."
        )
    if args.self_reward_weight != 1 and args.reward.of_group is not None:
        raise ValueError(
            f"`self_reward_weight` is {args.self_reward_weight}, but the reward {args.reward_type!r} is relative to the "
            "prompt's own likelihoods, so without `reward_funcs` it changes nothing: leave it at 1."
        )
    return functions, names


def _check_model(name: str, args: LaTROConfig) -> None:
    revision = (args.model_init_kwargs or {}).get("revision")  # as TRL loads it
    try:
        AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`reward_funcs` has {name!r}, which should be the name or path of a reward model, but cannot be read: "
            f"{one_line(error)}. Give the model's folder, or pass a function, as in `AccuracyReward(tokenizer, args)`."
        ) from error


def _check_weights(names: list[str], args: LaTROConfig) -> None:
    weights = args.reward_weights
    if weights is None:
        return
    if len(weights) != len(names):
        named = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"`reward_weights` are {weights}, but there are {len(names)} `reward_funcs`{named}: give each its weight."
        )
    if not any(weights) and args.self_reward_weight == 0:
        raise ValueError(
            f"`reward_weights` are {weights} and `self_reward_weight` is 0, so no sample would have a reward: raise one of "
            "them."
        )
    if args.reward.of_group is not None and min(weights) < 0:
        raise ValueError(
            f"`reward_weights` are {weights}, but with the reward {args.reward_type!r} they weigh likelihoods, which cannot "
            "be negative: use another `reward_type`, or weights of 0 and more."
        )


def check_likelihoods(rewards: Tensor, weights: Tensor, names: list[str]) -> None:
    """
    Check rewards `(N, F)` that enter as likelihoods.

    Raises:
        `ValueError`: a weighted reward outside [0, 1].
    """
    for name, weight, column in zip(names, weights.tolist(), rewards.unbind(1), strict=True):
        bad = column[~column.isnan() & ((column < 0) | (column > 1))]
        if weight != 0 and len(bad) > 0:
            raise ValueError(
                f"The reward function {name!r} gives {bad[0].item()}, but with `reward_type='jepo'` rewards are likelihoods, "
                "from 0 to 1: scale it, or use another `reward_type`."
            )


def mix(
    outside: Tensor | None,
    rows: Tensor,
    weights: Tensor,
    self_reward_weight: float,
    self_reward_when: str,
    num_generations: int,
) -> Mixture | None:
    """
    Combine rewards from outside with the self-reward; `None` where that is all there is.

    Args:
        outside (`torch.Tensor` of shape `(M, F)`, *optional*):
            Rewards of the functions for all samples that were drawn together.
        rows (`torch.Tensor` of shape `(N,)`):
            Which of these samples, the `num_generations` of a prompt adjacent.
        weights (`torch.Tensor` of shape `(F,)`):
            Their weights.
        self_reward_weight (`float`):
            Weight of the self-reward.
        self_reward_when (`str`):
            `"always"`, or `"unverified"`: where no weighted reward of the prompt is above 0.
        num_generations (`int`):
            Rationales per prompt, K.
    """
    if outside is None and self_reward_weight == 1.0:
        return None
    rewards = weights.new_zeros(len(rows), 0) if outside is None else outside[rows]  # (N, F)
    weighted = rewards * weights  # (N, F)
    self_weights = torch.full_like(weighted.sum(1), self_reward_weight)  # (N,)
    if self_reward_when == "unverified":
        verified = (weighted.nan_to_num() > 0).view(-1, num_generations * rewards.size(1)).any(1)  # (G,)
        self_weights = self_weights.where(~verified.repeat_interleave(num_generations), 0.0)
    applies = ~rewards.isnan().all(1)  # (N,)
    return Mixture(self_weights, weighted.nansum(1), counts=applies | (self_weights > 0))


def function_metrics(rewards: Tensor, names: Sequence[str]) -> dict[str, float]:
    """TRL's metrics of rewards `(N, F)`: mean and standard deviation of each function where it applies."""
    metrics = {}
    for name, column in zip(names, rewards.unbind(1), strict=True):
        metrics[f"rewards/{name}/mean"] = column.nanmean().item()
        metrics[f"rewards/{name}/std"] = nanstd(column).item()
    return {name: value for name, value in metrics.items() if value == value}  # NaN where it applies nowhere


def what_functions_see(
    completions: list[Completion], truncator: Truncator, conversational: bool
) -> tuple[list[Any], list[list[int]]]:
    """Texts of whole completions, messages for conversational prompts, and their tokens."""
    ids = [one.as_one().sampled_ids for one in completions]
    texts = [truncator.decode(truncator.until_eos(sampled)) for sampled in ids]
    return [[{"role": "assistant", "content": text}] for text in texts] if conversational else texts, ids


def add_columns(table: list[dict[str, Any]], pending: dict[str, list[Any]]) -> None:
    """
    Add what reward functions of this process have passed to `log_extra` to its rows of the completions table, and clear it.

    Raises:
        `ValueError`: another number of values than of samples, or a column that the table has.
    """
    for name, values in pending.items():
        if len(values) != len(table):
            raise ValueError(
                f"A reward function gives `log_extra({name!r}, ...)` {len(values)} values for {len(table)} completions: call "
                "it once for a column, with one value for each."
            )
        for row, value in zip(table, values, strict=True):
            if name in row or name == "answer_logp":
                raise ValueError(
                    f"A reward function calls `log_extra({name!r}, ...)`, but the completions table has this column: choose "
                    "another name."
                )
            row[name] = value
    pending.clear()


def gather_metrics(pending: dict[str, list[float]]) -> dict[str, float]:
    """Means over all processes of what reward functions have passed to `log_metric`, which is cleared."""
    everywhere = gather_object([dict(pending)])
    pending.clear()
    names = sorted({name for one in everywhere for name in one})
    values = {name: [value for one in everywhere for value in one.get(name, [])] for name in names}
    return {name: sum(of_name) / len(of_name) for name, of_name in values.items()}
