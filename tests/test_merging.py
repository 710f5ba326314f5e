# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""An adapter merged into its base model says what the two say together; what cannot be merged is refused."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from disks import mounted
from tiny import byte_level_tokenizer, save_model
from trl_latro.evaluation.merging import load_whole_config, whole_model


TOKENIZER = byte_level_tokenizer(num_merges=40)


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **{"target_modules": "all-linear", **settings})


def save_adapter(folder: Path, config: PeftConfig, **sizes: Any) -> str:
    """An adapter of a model of its own, with numbers other than zero wherever it has any."""
    base = save_model(TOKENIZER, folder / "base", **sizes)
    torch.manual_seed(0)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "adapter")
    return str(folder / "adapter")


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(torch.tensor([TOKENIZER.encode("What is 1 + 2? The answer is 3.")])).logits


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (lora(r=3), {}),
        (lora(r=8, use_dora=True, use_rslora=True), {}),
        (lora(target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head", "norm"]), {}),
        (lora(target_modules=["v_proj"], modules_to_save=["lm_head"]), {"tie_word_embeddings": True}),
    ],
)
def test_the_merged_model_is_the_adapted_one(tmp_path: Path, config: LoraConfig, sizes: dict[str, Any]) -> None:
    adapter = save_adapter(tmp_path, config, **sizes)
    assert load_whole_config(adapter, None, False).hidden_size == 16
    with whole_model(adapter, None, False, "float32") as (folder, revision):
        assert revision is None and not (Path(folder) / "adapter_config.json").exists()
        merged = logits(AutoModelForCausalLM.from_pretrained(folder))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    without = logits(base)
    assert torch.allclose(merged, logits(PeftModel.from_pretrained(base, adapter)), atol=1e-4)
    assert (merged - without).abs().max() > 0.1
    assert not Path(folder).exists(), "the merged weights are not left behind"


def test_a_whole_model_is_taken_as_it_is(tmp_path: Path) -> None:
    base = save_model(TOKENIZER, tmp_path / "base")
    assert load_whole_config(base, None, False).hidden_size == 16
    with whole_model(base, "some-revision", False, "float32") as found:
        assert found == (base, "some-revision")


def test_weights_are_merged_in_the_type_that_was_asked_for(tmp_path: Path) -> None:
    with whole_model(save_adapter(tmp_path, lora()), None, False, "bfloat16") as (folder, _):
        assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16


def test_an_adapter_of_another_kind_is_refused(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="of the kind PROMPT_TUNING, but only those of LoRA .* Leave --use_vllm out"):
        load_whole_config(adapter, None, False)


def test_quantized_base_weights_are_refused(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, lora())
    settings = tmp_path / "base" / "config.json"
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "quantization_config": quantization}))
    with pytest.raises(ValueError, match=r"base', the base model of .*, are quantized \(bitsandbytes\), and merging"):
        load_whole_config(adapter, None, False)


def test_a_variant_that_is_no_change_of_weights_is_refused(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, lora(alora_invocation_tokens=[5]))
    with pytest.raises(ValueError, match="cannot be merged into its base model, as vLLM needs it: .*aLoRA"):
        with whole_model(adapter, None, False, "float32"):
            pass


def test_tied_embeddings_that_it_changes_on_one_side_are_refused(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, lora(target_modules=["embed_tokens", "v_proj"]), tie_word_embeddings=True)
    with pytest.raises(ValueError, match="changes the embeddings of its base model, which are its head too"):
        with whole_model(adapter, None, False, "float32"):
            pass


def test_a_base_model_that_is_gone_is_named(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, lora())
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="base'.*: there is no such folder|base'.*no such folder"):
        load_whole_config(adapter, None, False)


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = save_adapter(tmp_path, lora(), hidden_size=256)
    with mounted(tmp_path / "disk", "size=1m") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(ValueError, match=r"takes \d MiB in .*disk, which has 1 free\. Make room, or name another"):
            with whole_model(adapter, None, False, "float32"):
                pass
        assert list(disk.iterdir()) == []
