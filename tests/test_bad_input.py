# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Bad input gets one clear sentence (what is wrong, the value seen, what to do) before any model is run."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin
from trl import RLOOConfig

import tiny
from given import cpu_config, lora_config
from trl_latro import LaTROConfig, LaTROTrainer


def says(error: pytest.ExceptionInfo, *parts: str) -> None:
    """The message is short and has every part in it."""
    message = str(error.value)
    for part in parts:
        assert part in message, f"{part!r} is missing in: {message}"
    assert len(message) < 600, f"not one clear sentence: {message}"


# ---- the configuration ----


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"answer_template": "The answer is."}, ["answer_template", "'The answer is.'", "{answer}"]),
        ({"answer_template": ""}, ["answer_template", "''", "{answer}"]),
        (
            {"reward_type": "log_prob"},
            ["reward_type", "'log_prob'", "logprob", "mean_prob", "geometric_mean", "jepo", "power"],
        ),
        ({"reward_type": 3}, ["reward_type", "3", "logprob"]),
        ({"reward_type": "prob", "reward_power": 0.3}, ["reward_power", "0.3", "'power'", "'prob'", "leave it unset"]),
        ({"reward_power_end": 0.1}, ["reward_power_end", "0.1", "'power'", "'logprob'"]),
        ({"reward_type": "power", "jepo_floor": 0.1}, ["jepo_floor", "0.1", "'jepo'", "'power'"]),
        ({"rationale_stop_strings": "The"}, ["rationale_stop_strings", "'The'", "list"]),
        ({"rationale_stop_strings": [""]}, ["rationale_stop_strings", "[''", "empty"]),
        ({"unfinished_penalty": -1.0}, ["unfinished_penalty", "-1.0", "negative"]),
        ({"num_generations": 1}, ["num_generations", "1", "2 or more"]),
        ({"temperature": 0.7}, ["temperature", "0.7", "1.0"]),
        (
            {"lr_scheduler_kwargs": {"num_cycle": 1}},
            ["lr_scheduler_kwargs", "{'num_cycle': 1}", "'linear'", "unexpected"],
        ),
        ({"lr_scheduler_type": "warmup_stable_decay"}, ["lr_scheduler_kwargs", "None", "missing", "num_decay_steps"]),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, ["lr_scheduler_kwargs", "min_lr_rate"]),
        ({"torch_compile": True}, ["torch_compile", "True", "Leave it unset"]),
        ({"torch_compile_mode": "max-autotune"}, ["torch_compile_mode", "'max-autotune'", "Leave it unset"]),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_configuration(tmp_path, settings, parts):
    with pytest.raises(ValueError) as error:
        LaTROConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **settings)
    says(error, *parts)


def test_temperature_says_why(tmp_path):
    """It would change both the reward and the distribution whose gradient is taken."""
    for settings in ({"temperature": 0.7}, {"generation_kwargs": {"temperature": 0.7}}):
        with pytest.raises(ValueError) as error:
            LaTROConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **settings)
        says(error, "divides the logits by the temperature", "log p", "samples of the policy")


@pytest.mark.parametrize("settings", [{"top_p": 0.9}, {"top_k": 10}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_other_changes_of_the_distribution_are_warned_of(tmp_path, settings):
    with pytest.warns(UserWarning, match="distribution.*biased"):
        LaTROConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **settings)


# ---- the trainer ----


@pytest.fixture
def build(tmp_path) -> Callable[..., LaTROTrainer]:
    """Builds a trainer, and fails the test if any model has run by the end of it."""
    forwards: list[str] = []

    def see(module: nn.Module, args: Any) -> None:
        if isinstance(module, PreTrainedModel):
            forwards.append(type(module).__name__)

    hook = nn.modules.module.register_module_forward_pre_hook(see)

    def build_trainer(
        train_dataset: Any = None,
        tokenizer: PreTrainedTokenizerFast | ProcessorMixin | None = None,
        model: dict[str, Any] | None = None,
        eval_dataset: Any = None,
        **settings: Any,
    ) -> LaTROTrainer:
        plain = tiny.byte_level_tokenizer()
        of_model = (
            tokenizer if isinstance(tokenizer, PreTrainedTokenizerFast) and len(tokenizer) > len(plain) else plain
        )
        tiny.tiny_model(of_model, **(model or {})).save_pretrained(tmp_path)
        return LaTROTrainer(
            AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32),
            cpu_config(settings.pop("output_dir", str(tmp_path)), **settings),
            tiny.tiny_dataset(4) if train_dataset is None else train_dataset,
            eval_dataset,
            processing_class=plain if tokenizer is None else tokenizer,
        )

    yield build_trainer
    hook.remove()
    assert not forwards, f"{forwards} ran before the error"


def rows(**columns: list[Any]) -> Dataset:
    return Dataset.from_dict(columns)


@pytest.mark.parametrize("iterable", [False, True])
@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ({"question": ["q"], "answer": ["a"]}, "prompt"),
        ({"prompt": ["q"], "solution": ["a"]}, "answer"),
        ({"prompt": ["q"], "completion": ["a"]}, "answer"),
    ],
)
def test_a_missing_column(build, columns, missing, iterable):
    dataset = rows(**columns)
    with pytest.raises(ValueError) as error:
        build(dataset.to_iterable_dataset() if iterable else dataset, max_steps=1)
    says(error, f"no column '{missing}'", "train_dataset", *columns)


def test_a_missing_column_of_the_evaluation_names_it(build):
    with pytest.raises(ValueError) as error:
        build(eval_dataset=rows(prompt=["q"], solution=["a"]))
    says(error, "eval", "answer", "solution")
    with pytest.raises(ValueError) as error:
        build(eval_dataset={"good": tiny.tiny_dataset(2), "bad": rows(prompt=["q"], solution=["a"])})
    says(error, "eval", "bad", "answer", "solution")


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_answer_names_the_row(build, empty):
    with pytest.raises(ValueError) as error:
        build(rows(prompt=["a", "b", "c", "d"], answer=["1", "2", empty, "4"]))
    says(error, "train_dataset", "row 2", f"answer {empty!r}", "Remove the row")


def test_an_answer_that_is_no_text_names_the_row(build):
    with pytest.raises(ValueError) as error:
        build(rows(prompt=["a", "b"], answer=[3, 4]))
    says(error, "row 0", "answer 3", "text")


@pytest.mark.parametrize("answer", [[], ["2", " "], ["2", None]], ids=str)
def test_a_list_of_answers_with_something_else_in_it_names_the_row(build, answer):
    with pytest.raises(ValueError) as error:
        build(rows(prompt=["a", "b"], answer=[["1", "one"], answer]))
    says(error, "train_dataset", "row 1", f"answer {answer!r}", "a list of such texts")


def test_an_answer_that_is_longer_than_its_limit_names_the_row(build):
    """The bound is sharp: the answer, what follows it and the end token, bytes here."""
    dataset = rows(prompt=["a", "b"], answer=[["1", "one"], ["a paragraph", "2"]])
    with pytest.raises(ValueError) as error:
        build(dataset, answer_max_length=12)
    says(error, "row 1", "13 tokens", "`answer_max_length` is 12", "truncate_answers=True")
    build(dataset, answer_max_length=13)
    build(dataset, answer_max_length=1, truncate_answers=True)


def test_an_answer_that_is_longer_than_its_limit_in_an_iterable_dataset(build):
    dataset = rows(prompt=["a", "b", "c"], answer=["a paragraph"] * 3).to_iterable_dataset()
    with pytest.raises(ValueError) as error:
        build(dataset, max_steps=1, answer_max_length=12).train()
    says(error, "13 tokens", "`answer_max_length` is 12")


def test_an_empty_answer_in_an_iterable_dataset(build):
    dataset = rows(prompt=["a", "b", "c"], answer=["1", "", "3"]).to_iterable_dataset()
    with pytest.raises(ValueError) as error:
        build(dataset, max_steps=1, shuffle_dataset=False).train()
    assert re.search("'b'|row 1", str(error.value)), f"which row was it? {error.value}"
    says(error, "train_dataset", "answer ''")


def test_a_prompt_without_room_for_rationale_and_answer(build):
    dataset = rows(prompt=["short", "x" * 60], answer=["1", "2"])
    with pytest.raises(ValueError) as error:
        build(dataset, model={"max_position_embeddings": 100}, max_completion_length=32)
    says(error, "row 1", "60 tokens", "32", "18 tokens", "110 positions", "the model has 100", "shorten its prompt")


def test_a_prompt_that_just_fits_is_taken(build):
    """The bound is sharp: prompt + rationale + answer = positions."""
    answer = len(" The answer is 1.") + 1  # bytes and the end token
    dataset = rows(prompt=["x" * (100 - 32 - answer)], answer=["1"])
    build(dataset, model={"max_position_embeddings": 100}, max_completion_length=32)
    dataset = rows(prompt=["x" * (100 - 32 - answer)], answer=[["1", "2"]])
    build(dataset, model={"max_position_embeddings": 100}, max_completion_length=32)
    longer = "x" * (100 - 32 - answer + 1)
    for of_row in ("1", ["1", "2"]):
        with pytest.raises(ValueError):
            build(
                rows(prompt=[longer], answer=[of_row]),
                model={"max_position_embeddings": 100},
                max_completion_length=32,
            )
    dataset = rows(prompt=[longer], answer=["a paragraph"])  # of which one byte is left
    build(
        dataset,
        model={"max_position_embeddings": 100},
        max_completion_length=32,
        answer_max_length=1,
        truncate_answers=True,
    )


def test_a_prompt_without_room_where_positions_are_absolute(build):
    dataset = rows(prompt=["x" * 60], answer=["1"])
    with pytest.raises(ValueError) as error:
        build(dataset, model={"kind": "gpt2", "n_positions": 100}, max_completion_length=32)
    says(error, "row 0", "60 tokens", "32", "the model has 100")


def test_an_empty_stream(build):
    with pytest.raises(ValueError) as error:
        build(IterableDataset.from_generator(lambda: iter(())), max_steps=1)
    says(error, "`train_dataset` has no rows")


def test_the_config_of_another_trainer(tmp_path):
    args = RLOOConfig(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(TypeError) as error:
        LaTROTrainer("no model is read", args, tiny.tiny_dataset(4), processing_class=tiny.byte_level_tokenizer())
    says(error, "`args` is a RLOOConfig", "`LaTROConfig`")


def test_an_empty_name_of_a_folder(build):
    with pytest.raises(OSError) as error:
        build(output_dir="")
    says(error, "output_dir is empty")


@pytest.mark.parametrize("adapter", [False, True])
def test_weights_that_are_too_coarse_for_a_step_are_warned_of(tmp_path, caplog, adapter):
    tokenizer = tiny.byte_level_tokenizer()
    model = tiny.tiny_model(tokenizer).bfloat16()
    LaTROTrainer(
        get_peft_model(model, lora_config()) if adapter else model,
        cpu_config(str(tmp_path), beta=0.0),
        tiny.tiny_dataset(4),
        processing_class=tokenizer,
    )
    assert ("weights are in bfloat16, which rounds small steps away" in caplog.text) != adapter


def test_too_few_prompts_for_one_generation_batch(build):
    """TRL would drop the incomplete batch and end after 0 updates."""
    trainer = build(tiny.tiny_dataset(2), per_device_train_batch_size=12)
    with pytest.raises(ValueError) as error:
        trainer.train()
    says(error, "2 rows", "3 prompts", "generation_batch_size")


def test_messages_without_a_chat_template(build):
    with pytest.raises(ValueError) as error:
        build(tiny.tiny_dataset(2, conversational=True))
    says(error, "row 0", "messages", "no chat template", "tokenizer.chat_template", "plain text")


class TextAndImages(ProcessorMixin):
    """A processor of the kind that vision models have."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer


def test_a_vision_processor(build):
    with pytest.raises(TypeError) as error:
        build(tokenizer=TextAndImages(tiny.byte_level_tokenizer()))
    says(error, "processing_class", "TextAndImages", "text only", "its tokenizer")


def test_a_tokenizer_without_an_end_token(build):
    tokenizer = tiny.byte_level_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError) as error:
        build(tokenizer=tokenizer)
    says(error, "no EOS token", "None", "Set `tokenizer.eos_token`")


def test_good_input_is_taken(build):
    """The counterpart of everything above: none of the checks stands in the way of a plain trainer."""
    build(eval_dataset={"one": tiny.tiny_dataset(2), "two": tiny.tiny_dataset(3)})
    build(tiny.tiny_dataset(2).to_iterable_dataset(), max_steps=1)
    build(tiny.tiny_dataset(2, conversational=True), tokenizer=tiny.byte_level_tokenizer(chat=True))
