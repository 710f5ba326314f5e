# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import logging
import math
import textwrap
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather, gather_object, pad_across_processes
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    TrainerCallback,
)
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl import RLOOTrainer, is_conversational
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import get_config_model_id, pad, split_tensor_dict, use_adapter

from . import objective
from .checkpoints import check_writable, remove_checkpoint, resolve_checkpoint, say_failed_write
from .checks import (
    check_batch_of_prompts,
    check_columns,
    check_dataset,
    check_processing_class,
    check_room,
    check_rows,
)
from .end_of_turn import find_end_of_turn
from .evaluation.generation import find_answer_room
from .grading import NO_ANSWER, Grade, Grader, grade_answer, grade_completion, majority_accuracy
from .hub import SayFailedPushes, make_repository, saying_how_to_push_again
from .latro_config import LaTROConfig
from .packing import encode_answer, pack_rows, prompts_of, trim_padding
from .rationale import (
    RationaleStop,
    check_stop_strings,
    continuation_decoder,
    cut_rationale,
    find_stop,
    until_stop,
)
from .rollout import can_leave_rows_out, generate_until_done
from .sampler import EpochSampler
from .samples import Rollout, SampleColumns, completion_metrics, rollout_metrics
from .shared_prompt import (
    check_attention,
    disabled_shared_prompts,
    enable_shared_prompts,
    share_prompts,
    why_not_shared,
)
from .trackers import TrackerRun


logger = logging.getLogger(__name__)


class LaTROTrainer(RLOOTrainer):
    """
    Trainer for latent reasoning optimization (LaTRO), from the paper [Language Models are Hidden Reasoners: Unlocking
    Latent Reasoning Capabilities via Self-Rewarding](https://huggingface.co/papers/2411.04282).

    Questions with reference answers are enough: no verifier, no reward model. For each prompt x, K rationales z are
    sampled; each is rewarded by the model's own log-probability of the reference answer y after it. The loss is
    leave-one-out REINFORCE on the rationales, with a KL penalty in the reward, plus the answer's likelihood (Eq. 4).

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
            Dataset to use for training, with the columns `"prompt"` (text or messages) and `"answer"` (text).
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

    Raises:
        `ValueError`, `TypeError`: before the first forward, for a dataset, tokenizer or model that cannot work; the
        message says what is wrong, the value seen and what to do.
    """

    _tag_names = ["trl", "latro"]
    _name = "LaTRO"
    _paper = {
        "title": "Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding",
        "id": "2411.04282",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{chen2024language,
                title        = {{Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding}},
                author       = {Haolin Chen and Yihao Feng and Zuxin Liu and Weiran Yao and Akshara Prabhakar and Shelby Heinecke and Ricky Ho and Phil Mui and Silvio Savarese and Caiming Xiong and Huan Wang},
                year         = 2024,
                journal      = {arXiv preprint arXiv:2411.04282}
            }"""),
    }

    args: LaTROConfig
    _signature_columns: list[str] | None

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel,
        args: LaTROConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset
        | IterableDataset
        | DatasetDict
        | IterableDatasetDict
        | dict[str, Dataset | IterableDataset]
        | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: BitsAndBytesConfig | None = None,
        peft_config: PeftConfig | None = None,
        grader: Grader = grade_answer,
    ):
        model_name = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = LaTROConfig(f"{model_name.split('/')[-1]}-LaTRO")

        # Checked here, before the parent loads the model
        check_writable(args.output_dir)
        if processing_class is None:
            model_init_kwargs = args.model_init_kwargs or {}
            processing_class = AutoProcessor.from_pretrained(
                model_name,
                revision=model_init_kwargs.get("revision") if isinstance(model, str) else None,
                truncation_side="left",
                padding_side="left",
                trust_remote_code=args.trust_remote_code,
            )
        check_processing_class(processing_class)
        check_stop_strings(processing_class, args.rationale_stop_strings or [])
        datasets = self._named_datasets(train_dataset, eval_dataset)
        for name, dataset in datasets.items():
            check_dataset(dataset, name, processing_class)
        if args.push_to_hub and args.process_index == 0:
            make_repository(args)

        super().__init__(
            model=model,
            reward_funcs=[],  # the reward is the model's own, see `_generate_and_score_completions`
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )

        self.tracker_run = TrackerRun(args)
        if args.push_to_hub:
            self.add_callback(SayFailedPushes(self))
        self.answer_template = args.answer_template
        self.answer_separator = args.answer_separator
        self.stop_strings = args.rationale_stop_strings or []  # never None after the config's own checks
        self.answer_coef = args.answer_coef
        self.unfinished_penalty = args.unfinished_penalty
        self.grader = grader
        self._answer_room = 0  # tokens decoded after the stop string, see `_room_for_answers`
        self._batches_of_update: list[dict[str, Tensor]] = []  # what the gradient is made of
        # None: "jepo", whose reward belongs to the rationales of a prompt together
        self.reward_function: objective.RewardFunction | None = (
            args.reward_type if callable(args.reward_type) else objective.REWARDS.get(args.reward_type)
        )

        self._check_model_config()
        self._shares_prompts = args.share_prompts and self._enable_shared_prompts()
        self._rows_come_unchecked = False
        for name, dataset in datasets.items():
            if isinstance(dataset, IterableDataset):
                self._rows_come_unchecked = True
                continue
            rows = dataset.select_columns(["prompt", "answer"])
            for batch in range(0, len(rows), 1000):
                self._check_room(**rows[batch : batch + 1000], where=f"`{name}` row {{row}}", first_row=batch)

    @staticmethod
    def _named_datasets(train_dataset: Any, eval_dataset: Any) -> dict[str, Dataset | IterableDataset]:
        """The datasets by the names that error messages give them; other types are left to the parent's checks."""
        named = {"train_dataset": train_dataset}
        if isinstance(eval_dataset, dict):
            named |= {f"eval_dataset[{key!r}]": dataset for key, dataset in eval_dataset.items()}
        else:
            named["eval_dataset"] = eval_dataset
        return {name: dataset for name, dataset in named.items() if isinstance(dataset, (Dataset, IterableDataset))}

    def _check_model_config(self) -> None:
        config = self.model.config.get_text_config()
        # `disable_dropout` reaches dropout modules, but not attention that reads its rate from the config
        attention_dropout = config.to_dict().get("attention_dropout") or 0.0
        if self.args.disable_dropout and attention_dropout > 0:
            raise ValueError(
                f"The model's config has `attention_dropout` {attention_dropout}, which makes the rewards noisy. Load "
                "the model with `model_init_kwargs={'attention_dropout': 0.0}`."
            )

    @property
    def _policy(self) -> PreTrainedModel:
        """The model without adapters around it."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if isinstance(model, PeftModel) else model

    def _enable_shared_prompts(self) -> bool:
        reason = why_not_shared(self.accelerator.unwrap_model(self.model))
        if reason is not None:
            if self.accelerator.is_main_process:
                logger.warning("The samples of a prompt do not share it, each is computed with its own: %s.", reason)
            return False
        enable_shared_prompts(self._policy)
        if self.ref_model is not None:
            enable_shared_prompts(self.accelerator.unwrap_model(self.ref_model))
        return True

    def _check_attention(self) -> None:
        if self._shares_prompts:
            check_attention(self.accelerator.unwrap_model(self.model))
            if self.ref_model is not None:
                check_attention(self.accelerator.unwrap_model(self.ref_model))

    def _check_room(self, prompt: list, answer: list[str], where: str, first_row: int = 0) -> None:
        prompt_ids, _, _ = self._tokenize_prompts(prompt)
        answers = [self.answer_separator + self._answer_text(text) for text in answer]
        answer_ids = self._tokenizer(answers, add_special_tokens=False)["input_ids"]
        check_room(
            prompt,
            [len(ids) for ids in prompt_ids],
            [len(ids) + 1 for ids in answer_ids],  # and the end-of-turn token
            self.max_completion_length,
            self._max_positions,
            where,
            first_row,
        )

    @cached_property
    def _max_positions(self) -> int | None:
        # Models without a limit (state space models, ALiBi) do not have the attribute
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            self._signature_columns = [*(self._signature_columns or []), "answer"]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> EpochSampler:
        parent = super()._get_train_sampler(dataset)
        check_batch_of_prompts(parent.num_samples, parent.batch_size)
        return EpochSampler(
            data_source=parent.data_source,
            mini_repeat_count=parent.mini_repeat_count,
            batch_size=parent.batch_size,
            repeat_count=parent.repeat_count,
            shuffle=parent.shuffle,
            seed=parent.seed,
        )

    # ---- trackers and the Hub ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """
        As the parent's. `resume_from_checkpoint=True` passes over checkpoints that were cut short, and a resumed training
        goes on in its run of the trackers.
        """
        self._check_attention()
        self._batches_of_update.clear()  # an error may have ended an earlier training
        checkpoint = resolve_checkpoint(self.args.output_dir, resume_from_checkpoint)
        self.tracker_run.begin_training(self, resumed=checkpoint is not None)
        return super().train(checkpoint, trial, ignore_keys_for_eval)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As the parent's, also outside of the training, where no tracker has a run open."""
        self._check_attention()
        self.tracker_run.begin_evaluation(self)
        return super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        As the parent's.

        Raises:
            [`~trl_latro.hub.PushError`]: the push failed; the message says how to push again.
        """
        if not self.args.push_to_hub:
            self.save_model(_internal_call=True)  # the parent makes the repository before it saves
        if token is not None:
            token = token.strip()  # as `LaTROConfig` does
        with saying_how_to_push_again(self, revision, private):
            return super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)

    # ---- checkpoints ----

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with say_failed_write(checkpoint):
            # A killed run may have left one: written over, it would pass for whole before it is
            if self.args.should_save and checkpoint.exists():
                remove_checkpoint(checkpoint)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """
        Beside the random states: the samples of a generation batch that has updates to come, and what the next line of
        the log is a mean of.
        """
        super()._save_rng_state(output_dir)
        steps_per_batch = self.args.steps_per_generation * self.num_iterations
        state = {
            "step": self._step,
            "buffered_inputs": self._buffered_inputs if self._step % steps_per_batch != 0 else None,
            "metrics": dict(self._metrics["train"]),
            "loss": self._tr_loss,
            "step_of_last_log": self._globalstep_last_logged,
        }
        torch.save(state, self._sampling_state_file(output_dir))
        # The main process writes trainer_state.json next and last: where it stands, the files of every process do
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        path = self._sampling_state_file(checkpoint)
        if not path.is_file():
            logger.warning(
                "%s has no %s: it was saved by another number of processes, so samples that were used in part are drawn "
                "again, and the training is not exactly that of an uninterrupted run.",
                checkpoint,
                path.name,
            )
            return
        device = self.accelerator.device
        # torch cannot load to an indexed "cpu:0", which the processes of a CPU run have
        state = torch.load(path, map_location="cpu" if device.type == "cpu" else device, weights_only=True)
        self._step = state["step"]
        self._buffered_inputs = state["buffered_inputs"]
        self._metrics["train"].update(state["metrics"])
        self._tr_loss = state["loss"]
        self._total_loss_scalar -= self._tr_loss.item()  # the final `train_loss` is that of this process's updates
        self._globalstep_last_logged = state["step_of_last_log"]

    def _sampling_state_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"sampling_state_{self.args.process_index}.pth"

    def _answer_text(self, answer: str) -> str:
        return self.answer_template.replace("{answer}", answer)

    @cached_property
    def _end_of_turn_id(self) -> int:
        return find_end_of_turn(self._tokenizer, self.eos_token_ids, self.chat_template_kwargs)

    @cached_property
    def _decode(self) -> Callable[[list[int]], str]:
        return continuation_decoder(self._tokenizer)

    # ---- roll out ----

    @cached_property
    def _rationale_stop(self) -> RationaleStop:
        return RationaleStop(self._tokenizer, self.stop_strings)

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        self._completed_ids = self._roll_out(prompt_ids, images, multimodal_fields)
        if self._answer_room == 0:
            return self._completed_ids
        limit = self.max_completion_length
        return [until_stop(ids[:limit], self._tokenizer, self.stop_strings) for ids in self._completed_ids]

    def _roll_out(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        """Sample; where `_answer_room` is not 0, so many tokens beyond the end of the rationale."""
        # vLLM gets the stop strings from the config. Continuous batching of transformers 5.23 has none: it decodes on
        # to the end token, and the cut drops what follows the stop string.
        if self.use_transformers_continuous_batching and self._shares_prompts:
            with disabled_shared_prompts(self._policy):
                sampled_ids = super()._generate_single_turn(prompt_ids, images, multimodal_fields)
        elif self.use_vllm or self.use_transformers_continuous_batching or not self.stop_strings:
            sampled_ids = super()._generate_single_turn(prompt_ids, images, multimodal_fields)
        else:
            sampled_ids = self._generate_until_stop(prompt_ids)
        return [self._trim(ids) for ids in sampled_ids]

    @contextmanager
    def _room_for_answers(self, prompts: list, answers: list[str]) -> Iterator[None]:
        """Within, completions go on after their rationale until they have an answer to grade."""
        if not self.stop_strings:  # a completion is its rationale, to the end token
            yield
            return
        limit = self.max_completion_length
        room = find_answer_room(self._tokenizer, answers, self.answer_template)
        longest_prompt = max(len(ids) for ids in self._tokenize_prompts(prompts)[0])
        # The same on all processes, so that a completion does not depend on which of them samples it
        room, longest_prompt = (
            gather(torch.tensor([[room, longest_prompt]], device=self.accelerator.device)).amax(0).tolist()
        )
        if self._max_positions is not None:
            room = min(room, self._max_positions - longest_prompt - limit)
        self._answer_room = room
        if self.use_vllm:
            kwargs = self.vllm_generation.generation_kwargs
            self.vllm_generation.generation_kwargs = {name: kwargs[name] for name in kwargs if name != "stop"}
            self.vllm_generation.max_completion_length = limit + room
        else:
            self.generation_config.max_new_tokens = limit + room
        try:
            yield
        finally:
            self._answer_room = 0
            if self.use_vllm:
                self.vllm_generation.generation_kwargs = kwargs
                self.vllm_generation.max_completion_length = limit
            else:
                self.generation_config.max_new_tokens = limit

    def _generate_until_stop(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        """The parent's regular generation, with a stopping criterion, for which the parent has no argument."""
        input_ids, attention_mask = (
            pad(rows, padding_value=value, padding_side="left", pad_to_multiple_of=self.pad_to_multiple_of).to(
                self.accelerator.device
            )
            for rows, value in (
                ([torch.tensor(ids) for ids in prompt_ids], self._tokenizer.pad_token_id),
                ([torch.ones(len(ids), dtype=torch.long) for ids in prompt_ids], 0),
            )
        )  # (B, P)
        self._rationale_stop.start(input_ids.size(1), self._answer_room)
        with (
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as unwrapped_model,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            if self._generates_alone and can_leave_rows_out(unwrapped_model, self.generation_config):
                # Other processes may make more forwards, or less: the weights are here
                return generate_until_done(
                    unwrapped_model,
                    input_ids,
                    attention_mask,
                    self._rationale_stop,
                    self.generation_config,
                    synced_gpus=False,
                )
            output_ids = unwrapped_model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=self.generation_config,
                stopping_criteria=StoppingCriteriaList([self._rationale_stop]),
            )
        return output_ids[:, input_ids.size(1) :].tolist()

    @property
    def _generates_alone(self) -> bool:
        """Whether a process may make other forwards than the others, since it has all weights."""
        gathered = not self._dist.is_fsdp and (not self._dist.is_zero3 or self.args.ds3_gather_for_generation)
        return self.accelerator.num_processes == 1 or gathered

    def _trim(self, ids: list[int]) -> list[int]:
        """Drop the padding after an end token or a stop string. A rationale without tokens keeps an end token."""
        for position, token in enumerate(ids):
            if token in self.eos_token_ids:
                return ids[: position + 1]
        if find_stop(self._decode(ids), self.stop_strings) is not None:
            while ids[-1] == self._tokenizer.pad_token_id:
                ids = ids[:-1]
        return ids or [self._tokenizer.eos_token_id]

    # ---- cut, pack, score, reward ----

    @property
    def _scores_in_loss(self) -> bool:
        """
        Whether the forward that is trained with scores the samples too: the policy is still the one that drew them, and
        all samples of a prompt are in one forward, that of each process counted in.
        """
        args = self.args
        if not self._shares_prompts or self.normalize_advantages:
            return False
        return not self.model.training or (
            self.num_iterations == 1
            and args.gradient_accumulation_steps % args.steps_per_generation == 0
            and args.per_device_train_batch_size * self.accelerator.num_processes % self.num_generations == 0
        )

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        args = self.args
        is_new = self.model.training and (
            self._step % (args.steps_per_generation * self.num_iterations) == 0 or self._buffered_inputs is None
        )
        inputs = super()._prepare_inputs(generation_batch)
        if is_new:
            # Micro-batches between which no update can be
            together = math.gcd(args.steps_per_generation, args.gradient_accumulation_steps)
            self._buffered_inputs = [
                batch
                for start in range(0, args.steps_per_generation, together)
                for batch in self._form_micro_batches(self._buffered_inputs[start : start + together])
            ]
            inputs = self._buffered_inputs[self._step % args.steps_per_generation]
        return inputs

    def _form_micro_batches(self, batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Other micro-batches of the same rows, so that a forward has samples of one prompt, or of equal lengths."""
        rows = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        size, processes = self.args.per_device_train_batch_size, self.accelerator.num_processes
        key = rows["rows"] if self._shares_prompts else rows["attention_mask"].sum(1)
        order = key.argsort()
        rows = {name: tensor[order] for name, tensor in rows.items()}
        if self._scores_in_loss and size % self.num_generations != 0:
            # The samples of a prompt are on one process: deal them out over all of them
            rows = gather(pad_across_processes(rows, dim=1))  # (N, L)
            first = self.accelerator.process_index * size
            mine = [
                slice(start + first, start + first + size)
                for start in range(0, len(order) * processes, size * processes)
            ]
            rows = {name: torch.cat([tensor[part] for part in mine]) for name, tensor in rows.items()}
        return split_tensor_dict(rows, len(batches))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """
        Roll out -> cut -> pack -> score -> reward. Where the loss scores, the policy's part of it is left to the loss.

        Returns:
            `dict[str, torch.Tensor]`: what the loss needs, one row per sample: `input_ids`, `attention_mask`,
            `rationale_mask` and `answer_mask` of shape `(B, L)`, `rows` of shape `(B,)`; with what `_reward` returns, or
            with what it takes.
        """
        mode = "train" if self.model.training else "eval"
        num_generations = self.num_generations if mode == "train" else self.num_generations_eval
        device = self.accelerator.device

        check_columns(list(inputs[0]), f"{mode}_dataset")
        prompts = [example["prompt"] for example in inputs]
        answers = [example["answer"] for example in inputs]
        check_rows(prompts, answers, self._tokenizer, f"A row of `{mode}_dataset`")
        if self._rows_come_unchecked:
            self._check_room(prompts, answers, where=f"A row of `{mode}_dataset`")

        # Roll out. In evaluation the same completions are graded too, so they go on to their answer.
        with self._room_for_answers(prompts, answers) if mode == "eval" else nullcontext():
            prompt_ids, sampled_ids, completions = self._generate(prompts)

        # Cut
        rationales = [
            cut_rationale(ids, self._tokenizer, self.stop_strings, self.eos_token_ids, self.answer_separator)
            for ids in sampled_ids
        ]

        # Pack
        end_of_turn_id = (
            self._end_of_turn_id if is_conversational({"prompt": prompts[0]}) else self._tokenizer.eos_token_id
        )
        answer_ids = [
            encode_answer(rationale.ids, rationale.lead + self._answer_text(answer), self._tokenizer, end_of_turn_id)
            for rationale, answer in zip(rationales, answers, strict=True)
        ]
        batch = pack_rows(
            prompt_ids,
            [rationale.ids for rationale in rationales],
            answer_ids,
            self._tokenizer.pad_token_id,
            self.pad_to_multiple_of,
        )
        batch = {name: tensor.to(device) for name, tensor in batch.items()}  # (B, L) each
        batch["rows"] = torch.arange(len(inputs), device=device) + self.accelerator.process_index * len(inputs)  # (B,)

        table = {
            "prompt": prompts,
            "completion": completions,
            "rationale": [self._decode(rationale.ids) for rationale in rationales],
            "answer": answers,
            "extracted": [""] * len(inputs),
            "correct": [""] * len(inputs),
        }
        if mode == "eval":
            # The completion as a whole, and whether its answer is right
            texts = self._tokenizer.batch_decode(self._completed_ids, skip_special_tokens=True)
            grades = [
                grade_completion(text, row, self.answer_template, self.grader) if rationale.finished else NO_ANSWER
                for text, row, rationale in zip(texts, inputs, rationales, strict=True)
            ]
            if is_conversational({"prompt": prompts[0]}):
                table["completion"] = [[{"role": "assistant", "content": text}] for text in texts]
            else:
                table["completion"] = texts
            table["extracted"] = [grade.extracted or "" for grade in grades]
            table["correct"] = ["yes" if grade.correct else "no" for grade in grades]
            self._log_accuracy(grades, num_generations)
        self._rollout = Rollout(len(inputs) * self.accelerator.num_processes, table)

        # Score
        to_score = {
            "finished": torch.tensor([float(rationale.finished) for rationale in rationales], device=device),
            "sampled_lengths": torch.tensor([float(len(ids)) for ids in sampled_ids], device=device),
        }  # (B,) each
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.beta != 0.0:
                to_score["reference_logps"] = self._reference_logps(batch)  # (B, L)
            if self._scores_in_loss:
                return batch | to_score
            logps = self._score(self.model, batch)  # (B, L)
        return batch | self._reward(logps, batch | to_score)

    def _reward(self, logps: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """
        From the log-probs `(B, L)` of all rationales of the prompts, over all processes, to the parts of the loss:
        `old_logps` and `advantages` of shape `(B,)`, `answer_weights` of shape `(B, L)`.
        """
        mode = "train" if self.model.training else "eval"
        num_generations = self.num_generations if mode == "train" else self.num_generations_eval
        old_logps = (logps * batch["rationale_mask"]).sum(1)  # (B,) log pi(z|x)
        answer_logps = objective.logprob(logps, batch["answer_mask"])  # (B,) l(z) = log pi(y|x,z)
        if self.beta != 0.0:
            # (B,) answer tokens are not in it
            kl = ((logps - batch["reference_logps"]) * batch["rationale_mask"]).sum(1)
        else:
            kl = torch.zeros_like(old_logps)

        # Gathered, because the rationales of a prompt can be spread over processes.
        if self.reward_function is None:
            rewards = answer_logps
        else:
            rewards, answer_weights = objective.reward_and_weights(self.reward_function, logps, batch["answer_mask"])
        lengths = batch["rationale_mask"].sum(1).float()
        columns = SampleColumns(
            batch["rows"].float(), rewards, kl, answer_logps, batch["finished"], lengths, batch["sampled_lengths"]
        )
        columns = SampleColumns(*gather(torch.stack(columns, dim=1)).unbind(1))  # (N,) each, N = B * processes
        if len(columns.rewards) % num_generations != 0:
            raise ValueError(
                f"A batch of `{mode}_dataset` has {len(columns.rewards)} samples over all processes, which is not a "
                f"multiple of the {num_generations} generations per prompt. Choose `per_device_{mode}_batch_size` so "
                "that it is."
            )
        groups = columns.rows.view(-1, num_generations).div(num_generations, rounding_mode="floor")
        assert (groups == groups[:, :1]).all(), "the rationales of a prompt are adjacent"
        finite = torch.stack([columns.rewards, columns.kl, columns.answer_logps]).isfinite().all(0)  # (N,)
        if not finite.all():  # the same on all processes
            texts = [str(prompt) for prompt in gather_object(self._rollout.table["prompt"])]
            self._report_nonfinite("A reward", [texts[int(row)] for row in columns.rows[~finite]])
        penalty = self.unfinished_penalty * (1.0 - columns.finished)
        first = self.accelerator.process_index * len(old_logps)
        local = slice(first, first + len(old_logps))
        if self.reward_function is None:
            bound = objective.jepo_bound(columns.answer_logps, num_generations)  # (N / K,)
            rewards = bound.repeat_interleave(num_generations) - penalty
            advantages = objective.jepo_advantages(columns.answer_logps, num_generations)
            advantages = advantages + objective.leave_one_out(-penalty - self.beta * columns.kl, num_generations)
            answer_weights = objective.jepo_weights(columns.answer_logps, num_generations)[local, None]
            answer_weights = answer_weights * batch["answer_mask"]
        else:
            rewards = columns.rewards - penalty
            clipped = rewards.clamp(*self.reward_clip_range) if self.reward_clip_range else rewards
            # r_k = R(z_k) - penalty - beta * KL_k,   A_k = r_k - mean_{j != k} r_j
            advantages = objective.leave_one_out(clipped - self.beta * columns.kl, num_generations)
        if self.normalize_advantages:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-4)

        self._rollout.scored.append((columns._replace(rewards=rewards), advantages))
        scores = self._rollout.scores()
        if scores is not None:
            self._log_rollout(mode, num_generations, *scores)
            self._log_table(self._rollout.table, *scores)

        advantages = advantages[local]
        if self.mask_truncated_completions:
            advantages = advantages * batch["finished"]
            answer_weights = answer_weights * batch["finished"][:, None]
        return {"answer_weights": answer_weights, "old_logps": old_logps, "advantages": advantages}

    def _score(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Log-prob of each rationale and answer token `(B, L)`, in forwards of at most the per-device batch size."""
        args = self.args
        batch_size = args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size
        num_rows, length = batch["input_ids"].shape
        # Rows of equal length have no padding; those of one prompt stand together already
        lengths = batch["attention_mask"].sum(1)
        order = torch.arange(num_rows, device=lengths.device) if self._shares_prompts else lengths.argsort()
        logps = []
        for of_forward in order.split(batch_size):
            rows = trim_padding({name: tensor[of_forward] for name, tensor in batch.items()}, self.pad_to_multiple_of)
            chunk, _, _ = self._per_token_logps(model, rows)
            logps.append(F.pad(chunk, (0, length - chunk.size(1))))
        return torch.cat(logps)[order.argsort()]

    def _reference_logps(self, batch: dict[str, Tensor]) -> Tensor:
        """Log-probs under the frozen initial model, `(B, L)`; with PEFT the adapter is switched off."""
        if self.ref_model is not None:
            return self._score(self.ref_model, batch)
        model = self.accelerator.unwrap_model(self.model)
        # A PeftModel that came with an adapter has a frozen copy of it, made by the parent under the name "ref"
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._score(self.model, batch)

    def _per_token_logps(
        self, model: nn.Module, batch: dict[str, Tensor], **kwargs: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Log-probs and entropies `(B, L)` on rationales and answers, and the MoE auxiliary loss."""
        scored = (batch["rationale_mask"] + batch["answer_mask"]).bool()  # (B, L)
        if self._shares_prompts:
            sequence = share_prompts(batch)
            with self.accelerator.autocast():
                outputs = model(**sequence, fused_lm_head=True)
            labelled = sequence["shift_labels"] != -100  # (1, T)

            def to_rows(tokens: Tensor) -> Tensor:
                return tokens.new_zeros(scored.shape).masked_scatter(scored, tokens[labelled])

            entropies = None if outputs.entropy is None else to_rows(outputs.entropy)
            return to_rows(outputs.log_probs), entropies, None  # a model of experts does not share prompts

        shortest_prompt = int((batch["attention_mask"] - scored.long()).sum(1).min())
        logps, entropies, aux_loss = self._get_per_token_logps_and_entropies(
            model,
            batch["input_ids"],
            batch["attention_mask"],
            logits_to_keep=batch["input_ids"].size(1) - shortest_prompt,
            **kwargs,
        )
        logps = F.pad(logps, (shortest_prompt, 0))
        if entropies is not None:
            entropies = F.pad(entropies, (shortest_prompt, 0))
        return logps, entropies, aux_loss

    # ---- loss ----

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        mode = "train" if self.model.training else "eval"
        batch = trim_padding(inputs, self.pad_to_multiple_of)
        rationale_mask = batch["rationale_mask"]  # (B, L)
        logps, entropies, aux_loss = self._per_token_logps(
            model, batch, compute_entropy=True, compute_aux_loss=self.aux_loss_enabled
        )

        assert entropies is not None  # it was asked for
        if mode == "train":
            self._batches_of_update.append(batch)
        if "advantages" not in batch:
            batch |= self._reward(logps.detach(), batch)

        # loss = - mean_k( A_k * log pi(z_k|x) + answer_coef * sum_t w_kt * logp_kt )      (paper, Eq. 4)
        rationale_logps = (logps * rationale_mask).sum(1)  # (B,)
        rationale_loss = objective.rationale_loss(
            rationale_logps, batch["old_logps"], batch["advantages"], self.epsilon_low, self.epsilon_high
        ).mean()
        answer_loss = objective.answer_loss(logps, batch["answer_weights"]).mean()
        loss = rationale_loss + self.answer_coef * answer_loss
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss
            self._metrics[mode]["aux_loss"].append(self.accelerator.gather(aux_loss).mean().item())

        self._log_loss(mode, batch, rationale_logps.detach(), rationale_loss.detach(), answer_loss.detach(), entropies)
        return loss

    def prediction_step(
        self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        loss, _, _ = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        # `Trainer` takes the samples for the dataset's rows, and of the last batch drops what is more: whole processes
        return self.accelerator.reduce(loss, reduction="mean"), None, None

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Called between the backwards and the update."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        # With fp16 the gradient scaler leaves such updates out, that is how it finds its scale
        if grad_norm is not None and not math.isfinite(grad_norm) and not self.args.fp16:
            # From their tokens: samples may have been drawn several updates ago, or before training was resumed
            prompt_ids = [ids for batch in self._batches_of_update for ids in prompts_of(batch)]
            prompts = self._tokenizer.batch_decode(prompt_ids, skip_special_tokens=True)
            self._report_nonfinite("The gradient", gather_object(prompts))
            model.zero_grad(set_to_none=True)  # parameters without gradient are not updated
        self._batches_of_update.clear()
        return grad_norm

    def _report_nonfinite(self, what: str, prompts: list[str]) -> None:
        """Raise, or log where `skip_nonfinite_updates` says to go on."""
        named = list(dict.fromkeys(prompts))
        message = (
            f"{what} is not finite in update {self.state.global_step + 1}, from {len(named)} prompts: "
            + "; ".join(repr(prompt if len(prompt) <= 100 else f"{prompt[:97]}...") for prompt in named)
        )
        if self.args.skip_nonfinite_updates:
            logger.warning("%s. The update is left out.", message)
            return
        raise FloatingPointError(
            f"{message}. Training ends here, and the checkpoints in {self.args.output_dir!r} are as they were. "
            "Resume from one with a lower learning rate or in bf16 instead of fp16, without these prompts, or with "
            "`skip_nonfinite_updates=True`."
        )

    # ---- logs ----

    def _log_rollout(self, mode: str, num_generations: int, columns: SampleColumns, advantages: Tensor) -> None:
        """Metrics of the samples of all processes."""
        metrics = self._metrics[mode]
        for name, value in completion_metrics(columns).items():
            metrics[name][-1] = value  # in place of the parent's
        for name, value in rollout_metrics(columns, advantages, num_generations, self.beta).items():
            metrics[name].append(value)

    def _log_accuracy(self, grades: list[Grade], num_generations: int) -> None:
        """Metrics of evaluation: one value per sample or group, so that their mean is that over all of them."""
        metrics = self._metrics["eval"]
        grades = gather_object(grades)
        loader = self.accelerator.gradient_state.active_dataloader
        if loader is not None and isinstance(loader.dataset, Sized):
            # With several processes the first prompts come again to fill up the last batch
            grades = grades[: len(loader.dataset) * num_generations - len(metrics["accuracy"])]
        groups = [grades[start : start + num_generations] for start in range(0, len(grades), num_generations)]
        metrics["accuracy"].extend(float(grade.correct) for grade in grades)
        metrics[f"maj@{num_generations}"].extend(majority_accuracy(group) for group in groups)
        metrics["no_answer"].extend(float(grade.extracted is None) for grade in grades)

    def _log_table(self, table: dict[str, list], columns: SampleColumns, advantages: Tensor) -> None:
        """Rows of the completions table, which the parent prints and sends to the trackers."""
        table = {name: gather_object(values) for name, values in table.items()}
        self._logs["prompt"].extend(table["prompt"])
        self._logs["completion"].extend(table["completion"])
        self._logs["rewards"]["reward"].extend(columns.rewards.tolist())
        self._logs["advantages"].extend(advantages.tolist())
        self._logs["extra"]["rationale"].extend(table["rationale"])
        self._logs["extra"]["answer"].extend(table["answer"])
        self._logs["extra"]["answer_logp"].extend(columns.answer_logps.tolist())
        self._logs["extra"]["extracted"].extend(table["extracted"])
        self._logs["extra"]["correct"].extend(table["correct"])

    def _log_loss(
        self,
        mode: str,
        batch: dict[str, Tensor],
        rationale_logps: Tensor,
        rationale_loss: Tensor,
        answer_loss: Tensor,
        entropies: Tensor,
    ) -> None:
        """Metrics of one forward, averaged over processes. On-policy `latro/policy_loss` is near 0 by construction."""
        ratio = (rationale_logps - batch["old_logps"]).exp()  # (B,)
        low = ((ratio < 1 - self.epsilon_low) & (batch["advantages"] < 0)).float().mean()
        high = ((ratio > 1 + self.epsilon_high) & (batch["advantages"] > 0)).float().mean()
        means = self.accelerator.reduce(torch.stack([rationale_loss, answer_loss, low, high]), reduction="mean")
        names = ("latro/policy_loss", "latro/answer_loss", "clip_ratio/low_mean", "clip_ratio/high_mean")
        for name, value in zip(names, means.tolist(), strict=True):
            self._metrics[mode][name].append(value)
        self._metrics[mode]["clip_ratio/region_mean"].append((means[2] + means[3]).item())

        rationale_mask = batch["rationale_mask"]
        sums = torch.stack([(entropies * rationale_mask).sum(), rationale_mask.sum().float()])
        entropy, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        self._metrics[mode]["entropy"].append(entropy / max(tokens, 1.0))
