# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from accelerate.utils import gather, gather_object
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, has_length
from trl import RLOOTrainer, is_conversational
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import get_config_model_id, use_adapter

from . import checks, objective, outside_rewards, samples, several_answers, shared_prompt
from .answer_template import AnswerTemplate
from .collapse_monitor import CollapseMonitor
from .durability.trainer import DurableTrainer
from .end_of_turn import find_end_of_turn
from .eval_samples import EvalSamples
from .grading import Grader, grade_answer
from .latro_config import LaTROConfig
from .loading import load_processing_class
from .micro_batches import form_micro_batches, scores_in_loss
from .model_card import PAPER
from .outside_rewards import RewardFunc, RewardProcessing
from .packing import EncodedAnswer, encode_answers, pack_samples, split_rows, trim_padding
from .prompting import find_prompting
from .prompts import find_max_positions, fit_answer_budget, tokenize_prompts
from .rationale_gain import logps_without_rationale
from .reference_model import copy_initial_model, prepare_reference, settings_of_reference
from .rollout.continuous_batching_engine import ContinuousBatchingEngine
from .rollout.engine import Completion, RolloutEngine
from .rollout.sampling_settings import make_generation_config, only_generation_config
from .rollout.transformers_engine import TransformersEngine
from .rollout.vllm_engine import VLLMEngine
from .samples import LossColumns, Rollout, SampleColumns, ScoredSamples
from .step_guard import StepGuard
from .truncation import Rationale, Truncator


logger = logging.getLogger(__name__)

EvalDataset: TypeAlias = (
    Dataset | IterableDataset | DatasetDict | IterableDatasetDict | dict[str, Dataset | IterableDataset]
)


class LaTROTrainer(DurableTrainer, RLOOTrainer):
    """
    Trainer for latent reasoning optimization (LaTRO), from the paper [Language Models are Hidden Reasoners: Unlocking
    Latent Reasoning Capabilities via Self-Rewarding](https://huggingface.co/papers/2411.04282).

    Questions with reference answers are enough: no verifier, no reward model. A step, in the order of the methods below:

    1. Roll out: sample K rationales z for each prompt x (`rollout/`).
    2. Truncate: a rationale ends at its EOS token or where the model begins to write the answer (`truncation.py`).
    3. Pack: one row `[prompt | rationale | answer]` for each sample, with the reference answer y (`packing.py`).
    4. Score: log pi(z|x) and log pi(y|x,z) from one forward, the samples of a prompt sharing it (`shared_prompt.py`).
    5. Reward: the answer's log-prob after the rationale, a KL penalty, leave-one-out advantages (`objective.py`).
    6. Loss: REINFORCE on the rationales plus the answer's likelihood (Eq. 4).
    7. Log: metrics of the samples, and the table of completions (`samples.py`).

    Example:

    ```python
    >>> from datasets import load_dataset
    >>> from trl_latro import LaTROConfig, LaTROTrainer

    >>> dataset = load_dataset("openai/gsm8k", "main", split="train")
    >>> dataset = dataset.map(
    ...     lambda row: {"prompt": row["question"], "answer": row["answer"].split("#### ")[1]},
    ...     remove_columns=["question"],
    ... )
    >>> trainer = LaTROTrainer(
    ...     model="Qwen/Qwen2.5-0.5B-Instruct",
    ...     args=LaTROConfig(output_dir="qwen-latro"),
    ...     train_dataset=dataset,
    ... )
    >>> trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Causal language model to be trained, as for [`~trl.RLOOTrainer`]: a model id or path, or a loaded model.
            The reference model of the KL is its initial state (with PEFT, the model with the adapter switched off).
        args ([`LaTROConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Dataset to use for training, with the columns `"prompt"` (text or messages) and `"answer"` (text or texts).
        eval_dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`], [`~datasets.DatasetDict`], [`~datasets.IterableDatasetDict`] or `dict[str, Dataset | IterableDataset]`, *optional*):
            Dataset to use for evaluation. It must meet the same requirements as `train_dataset`.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer. If `None`, it is loaded from the model's name.
        callbacks (list of [`~transformers.TrainerCallback`], *optional*):
            List of callbacks to customize the training loop.
        optimizers (`tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None]`, *optional*, defaults to `(None, None)`):
            Optimizer and scheduler to use.
        quantization_config ([`~transformers.BitsAndBytesConfig`], *optional*):
            Quantization configuration used when loading the model from a model identifier.
        peft_config ([`~peft.PeftConfig`], *optional*):
            PEFT configuration used to wrap the model. If `None`, the model is not wrapped.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]):
            In evaluation, compares the answer of a sampled completion with the row of the dataset, its columns
            `"prompt"` and `"answer"` and the others: `(extracted, row) -> bool`. Training does not use it.
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Rewards from outside, as for [`~trl.RLOOTrainer`]: functions, async functions or reward models, which see the
            whole completions. They are added to the self-reward, with the weights `args.reward_weights`.
        reward_processing_classes (`PreTrainedTokenizerBase | None` or a list of them, *optional*):
            Tokenizers of reward models, as for [`~trl.RLOOTrainer`]. If `None`, a model's own is loaded.

    Raises:
        `ValueError`, `TypeError`: before the first forward, for a dataset, tokenizer or model that cannot work; the
        message says what is wrong, the value seen and what to do.
    """

    _tag_names = ["trl", "latro"]
    _name = "LaTRO"
    _paper = PAPER

    args: LaTROConfig
    # The parent's, whose types are not declared there
    _signature_columns: list[str] | None
    _buffered_inputs: Any
    _last_loaded_step: int

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        args: LaTROConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: BitsAndBytesConfig | None = None,
        peft_config: PeftConfig | None = None,
        grader: Grader = grade_answer,
        reward_funcs: RewardFunc | list[RewardFunc] | None = None,
        reward_processing_classes: RewardProcessing | list[RewardProcessing] = None,
    ):
        model_name = model if isinstance(model, str) else get_config_model_id(model.config)
        args = checks.check_config(args or LaTROConfig(f"{model_name.split('/')[-1]}-LaTRO"))
        if processing_class is None:
            init_kwargs = (args.model_init_kwargs or {}) if isinstance(model, str) else {}
            processing_class = load_processing_class(model_name, init_kwargs.get("revision"), args.trust_remote_code)
        functions, names = outside_rewards.check_functions(reward_funcs, reward_processing_classes, args)
        thinking = checks.check_arguments(model, args, processing_class, train_dataset, eval_dataset, names)
        prompting = find_prompting(vars(args))
        loading = {"quantization_config": quantization_config, "peft_config": peft_config, "optimizers": optimizers}
        settings = {"callbacks": callbacks, "reward_processing_classes": reward_processing_classes, **loading}
        initial_model = copy_initial_model(model, args, peft_config)
        with settings_of_reference(args, initial_model):
            super().__init__(model, functions, args, train_dataset, eval_dataset, processing_class, **settings)
        self.beta = args.beta
        if initial_model is not None:
            self.ref_model = prepare_reference(initial_model, self, args)
        checks.check_model(self._models[0], self._tokenizer, args, self.is_deepspeed_enabled or self.is_fsdp_enabled)

        # How rationales end, and how answers are written and graded
        self.prompting = prompting
        self.answer_template = AnswerTemplate(args.answer_template, args.answer_separator)
        ends = (args.rationale_stop_strings or [], self.eos_token_ids)  # the config's checks leave no None
        self.truncator = Truncator(self._tokenizer, *ends, args.answer_separator, thinking)
        self.grader = grader
        # What the model can do
        self.max_positions = find_max_positions(self.model.config)  # tokens of the longest row, None without a limit
        self._shares_prompts = args.share_prompts and shared_prompt.enable_where_possible(self._models)
        if not self.use_vllm:
            self.generation_config = make_generation_config(self.generation_kwargs, self._models[0])
        self.engine = self._make_engine()
        # What outlives a method call
        self._rollouts: dict[str, Rollout] = {}  # the last samples of "train" and of "eval"
        self._eval_samples = EvalSamples()  # of the evaluation under way
        self._guard = StepGuard(skip=args.skip_nonfinite_steps)  # knows the prompts of the step under way
        self._monitor = CollapseMonitor(stop=args.stop_on_collapse)  # has seen the samples up to here
        self.add_callback(self._guard)
        if args.watches_collapse:
            self.add_callback(self._monitor)
        checks.check_rows_fit(train_dataset, eval_dataset, self._check_lengths)

    def _check_lengths(self, prompt: list, answer: list, where: str, first_row: int = 0) -> list[list[int]]:
        """Tokens of the prompts, which fit into the model together with rationales and answers."""
        prompt_ids = checks.tokenize_checked(self._tokenize, prompt, where, first_row)
        none, most = self.truncator.no_rationale(), self.args.answer_max_length
        if most is None:  # and the end-of-turn token
            lengths = [1 + number for number in self.answer_template.lengths(self._tokenizer, answer, none.lead)]
        else:
            encoded = self._encode_answers([none] * len(answer), answer, prompt[0])
            lengths = checks.check_answer_lengths(prompt, encoded, most, where, first_row)
        limits = (self.max_completion_length, self.max_positions)
        checks.check_lengths(prompt, [len(ids) for ids in prompt_ids], lengths, *limits, where, first_row)
        return prompt_ids

    def _tokenize(self, prompts: list) -> list[list[int]]:
        return tokenize_prompts(self._tokenizer, prompts, self.chat_template_kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            self._signature_columns = [*(self._signature_columns or []), "answer"]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        sampler: Any = super()._get_train_sampler(dataset)
        checks.check_batch_of_prompts(sampler.num_samples, sampler.batch_size)
        return sampler

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @property
    def _group_size(self) -> int:
        """K, the samples of a prompt."""
        return self.num_generations if self.model.training else self.num_generations_eval

    @property
    def _models(self) -> list[PreTrainedModel | PeftModel]:
        """The policy, and the reference model where it is a model of its own."""
        return [self.accelerator.unwrap_model(model) for model in (self.model, self.ref_model) if model is not None]

    # ---- roll out ----

    def _make_engine(self) -> RolloutEngine:
        """The engine that the configuration asks for: another one is one more file in `rollout/`, and a branch here."""
        ends = (self.truncator, self.max_completion_length)
        if self.use_vllm:
            profiler = partial(profiling_context, self, "vLLM.generate")
            return VLLMEngine(*ends, self.vllm_generation, self._sync_weights_to_vllm, profiler)
        if self.use_transformers_continuous_batching:
            config = self.continuous_batching_config
            return ContinuousBatchingEngine(*ends, self.generation_config, config, self._model_for_generation)
        # Every process has all weights: no other has to take part in its forwards
        gathered = not self._dist.is_fsdp and (not self._dist.is_zero3 or self.args.ds3_gather_for_generation)
        alone = self.accelerator.num_processes == 1 or gathered
        settings = (self.generation_config, alone, self.pad_to_multiple_of)
        return TransformersEngine(*ends, *settings, self._model_for_generation)

    @contextmanager
    def _model_for_generation(self) -> Iterator[PreTrainedModel]:
        """The policy as the parent gathers and unwraps it for its own generation."""
        # Continuous batching chooses its paged attention by the name of the model's
        paged = self._shares_prompts and self.use_transformers_continuous_batching
        with (
            shared_prompt.disabled_shared_prompts(self._models[0]) if paged else nullcontext(),
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            only_generation_config(model, self.generation_config),
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            yield model

    def _sync_weights_to_vllm(self) -> None:
        if self.state.global_step != self._last_loaded_step:
            with profiling_context(self, "sync_weights"):
                self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step

    def _roll_out(self, prompt_ids: list[list[int]], answers: list) -> list[Completion]:
        """A completion for each prompt. In evaluation, and for reward functions, completions go on to their answer."""
        if self._shares_prompts:
            for model in self._models:
                shared_prompt.check_attention(model)
        answer_budget = 0
        if (self._mode == "eval" or self.reward_funcs) and self.truncator.ends:  # without, it goes on to the EOS token
            answer_budget = self.answer_template.token_budget(self._tokenizer, answers)
            limits = (self.max_completion_length, self.max_positions, self.accelerator.device)
            answer_budget = fit_answer_budget(answer_budget, prompt_ids, *limits)
        return self.engine.roll_out(prompt_ids, self._group_size, answer_budget)

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        args = self.args
        is_new = self.model.training and (
            self._step % (args.steps_per_generation * self.num_iterations) == 0 or self._buffered_inputs is None
        )
        inputs = super()._prepare_inputs(generation_batch)
        if is_new:
            self._buffered_inputs = form_micro_batches(
                self._buffered_inputs,
                # Between these there can be no step
                together=math.gcd(args.steps_per_generation, args.gradient_accumulation_steps),
                by_prompt=self._shares_prompts,
                deal=self._scores_in_loss and args.per_device_train_batch_size % self.num_generations != 0,
            )
            inputs = self._buffered_inputs[self._step % args.steps_per_generation]
        return inputs

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """
        Roll out, truncate, pack, score, reward. Where the loss scores, the policy's part of it is left to the loss.

        Returns:
            `dict[str, torch.Tensor]`: one row per sample: what `_pack` returns of shape `(B, L)`, `rows` of shape `(B,)`;
            with what `_reward` returns, or with what it takes.
        """
        mode, device = self._mode, self.accelerator.device
        checks.check_columns(list(inputs[0]), f"{mode}_dataset")
        prompts, answers = ([example[name] for example in inputs] for name in ("prompt", "answer"))
        checks.check_rows(prompts, answers, self._tokenizer, f"A row of `{mode}_dataset`")
        prompt_ids = self._check_lengths(prompts, answers, where=f"A row of `{mode}_dataset`")

        completions = self._roll_out(prompt_ids, answers)
        graded = (self.answer_template, self.grader)
        grades = samples.grade_samples(inputs, completions, *graded) if mode == "eval" else []
        table = samples.completion_rows(inputs, completions, self.truncator.decode, grades or [None] * len(inputs))
        outside = self._outside_rewards(inputs, prompts, completions, table) if self.reward_funcs else None

        if not self.args.scores_answers:
            completions = [one.as_one() for one in completions]
        batch = self._pack(prompts, answers, prompt_ids, completions)
        batch["rows"] = torch.arange(len(inputs), device=device) + self.accelerator.process_index * len(inputs)  # (B,)
        grades = gather_object(grades) if mode == "eval" else []
        self._rollouts[mode] = Rollout(gather_object(table), grades, "sampling_logps" in batch, outside)
        samples.check_groups(self._rollouts[mode].table, self._group_size, mode)

        to_score = samples.known_before_scoring(prompt_ids, completions, device)  # (B,) each
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if mode == "train" and self.args.watches_collapse and self._monitor.wants_rationale_gain:
                how = (self.truncator, self._pack, partial(self._score, self.model))
                size = self.args.per_device_train_batch_size
                without = logps_without_rationale(prompts, answers, prompt_ids, size, *how)  # (B,)
                self._rollouts[mode].logps_without_rationale = gather(without)
            if self.args.needs_reference:
                to_score["reference_logps"] = self._reference_logps(batch)  # (B, L)
            if self._scores_in_loss:
                return batch | to_score
            logps = self._score(self.model, batch)  # (B, L)
        return batch | self._reward(logps, batch | to_score)

    def _outside_rewards(
        self, inputs: list[dict[str, Any]], prompts: list, completions: list[Completion], table: list[dict[str, Any]]
    ) -> Tensor:
        """Rewards of the `reward_funcs` for the samples of all processes, `(N, F)`; `table` gets the columns that they log."""
        conversational = is_conversational({"prompt": prompts[0]})
        seen = outside_rewards.what_functions_see(completions, self.truncator, conversational)
        rewards: Tensor = self._calculate_rewards(inputs, prompts, *seen)
        outside_rewards.add_columns(table, self._pending_extra_logs)
        for name, value in outside_rewards.gather_metrics(self._pending_metrics).items():
            self._metrics[self._mode][name].append(value)
        if self.args.reward.of_group is not None:
            outside_rewards.check_likelihoods(rewards, self.reward_weights, self.reward_func_names)
        return rewards

    # ---- pack ----

    def _encode_answers(self, rationales: list[Rationale], answers: list, prompt: Any) -> list[list[EncodedAnswer]]:
        """Tokens of the right answers of each row, behind prompts of the kind of this one."""
        if not self.args.scores_answers:
            return [[EncodedAnswer([], 0)] for _ in answers]
        end_of_turn_id = self._tokenizer.eos_token_id
        if is_conversational({"prompt": prompt}):
            end_of_turn_id = find_end_of_turn(self._tokenizer, self.eos_token_ids, self.chat_template_kwargs)
        how = (self.answer_template, self.truncator.decode, end_of_turn_id)
        return encode_answers(rationales, answers, *how, self.args.answer_limit)

    def _pack(
        self, prompts: list, answers: list, prompt_ids: list, completions: list[Completion]
    ) -> dict[str, Tensor]:
        """Rows of prompt, truncated rationale and, if they are scored, right answers, with masks: `(B, L)` each."""
        rationales = [one.rationale for one in completions]
        encoded = self._encode_answers(rationales, answers, prompts[0])
        # In evaluation nothing is corrected: its metrics are those of the samples as they were drawn
        logps = [one.logps for one in completions if one.logps is not None] if self.model.training else []
        padding = (self._tokenizer.pad_token_id, self.pad_to_multiple_of)
        batch = pack_samples(prompt_ids, [one.ids for one in rationales], encoded, *padding, logps or None)
        batch["reward_mask"] = batch["own_mask" if self.args.reward_tokens == "answer" else "answer_mask"]
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    # ---- score ----

    @property
    def _scores_in_loss(self) -> bool:
        return scores_in_loss(self.args, self._shares_prompts, self.model.training)

    def _score(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Log-prob of each rationale and answer token `(B, L)`, in forwards of at most the per-device batch size."""
        train_size, eval_size = self.args.per_device_train_batch_size, self.args.per_device_eval_batch_size
        size = train_size if self.model.training else eval_size
        # Rows of equal length have no padding; those of one prompt stand together already
        forwards = split_rows(batch, size, by_length=not self._shares_prompts, multiple=self.pad_to_multiple_of)
        logps = batch["input_ids"].new_zeros(batch["input_ids"].shape, dtype=torch.float32)  # (B, L)
        for rows, of_rows in forwards:
            chunk, _, _ = self._per_token_logps(model, of_rows)
            logps[rows, : chunk.size(1)] = chunk.float()
        return logps

    def _reference_logps(self, batch: dict[str, Tensor]) -> Tensor:
        """Log-probs under the frozen initial model, `(B, L)`; with PEFT the adapter is switched off."""
        if self.ref_model is not None:
            return self._score(self.ref_model, batch)
        model = self.accelerator.unwrap_model(self.model)
        # A PeftModel that came with an adapter has a frozen copy of it, made by the parent under the name "ref"
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._score(self.model, batch)

    def _per_token_logps(self, model: nn.Module, batch: dict[str, Tensor], **kwargs: bool) -> tuple[Tensor, Any, Any]:
        """Log-probs on rationales and answers, and entropies if asked for, `(B, L)`; the auxiliary loss of experts."""
        rows = several_answers.unfold_answers(batch, self.pad_to_multiple_of)  # (N, W), a row for each answer
        aux_loss = None
        if self._shares_prompts:  # a model of experts does not
            with self.accelerator.autocast():
                logps, entropies = shared_prompt.shared_logps(model, rows)
        else:
            ids, mask = rows["input_ids"], rows["attention_mask"]
            shortest = int((mask - rows["rationale_mask"] - rows["answer_mask"]).sum(1).min())  # of the prompts
            logps, entropies, aux_loss = self._get_per_token_logps_and_entropies(
                model, ids, mask, logits_to_keep=ids.size(1) - shortest, **kwargs
            )
            logps = F.pad(logps, (shortest, 0))
            entropies = None if entropies is None else F.pad(entropies, (shortest, 0))
        entropies = None if entropies is None else several_answers.fold_tokens(entropies, rows, batch)
        return several_answers.fold_tokens(logps, rows, batch), entropies, aux_loss

    # ---- reward ----

    def _reward(self, logps: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """
        From the log-probs `(B, L)` of all rationales of the prompts, over all processes, to the parts of the loss:
        `old_logps` and `advantages` of shape `(B,)`, `answer_weights` of shape `(B, L)`.
        """
        args, mode, rollout = self.args, self._mode, self._rollouts[self._mode]
        reward = args.reward_at(self.state.global_step, self.state.max_steps)
        old_logps = (logps * batch["rationale_mask"]).sum(1)  # (B,) log pi(z|x)
        which = (batch["reward_mask"], batch["answer_index"])
        values, weights = objective.values_of_answers(reward, logps, *which)  # (B,), (B, L)
        policy_values = values
        if args.scorer == "reference":
            values, _ = objective.values_of_answers(reward, batch["reference_logps"], *which)
        own = samples.measure(logps, values, policy_values, batch)

        # Gathered, because the rationales of a prompt can be spread over processes
        rows, columns = gather(batch["rows"]), SampleColumns(*gather(torch.stack(own, dim=1)).unbind(1))  # (N,) each
        how = (args.self_reward_weight, args.self_reward_when, self._group_size)
        mixture = outside_rewards.mix(rollout.outside, rows, self.reward_weights.to(rows.device), *how)
        # The same on all processes
        for what, is_bad in columns.not_finite(None if mixture is None else mixture.outside):
            self._guard.report(what, rollout.prompts(rows[is_bad]), mode, args, self.state)
        scored = (columns.values, columns.kl, columns.finished, self._group_size)
        credit = objective.assign_credit(
            *scored,
            of_group=reward.of_group,
            beta=self.beta,
            unfinished_penalty=args.unfinished_penalty,
            reward_clip_range=self.reward_clip_range,
            normalize_advantages=self.normalize_advantages,
            policy_values=columns.policy_values,
            mixture=mixture,
            floor=args.jepo_floor,
        )
        rollout.parts.append(ScoredSamples(rows, columns, credit))
        self._log_samples(mode, rollout)

        first = self.accelerator.process_index * len(old_logps)
        of_all = (*credit, self._importance_ratios(columns))
        _, advantages, row_weights, ratios = (column[first : first + len(old_logps)] for column in of_all)
        counts = batch["finished"] if self.mask_truncated_completions else torch.ones_like(old_logps)  # (B,)
        if args.vllm_importance_sampling_correction:
            counts = counts * ratios
        weights = objective.token_weights(weights, row_weights * counts, batch["answer_mask"], *which)
        return {"old_logps": old_logps, "advantages": advantages * counts, "answer_weights": weights}

    def _importance_ratios(self, columns: SampleColumns) -> Tensor:
        """Policy over engine, `(N,)`; 1 where the engine gives no log-probs."""
        of_group, clip_max = self.args.reward.of_group, self.args.vllm_importance_sampling_clip_max
        return objective.importance_ratios(columns.sampling_log_ratios, self._group_size, of_group, clip_max)

    # ---- loss ----

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        mode = self._mode
        batch = trim_padding(inputs, self.pad_to_multiple_of)
        if mode == "train":
            self._guard.prompts_of_step += self._rollouts[mode].prompts(batch["rows"])
        logps, entropies, aux_loss = self._per_token_logps(
            model, batch, compute_entropy=True, compute_aux_loss=self.aux_loss_enabled
        )
        if "advantages" not in batch:
            batch |= self._reward(logps.detach(), batch)

        # loss = - mean_k( A_k * log pi(z_k|x) + answer_coef * sum_t w_kt * logp_kt )      (paper, Eq. 4)
        ratio = ((logps * batch["rationale_mask"]).sum(1) - batch["old_logps"]).exp()  # (B,)
        rationale_loss = objective.rationale_loss(ratio, batch["advantages"], self.epsilon_low, self.epsilon_high)
        answer_loss = objective.answer_loss(logps, batch["answer_weights"])  # (B,)
        loss = rationale_loss.mean() + self.args.answer_coef * answer_loss.mean()
        weighted_aux_loss = torch.zeros_like(loss)
        if self.aux_loss_enabled:
            weighted_aux_loss = self.router_aux_loss_coef * aux_loss
            if mode == "train":
                self._metrics[mode]["aux_loss"].append(self.accelerator.gather(aux_loss).mean().item())

        low, high = objective.is_clipped(ratio, batch["advantages"], self.epsilon_low, self.epsilon_high)
        entropy = (entropies * batch["rationale_mask"]).sum(1)
        columns = (rationale_loss, answer_loss, weighted_aux_loss.expand_as(ratio), low, high, entropy)
        self._log_loss(mode, batch, LossColumns(*columns))
        return loss + weighted_aux_loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        self._guard.grad_norm = super()._get_grad_norm(model, grad_norm)
        return self._guard.grad_norm

    # ---- evaluation and checkpoints ----

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As the parent's. Every metric, the loss too, is a mean over the samples of this evaluation."""
        rows: Any = dataloader.dataset
        self._eval_samples = EvalSamples(len(rows) * self.num_generations_eval if has_length(rows) else None)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        settings = (self.beta, self.args.answer_coef, self.args.scores_answers, self.reward_func_names)
        metrics = self._eval_samples.metrics(self.num_generations_eval, *settings)
        metrics["num_tokens"] = self.state.num_input_tokens_seen
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def state_of_process(self) -> dict[str, Any]:
        """Beside the parent's: the samples of a generation batch that has steps to come."""
        is_used_up = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        return super().state_of_process() | {
            "step": self._step,
            "metrics": dict(self._metrics["train"]),
            "monitor": self._monitor.state(),
            "buffered_inputs": None if is_used_up else self._buffered_inputs,
            "prompts": [] if is_used_up else [row["prompt"] for row in self._rollouts["train"].table],
        }

    def load_state_of_process(self, state: dict[str, Any]) -> None:
        super().load_state_of_process(state)
        if self.args.sync_ref_model:
            logger.warning("Not exact: checkpoints do not have the reference model that follows the policy.")
        if isinstance(self.train_dataset, IterableDataset):
            logger.warning("Exact within the first pass of a stream only: later prompts may be others.")
        self._step = state["step"]
        self._metrics["train"].update(state["metrics"])
        self._monitor.load_state(state["monitor"])
        self._buffered_inputs = state["buffered_inputs"]
        self._rollouts["train"] = Rollout([{"prompt": prompt} for prompt in state["prompts"]])

    # ---- log ----

    def _log_samples(self, mode: str, rollout: Rollout) -> None:
        """Metrics and table of the samples of all processes, as soon as all that were drawn together are scored."""
        scored = rollout.scored()
        if scored is None:
            return
        _, columns, credit = scored
        if mode == "train":
            self.state.num_input_tokens_seen += int((columns.prompt_lengths + columns.sampled_lengths).long().sum())
            self._metrics[mode]["num_tokens"] = [self.state.num_input_tokens_seen]
            metrics = samples.reward_metrics(columns, credit, self._group_size, self.beta, self.args.scores_answers)
            if rollout.outside is not None:
                metrics |= outside_rewards.function_metrics(rollout.outside, self.reward_func_names)
            metrics |= samples.length_metrics(columns)
            if self.args.reward_type == "power":
                metrics["latro/reward_power"] = self.args.power_at(self.state.global_step, self.state.max_steps)
            metrics |= samples.rationale_metrics(rollout, columns.own_logps, self._group_size)
            if rollout.has_logps:
                metrics |= samples.sampling_metrics(columns, self._importance_ratios(columns))
            for name, value in metrics.items():
                self._metrics[mode][name].append(value)
            by_self = objective.self_reward_advantages(columns.values, self._group_size, self.args.reward.of_group)
            watched = (columns.rationale_lengths, credit.advantages, by_self, columns.own_logps)
            self._monitor.observe(*watched, self._group_size, metrics)

        # The parent prints the table and sends it to the trackers
        samples.extend_logs(self._logs, rollout, scored, self.reward_func_names, self.args.scores_answers)

    def _log_loss(self, mode: str, batch: dict[str, Tensor], own: LossColumns) -> None:
        """Metrics of one forward of all processes."""
        num_tokens = batch["rationale_mask"].sum(1).float()  # (B,)
        *columns, num_tokens = gather(torch.stack([*own, num_tokens], dim=1).detach()).unbind(1)  # (N,) each
        losses = LossColumns(*columns)
        if mode == "train":
            for name, value in losses.metrics(num_tokens.sum()).items():
                self._metrics[mode][name].append(value)
        else:
            rollout = self._rollouts[mode]
            scored = rollout.scored()
            if scored is not None:
                self._eval_samples.add(scored, losses, rollout.grades, rollout.outside)
