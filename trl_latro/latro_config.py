# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import pickle
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trl import RLOOConfig
from trl.trainer.utils import get_callable_name

from .answer_template import AnswerTemplate
from .field_checks import check_fields, check_schedule
from .objective import REWARDS, Reward, RowReward, check_row_reward, log_mean_prob, power
from .rollout.sampling_settings import check_sampling_settings


@dataclass
class LaTROConfig(RLOOConfig):
    r"""
    Configuration class for the [`LaTROTrainer`].

    This class includes only the parameters that LaTRO adds to [`~trl.RLOOConfig`], and the defaults that it changes to
    the settings of the paper (https://huggingface.co/papers/2411.04282, section 5): 16 rationales per prompt, 4 x 12
    samples per device and step (24 prompts x 16 samples on 8 GPUs), KL coefficient 0.05, learning rate 5e-7 with
    linear decay and no warm-up.

    Parameters:
        > Parameters that control the rationale and the answer

        answer_template (`str`, *optional*, defaults to `"The answer is {answer}."`):
            Text that is scored after the rationale. `{answer}` stands for the row's answer; every other character,
            braces too, stands for itself.
        answer_separator (`str`, *optional*, defaults to `" "`):
            Text between rationale and answer where the rationale ended with an EOS token or at the length limit. A
            rationale that reached a stop string keeps the white space that the model put there.
        rationale_stop_strings (`list[str]`, *optional*):
            Where a rationale ends, besides EOS tokens. If `None`, the template's text before `{answer}` without
            trailing white space (`["The answer is"]`). An empty list leaves EOS tokens only.
        thinking_tags (`list[str]`, *optional*):
            The two tags between which the model thinks, as in `["<think>", "</think>"]`. A rationale is then what is
            thought: it ends where the block does, a stop string inside does not count, and the answer is scored behind the
            closed block. If `None`, what the chat template says; an empty list for a model that does not think. Where the
            chat template closes the block at once, as Qwen3's does with `chat_template_kwargs={"enable_thinking": False}`,
            thinking is off and the rationale is the visible text.
        answer_max_length (`int`, *optional*):
            Limit of an answer's tokens, including what follows it and the end-of-turn token, but not the template before
            it. A longer answer raises an error before training. If `None`, there is no limit.
        truncate_answers (`bool`, *optional*, defaults to `False`):
            Whether to truncate longer answers to `answer_max_length` instead, without an end-of-turn token.

        > Parameters that control the objective

        reward_type (`str` or `Callable`, *optional*, defaults to `"logprob"`):
            Reward `R` of a rationale, a function of the per-token log-probs of the answer after it: `"logprob"`
            (LaTRO, their sum), `"prob"`, `"mean_prob"`, `"geometric_mean"`, `"jepo"` or `"power"`. Or a function defined at
            the top level of a module, `(logps, mask) -> rewards`, on tensors of shape `(B, T)`, `(B, T)` and `(B,)`,
            differentiable in `logps`.
        reward_power (`float`, *optional*, defaults to `0.5`):
            `tau` of `reward_type="power"`, `R = (p^tau - 1) / tau` with the probability `p`, in [0, 1]: 1 is `"prob"`, less
            1, and 0 is `"logprob"`.
        reward_power_end (`float`, *optional*):
            `tau` at the end of training, reached linearly over the optimizer steps. If `None`, `tau` is constant.
        jepo_floor (`float`, *optional*, defaults to `0.0`):
            With `reward_type="jepo"`, added to the mean probability of a prompt's rationales before the logarithm, in
            [0, 1]. At about the probability of a guess, prompts whose rationales do no better teach nothing. 0 is JEPO.
        reward_tokens (`str`, *optional*):
            Tokens that `R` is a function of: `"template_and_answer"` (all that are scored, as in the paper) or `"answer"`
            (the answer's own and what follows; in the answer term the template's have the mean weight of these). If `None`,
            by the reward: `"answer"` for `"prob"`, `"mean_prob"`, `"geometric_mean"` and `"power"`, all for the others.
        answer_coef (`float`, *optional*, defaults to `1.0`):
            Coefficient of the answer term, the second term of the paper's Eq. 4. `0.0` gives the loss of the paper's
            released code.
        self_reward_weight (`float`, *optional*, defaults to `1.0`):
            Weight of `R` beside the rewards of `reward_funcs`. The answer term does not depend on it. With 0 and
            `answer_coef=0.0`, no reference answer is scored, and the whole completion is trained on (RLVR).
        self_reward_when (`str`, *optional*, defaults to `"always"`):
            Which prompts get `R`: all (`"always"`), or those for which no weighted reward of `reward_funcs` is above 0
            (`"unverified"`, as in JEPO, https://huggingface.co/papers/2503.19618).
        scorer (`str`, *optional*, defaults to `"policy"`):
            Whose log-probs `R` is a function of: `"policy"`, as in the paper, or `"reference"`, the frozen initial model.
            The answer term is the policy's. The reference is then loaded with `beta=0.0` too.
        unfinished_penalty (`float`, *optional*, defaults to `2.0`):
            Subtracted from the reward of a rationale that hit the length limit.
        vllm_importance_sampling_correction (`bool`, *optional*, defaults to `True`):
            Whether to weight each sample by its importance ratio (the rationale's probability under the policy over that
            under the engine), if the engine gives the log-probs of its samples, as vLLM does.
        vllm_importance_sampling_clip_max (`float`, *optional*, defaults to `3.0`):
            Largest importance ratio; larger ones are truncated to it.
        monitor_collapse (`bool`, *optional*, defaults to `True`):
            Whether to warn when training begins to teach the model to stop reasoning, see [`CollapseMonitor`]. In every tenth
            rollout it also scores the answers of a few prompts without a rationale.
        stop_on_collapse (`bool`, *optional*, defaults to `False`):
            Whether to end training at that warning, without another checkpoint. Earlier checkpoints are kept.
        skip_nonfinite_steps (`bool`, *optional*, defaults to `False`):
            Whether to skip a step whose rewards or gradient are NaN or infinite, with a line in the log. `False` ends training
            with an error that names the prompts, and leaves the checkpoints as they are. Not with DeepSpeed, which takes the
            step by itself.

        > Parameters that control the computation

        share_prompts (`bool`, *optional*, defaults to `True`):
            Whether rationales in one forward share their prompt, which is then computed once, in a sequence without padding.
            Results are those of separate rows, up to rounding. For Llama, Mistral, Phi-3, Qwen2, Qwen3 and Gemma 3 with
            `sdpa` attention; other models use separate rows, and the log says so.

    > [!NOTE]
    > These parameters have default values different from [`~trl.RLOOConfig`]:
    > - `num_generations`: Defaults to `16` instead of `2`.
    > - `per_device_train_batch_size`: Defaults to `16` instead of `8`.
    > - `gradient_accumulation_steps`: Defaults to `3` instead of `1`.
    > - `per_device_eval_batch_size`: Defaults to `16` instead of `8`.
    > - `learning_rate`: Defaults to `5e-7` instead of `1e-6`.
    > - `disable_dropout`: Defaults to `True` instead of `False`.

    Raises:
        `ValueError`: a setting with which the log-probs would not be those of the sampled rationales, or without
        meaning (see the message).
    """

    # Parameters whose default values are overridden from RLOOConfig
    num_generations: int = field(
        default=16,
        metadata={
            "help": "Number of rationales to sample per prompt. The effective batch size (num_processes * "
            "per_device_batch_size * gradient_accumulation_steps) must be evenly divisible by this value."
        },
    )
    # All samples of a prompt, which then share it and need no scoring pass
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Samples per device and forward."})
    gradient_accumulation_steps: int = field(
        default=3, metadata={"help": "Number of forward and backward passes per step."}
    )
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Samples per device in evaluation."})
    learning_rate: float = field(default=5e-7, metadata={"help": "The initial learning rate for AdamW."})
    disable_dropout: bool = field(
        default=True,
        metadata={"help": "Whether to disable dropout in the model, which would make the rewards noisy."},
    )

    # `repr` of a dataclass would show it
    hub_token: str | None = field(
        default=None,
        repr=False,
        metadata={"help": "Token for pushes to the Hub, in Python only; else `hf auth login` or HF_TOKEN."},
    )

    # Parameters that control the rationale and the answer
    answer_template: str = field(
        default="The answer is {answer}.",
        metadata={"help": "Text that is scored after the rationale; {answer} stands for the row's answer."},
    )
    answer_separator: str = field(
        default=" ",
        metadata={
            "help": "Text between rationale and answer where the rationale ended with an EOS token or at the length "
            "limit."
        },
    )
    rationale_stop_strings: list[str] | None = field(
        default=None,
        metadata={
            "help": "Where a rationale ends, besides EOS tokens. If not set, the template's text before {answer} "
            "without trailing white space. An empty list (nothing after the option) leaves EOS tokens only."
        },
    )
    thinking_tags: list[str] | None = field(
        default=None,
        metadata={
            "help": "The two tags between which the model thinks, as in <think> </think>; the rationale is the text between them. "
            "If not set, read from the chat template. An empty list (nothing after the option) is for a model that does not "
            "think."
        },
    )

    answer_max_length: int | None = field(
        default=None,
        metadata={
            "help": "Limit of an answer's tokens, including what follows it and the end-of-turn token, but not the template "
            "before it. A longer answer is an error. If not set, there is no limit."
        },
    )
    truncate_answers: bool = field(
        default=False,
        metadata={
            "help": "Whether to truncate longer answers to answer_max_length instead, without an end-of-turn token."
        },
    )

    # Parameters that control the objective. The order of the types and the `None` are for the command line's parser, which
    # takes the second of three; the checks refuse `None`.
    reward_type: RowReward | str | None = field(
        default="logprob",
        metadata={
            "help": "Reward of a rationale, from the log-probs of the answer after it: 'logprob' (LaTRO), 'prob', "
            "'mean_prob', 'geometric_mean', 'jepo' or 'power'. In Python also a function (logps, mask) -> rewards."
        },
    )
    reward_power: float = field(
        default=0.5,
        metadata={
            "help": "tau of the reward 'power', (p^tau - 1) / tau with the probability p of the answer: 1 is 'prob' less 1, "
            "0 is 'logprob'."
        },
    )
    reward_power_end: float | None = field(
        default=None,
        metadata={"help": "tau at the end of training, reached linearly over the steps. If not set, tau is constant."},
    )
    jepo_floor: float = field(
        default=0.0,
        metadata={
            "help": "Floor of the reward 'jepo', log(floor + mean probability). At about the probability of a guess, prompts "
            "whose rationales do no better teach nothing. 0 is JEPO."
        },
    )
    reward_tokens: str | None = field(
        default=None,
        metadata={
            "help": "Tokens that the reward covers: 'template_and_answer' (as in the paper) or 'answer'. If not set, 'answer' "
            "for 'prob', 'mean_prob', 'geometric_mean' and 'power', 'template_and_answer' for the others."
        },
    )
    answer_coef: float = field(
        default=1.0,
        metadata={
            "help": "Coefficient of the answer term, the second term of the paper's Eq. 4. 0.0 gives the loss of the "
            "paper's released code."
        },
    )
    self_reward_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the self-reward (`reward_type`) beside those of `reward_funcs`. With 0 and `answer_coef` 0, the "
            "whole completion is trained on (RLVR)."
        },
    )
    self_reward_when: str = field(
        default="always",
        metadata={
            "help": "Which prompts get the self-reward: all ('always'), or those for which no weighted reward of "
            "`reward_funcs` is above 0 ('unverified')."
        },
    )
    scorer: str = field(
        default="policy",
        metadata={
            "help": "Whose log-probs give the self-reward: 'policy' (LaTRO), or 'reference', the frozen initial model."
        },
    )
    unfinished_penalty: float = field(
        default=2.0, metadata={"help": "Subtracted from the reward of a rationale that hit the length limit."}
    )
    vllm_importance_sampling_correction: bool = field(
        default=True,
        metadata={
            "help": "Whether to weight each sample by its importance ratio, policy over engine. Needs an engine that gives "
            "log-probs, as vLLM does."
        },
    )
    vllm_importance_sampling_clip_max: float = field(
        default=3.0, metadata={"help": "Largest importance ratio; larger ones are truncated to it."}
    )
    monitor_collapse: bool = field(
        default=True,
        metadata={"help": "Whether to warn when training begins to teach the model to stop reasoning."},
    )
    stop_on_collapse: bool = field(
        default=False,
        metadata={"help": "Whether to end training when `monitor_collapse` warns. Earlier checkpoints are kept."},
    )
    skip_nonfinite_steps: bool = field(
        default=False,
        metadata={
            "help": "Whether to skip a step whose rewards or gradient are NaN or infinite, instead of ending training. Not "
            "with DeepSpeed."
        },
    )

    # Parameters that control the computation
    share_prompts: bool = field(
        default=True,
        metadata={
            "help": "Whether the rationales of a prompt share it, so that a forward computes it once. If the model does not "
            "support it, the log says so."
        },
    )

    def __post_init__(self) -> None:
        check_fields(dict(vars(self)))
        template = AnswerTemplate(self.answer_template)
        if self.rationale_stop_strings is None:
            self.rationale_stop_strings = template.stop_strings
        super().__post_init__()
        if self.hub_token is not None:
            # With the end of a line it would be no header of HTTP, and stand in the error that says so
            self.hub_token = self.hub_token.strip()
        check_schedule(self.lr_scheduler_type, self.lr_scheduler_kwargs)
        self._check_sampling()
        self._check_reward_type()
        if self.reward_tokens is None:
            self.reward_tokens = self.reward.tokens
        self._check_scoring()
        if self.stop_on_collapse and not self.monitor_collapse:
            raise ValueError(
                "`stop_on_collapse` is True, but `monitor_collapse` is False, so no collapse is seen: set it to True."
            )
        if self.skip_nonfinite_steps and self.deepspeed_plugin is not None:
            raise ValueError(
                "`skip_nonfinite_steps` is True, but DeepSpeed takes the step as soon as it has the gradients, so none "
                "can be left out. Set it to False."
            )

    def _check_scoring(self) -> None:
        if self.truncate_answers and self.answer_max_length is None:
            raise ValueError(
                "`truncate_answers` is True, but `answer_max_length` is not set, so there is nothing to truncate to: set it."
            )
        if self.answer_max_length is not None and not self.scores_answers:
            raise ValueError(
                f"`answer_max_length` is {self.answer_max_length}, but with `self_reward_weight` 0 and `answer_coef` 0 no "
                "answer is scored: leave it unset."
            )
        if self.self_reward_weight > 0:
            return
        if self.self_reward_when != "always":
            raise ValueError(
                f"`self_reward_when` is {self.self_reward_when!r}, but `self_reward_weight` is 0, so there is no self-reward "
                "to add: raise it, or leave `self_reward_when` at 'always'."
            )
        if self.scorer != "policy":
            raise ValueError(
                f"`scorer` is {self.scorer!r}, but `self_reward_weight` is 0, so there is no self-reward to score: raise it, or "
                "leave `scorer` at 'policy'."
            )
        if self.stop_on_collapse and not self.scores_answers:
            raise ValueError(
                "`stop_on_collapse` is True, but with `self_reward_weight` 0 and `answer_coef` 0 no answer is scored, so no "
                "collapse is seen: set it to False."
            )

    def _check_sampling(self) -> None:
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "structured_outputs": self.vllm_structured_outputs_regex,
        }
        check_sampling_settings(settings, self.generation_kwargs or {})
        # Unset they would be transformers' defaults, of which `top_k` is 50, and not all tokens
        for name, value in (("top_k", 0), ("top_p", 1.0)):
            if settings[name] is None:
                setattr(self, name, value)

    def _check_reward_type(self) -> None:
        for name, of_reward in (("reward_power", "power"), ("reward_power_end", "power"), ("jepo_floor", "jepo")):
            if getattr(self, name) != getattr(type(self), name) and self.reward_type != of_reward:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, but belongs to the reward {of_reward!r}, and `reward_type` is "
                    f"{self.reward_type!r}: leave it unset, or choose `reward_type={of_reward!r}`."
                )
        if not callable(self.reward_type):
            if self.reward_type not in REWARDS:
                raise ValueError(
                    f"`reward_type` is {self.reward_type!r}, but must be one of {list(REWARDS)} or a function "
                    "(logps, mask) -> rewards."
                )
            if self.reward.of_group is not None and self.reward_clip_range is not None:
                raise ValueError(
                    f"`reward_clip_range` is {self.reward_clip_range}, but the reward {self.reward_type!r} belongs to all "
                    "rationales of a prompt together and cannot be clipped row by row. Leave it unset."
                )
            return
        try:
            pickle.dumps(self.reward_type)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"`reward_type` is {self.reward_type}, which cannot be saved with the checkpoints. Define the function "
                "at the top level of a module, not inside of another function or as a lambda."
            ) from error
        check_row_reward(self.reward_type)

    @property
    def reward(self) -> Reward:
        """The reward of `reward_type`, as at the start of the training."""
        return self.reward_at(0, 1)

    def reward_at(self, step: int, max_steps: int) -> Reward:
        """The reward after `step` of `max_steps` optimizer steps."""
        if callable(self.reward_type):
            return Reward(self.reward_type, tokens="template_and_answer")
        reward = REWARDS[str(self.reward_type)]
        if self.reward_type == "power":
            return reward._replace(of_row=partial(power, tau=self.power_at(step, max_steps)))
        if self.reward_type == "jepo":
            return reward._replace(of_group=partial(log_mean_prob, floor=self.jepo_floor))
        return reward

    def power_at(self, step: int, max_steps: int) -> float:
        """`tau` of the reward "power" after `step` of `max_steps` optimizer steps; the first before a training."""
        if self.reward_power_end is None or max_steps == 0:
            return self.reward_power
        return self.reward_power + (self.reward_power_end - self.reward_power) * step / max_steps

    @property
    def answer_limit(self) -> int | None:
        """Tokens that answers are truncated to, without the template before them."""
        return self.answer_max_length if self.truncate_answers else None

    @property
    def scores_answers(self) -> bool:
        """Whether anything needs the log-prob of the reference answer. If not, the row is the completion."""
        return self.self_reward_weight > 0 or self.answer_coef > 0

    @property
    def watches_collapse(self) -> bool:
        """Whether a [`CollapseMonitor`] warns. It looks at the reference answer."""
        return self.monitor_collapse and self.scores_answers

    @property
    def needs_reference(self) -> bool:
        """Whether there is a reference model: for the KL, or as the scorer."""
        return self.beta != 0.0 or self.scorer == "reference"

    def __getstate__(self) -> dict[str, Any]:
        """Without the Hub's token: what is pickled is `training_args.bin`, which is pushed with the model."""
        return {**self.__dict__, "hub_token": None}

    def to_dict(self) -> dict[str, Any]:
        """As the parent's; a `reward_type` function is given by its name, since trackers need plain values."""
        as_dict = super().to_dict()
        if callable(self.reward_type):
            as_dict["reward_type"] = get_callable_name(self.reward_type)
        return as_dict
