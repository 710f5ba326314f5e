# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Rows that share their prompt have the log-probs and gradients of separate rows, in a sequence without padding."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import send_to_device
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

import tiny
from given import cpu_config, lora_config, perturb
from trl_latro import LaTROTrainer
from trl_latro.packing import pack_rows
from trl_latro.shared_prompt import enable_shared_prompts, share_prompts, why_not_shared


TOKENIZER = tiny.byte_level_tokenizer(num_merges=60)

# Prompts of several rows, of one row, of one token; rationales without tokens; the last prompt is the first once more
PROMPTS = [[5, 6, 7, 8, 9]] * 3 + [[5, 6, 7, 8]] * 2 + [[4]] * 2 + [[3, 2, 1]] + [[5, 6, 7, 8, 9]]
RATIONALES = [[1, 2, 3], [], [4, 5], [9, 8, 7, 6, 5, 4, 3], [1], [2, 3, 4], [5], [], [6, 7]]
ANSWERS = [[11, 12], [11, 12], [13], [14], [15, 16], [11], [17], [18, 19, 20], [21]]
BATCH = pack_rows(PROMPTS, RATIONALES, ANSWERS, pad_token_id=0)
SCORED = (BATCH["rationale_mask"] + BATCH["answer_mask"]).bool()  # (B, L)

MODELS: dict[str, dict[str, Any]] = {
    "llama": {"kind": "llama"},
    "mistral": {"kind": "mistral"},
    "mistral, sliding window": {"kind": "mistral", "sliding_window": 4},
    "phi3": {"kind": "phi3"},
    "phi3, sliding window": {"kind": "phi3", "sliding_window": 4},
    "qwen2": {"kind": "qwen2"},
    "qwen2, sliding window in one layer": {
        "kind": "qwen2",
        "sliding_window": 4,
        "use_sliding_window": True,
        "max_window_layers": 1,
    },
    "qwen3": {"kind": "qwen3"},
    "gemma3": {"kind": "gemma3"},
}


def separate_rows(model: PreTrainedModel) -> Tensor:
    labels = BATCH["input_ids"].masked_fill(~SCORED, -100)
    outputs = model(
        input_ids=BATCH["input_ids"], attention_mask=BATCH["attention_mask"], labels=labels, fused_lm_head=True
    )
    return outputs.log_probs[SCORED[:, 1:]]


def shared_rows(model: PreTrainedModel) -> Tensor:
    sequence = share_prompts(BATCH)
    outputs = model(**sequence, fused_lm_head=True)
    return outputs.log_probs[sequence["shift_labels"] != -100]


def gradients(model: PreTrainedModel, logps: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logps * torch.linspace(-1, 1, len(logps))).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5 * largest, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_log_probs_and_gradients_are_those_of_separate_rows(name: str, checkpointing: bool) -> None:
    model = tiny.tiny_model(TOKENIZER, **MODELS[name]).train()
    add_fused_lm_head(model)
    expected = separate_rows(model)
    expected_gradients = gradients(model, expected)
    enable_shared_prompts(model)
    if checkpointing:
        model.gradient_checkpointing_enable()
    found = shared_rows(model)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(model, found), expected_gradients)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_lora_adapters_have_the_gradients_of_separate_rows(name: str) -> None:
    model = tiny.tiny_model(TOKENIZER, **MODELS[name])
    add_fused_lm_head(model)
    adapted = get_peft_model(model, lora_config()).train()
    perturb(adapted, seed=1)  # away from the base model: B begins with zeros, and the gradient of A with it
    expected = separate_rows(adapted)
    expected_gradients = gradients(adapted, expected)
    enable_shared_prompts(adapted)
    found = shared_rows(adapted)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(adapted, found), expected_gradients)


def test_the_sequence_has_each_prompt_once_and_no_padding() -> None:
    sequence = share_prompts(BATCH)
    groups = (PROMPTS[0], PROMPTS[3], PROMPTS[5], PROMPTS[7], PROMPTS[8])
    tokens = sum(len(prompt) - 1 for prompt in groups) + sum(
        1 + len(rationale) + len(answer) for rationale, answer in zip(RATIONALES, ANSWERS, strict=True)
    )
    assert sequence["input_ids"].shape == sequence["position_ids"].shape == (1, tokens)
    labels = sequence["shift_labels"]
    assert labels[labels != -100].tolist() == BATCH["input_ids"][SCORED].tolist()


@pytest.mark.parametrize("name", ["llama", "mistral, sliding window"])
def test_generation_and_the_saved_config_stay_as_they_were(name: str, tmp_path: Path) -> None:
    model = tiny.tiny_model(TOKENIZER, **MODELS[name])
    prompts = torch.tensor([[0, 0, 5, 6], [4, 5, 6, 7]])
    settings = {"attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]), "max_new_tokens": 8, "do_sample": False}
    expected = model.generate(prompts, **settings)
    model.save_pretrained(tmp_path / "before")
    enable_shared_prompts(model)
    assert torch.equal(model.generate(prompts, **settings), expected)
    model.save_pretrained(tmp_path / "after")
    before, after = (json.loads((tmp_path / when / "config.json").read_text()) for when in ("before", "after"))
    assert after == before


@pytest.mark.parametrize("own_attention", [False, True])
def test_where_prompts_cannot_be_shared_the_log_says_so_and_rows_are_separate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, own_attention: bool
) -> None:
    kind = "llama" if own_attention else "gpt2"
    model = tiny.tiny_model(TOKENIZER, kind=kind, attn_implementation="eager" if own_attention else None)
    args = cpu_config(str(tmp_path), beta=0.0, max_completion_length=8, max_steps=1, per_device_train_batch_size=4)
    trainer = LaTROTrainer(model, args, tiny.tiny_dataset(2), processing_class=TOKENIZER)
    reason = "`attn_implementation` is 'eager', not 'sdpa'" if own_attention else "GPT2LMHeadModel is none of Gemma3"
    assert f"The samples of a prompt do not share it, each is computed with its own: {reason}" in caplog.text
    widths = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    trainer.train()
    assert widths[-2:] == [4, 4]


def test_models_of_the_hubs_own_code_are_not_taken_for_known_ones() -> None:
    class LlamaForCausalLM(type(tiny.tiny_model(TOKENIZER, kind="llama"))):  # type: ignore[misc]
        """Same name, and who knows what attention."""

    own = LlamaForCausalLM(tiny.tiny_model(TOKENIZER, kind="llama").config)
    assert why_not_shared(own) is not None


def test_other_adapters_than_lora_have_separate_rows() -> None:
    model = tiny.tiny_model(TOKENIZER, kind="llama")
    assert why_not_shared(get_peft_model(model, lora_config())) is None
    activated = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", alora_invocation_tokens=[5])
    for adapter in (activated, PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")):
        reason = why_not_shared(get_peft_model(tiny.tiny_model(TOKENIZER, kind="llama"), adapter))
        assert reason == f"the adapter, {type(adapter).__name__}, is not plain LoRA"


def test_nothing_is_said_where_it_is_not_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.tiny_model(TOKENIZER, kind="gpt2")
    args = cpu_config(str(tmp_path), beta=0.0, max_completion_length=8, share_prompts=False)
    LaTROTrainer(model, args, tiny.tiny_dataset(3), processing_class=TOKENIZER)
    assert "share" not in caplog.text


@pytest.mark.parametrize("share_prompts", [False, True])
def test_micro_batches_have_rows_of_one_length_or_of_one_prompt(tmp_path: Path, share_prompts: bool) -> None:
    """Eight prompts of four samples, in micro-batches of two: a forward holds few prompts, or little padding."""
    args = cpu_config(
        str(tmp_path),
        beta=0.0,
        max_completion_length=40,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=16,
        max_steps=1,
        monitor_collapse=False,  # which scores some answers without a rationale
        share_prompts=share_prompts,
    )
    trainer = LaTROTrainer(
        tiny.tiny_model(TOKENIZER), args, tiny.tiny_dataset(8), processing_class=TOKENIZER, peft_config=lora_config()
    )
    batches, forwards = [], []
    compute_loss, per_token_logps = trainer.compute_loss, trainer._per_token_logps

    def watched(model: PreTrainedModel, inputs: dict[str, Tensor], **kwargs: Any) -> Tensor:
        batches.append(inputs)
        return compute_loss(model, inputs, **kwargs)

    def scored(model: PreTrainedModel, batch: dict[str, Tensor], **kwargs: Any) -> Any:
        forwards.append(batch["attention_mask"].sum(1))
        return per_token_logps(model, batch, **kwargs)

    trainer.compute_loss, trainer._per_token_logps = watched, scored
    trainer.train()
    rows = torch.cat([batch["rows"] for batch in batches])
    assert sorted(rows.tolist()) == list(range(32))
    assert torch.cat(forwards).unique().numel() > 8, "rows of one length would prove nothing"
    assert len(forwards) == 2 * len(batches), "the samples are scored first"
    if share_prompts:
        assert all(batch["rows"].div(4, rounding_mode="floor").unique().numel() == 1 for batch in batches)
    else:
        for lengths in (forwards[:16], forwards[16:]):
            tokens = sum(int(length.sum()) for length in lengths)
            assert tokens > 0.9 * sum(int(length.max()) * len(length) for length in lengths)


def test_another_attention_after_construction_is_refused(tmp_path: Path) -> None:
    args = cpu_config(str(tmp_path), beta=0.0, max_completion_length=8, max_steps=1)
    trainer = LaTROTrainer(
        tiny.tiny_model(TOKENIZER, kind="llama"), args, tiny.tiny_dataset(3), processing_class=TOKENIZER
    )
    trainer.model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="attention was changed to 'eager' after the trainer was made"):
        trainer.train()


def test_the_layout_goes_to_the_device_of_a_layer() -> None:
    """As accelerate's hooks move the arguments of a model that is spread over several devices."""
    batch = pack_rows([[5, 6, 7], [5, 6, 7]], [[8], [9, 10]], [[11], [11]], pad_token_id=0)
    layout = send_to_device(share_prompts(batch), "meta")["shared_prompt_layout"]
    tensors = [layout.order, *(value for part in layout.parts for value in vars(part).values() if value is not None)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
