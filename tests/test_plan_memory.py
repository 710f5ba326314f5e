# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The plan's estimate against what real training runs of small models allocate."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import trl.trainer.utils
from datasets import Dataset
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from trl import ModelConfig, get_peft_config

from given import cpu_config
from tiny import byte_level_tokenizer, save_model
from trl_latro import LaTROTrainer
from trl_latro.planning import dry_run
from trl_latro.planning.memory import Machine, Memory, Rows, estimate_memory, most_prompts
from trl_latro.planning.skeleton import build_skeleton


PROMPT, RATIONALE, ANSWER = 16, 32, 4  # tokens: every byte is one, and the EOS token
TOLERANCE = 0.1
TILE = 300  # words, more than the vocabulary has

# Large enough for the model's own tensors to outweigh masks and indices
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def peak_of_allocations(profile: torch.profiler.profile) -> int:
    """What the allocator had given out at most, beyond what there was at the start."""
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def nbytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def make_trainer(
    tmp_path: Path, kind: str, dtype: str, use_peft: bool, **settings: Any
) -> tuple[LaTROTrainer, Memory]:
    """A trainer whose rows are all as long as can be, and the plan of its training."""
    name = save_model(byte_level_tokenizer(), tmp_path / "model", kind=kind, **SIZES)
    model_args = ModelConfig(
        model_name_or_path=name, dtype=dtype, use_peft=use_peft, lora_r=8, lora_target_modules="all-linear"
    )
    args = cpu_config(
        str(tmp_path / "run"),
        **{"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "share_prompts": False, **settings},
        max_completion_length=RATIONALE,
        answer_template="={answer}",
        rationale_stop_strings=[],
        model_init_kwargs={"dtype": dtype},
        max_steps=2,
        beta=0.1,
        per_device_eval_batch_size=4,
    )
    rows = [{"prompt": f"{n:02}" * (PROMPT // 2), "answer": "9"} for n in range(32)]
    trainer = LaTROTrainer(
        model=name,
        args=args,
        train_dataset=Dataset.from_list(rows),
        peft_config=get_peft_config(model_args),
    )
    trainer.generation_config.min_new_tokens = RATIONALE  # the config refuses it: such rationales are no samples
    skeleton = build_skeleton(AutoConfig.from_pretrained(name), model_args, False, None)
    return trainer, estimate_memory(skeleton, args, model_args, Machine(1, 1, None), Rows(PROMPT, RATIONALE, ANSWER))


class Measured(NamedTuple):
    """Bytes of a real training, and its plan."""

    planned: Memory
    weights: int
    reference: int
    optimizer: int
    peak: int  # beyond the weights


def measure(tmp_path: Path, kind: str, dtype: str, use_peft: bool, settings: dict[str, Any]) -> Measured:
    # TRL's tile of logits is as large as that of a large model, and would outweigh all else
    trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE = dry_run.TILE_VOCABULARY = TILE
    trainer, memory = make_trainer(tmp_path, kind, dtype, use_peft, **settings)
    reference = 0 if trainer.ref_model is None else nbytes(trainer.ref_model)
    with torch.profiler.profile(profile_memory=True) as profile:
        trainer.train()
    held = [state for states in trainer.optimizer.state.values() for state in states.values()]
    optimizer = sum(tensor.nbytes for tensor in held)
    return Measured(memory, nbytes(trainer.model), reference, optimizer, peak_of_allocations(profile))


@pytest.mark.parametrize(
    ("kind", "dtype", "use_peft", "settings"),
    [
        pytest.param("llama", "float32", False, {}, id="full"),
        pytest.param("llama", "float32", False, {"share_prompts": True}, id="shared prompts", marks=pytest.mark.slow),
        pytest.param(
            "phi3", "float32", False, {"gradient_checkpointing": True}, id="checkpointing", marks=pytest.mark.slow
        ),
        pytest.param(
            "llama",
            "float32",
            False,
            {"gradient_checkpointing": True, "bf16": True},
            id="mixed precision",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "mistral",
            "bfloat16",
            True,
            {"gradient_checkpointing": True, "bf16": True, "share_prompts": True},
            id="lora",
        ),
    ],
)
def test_a_training_allocates_what_was_planned(
    tmp_path: Path, kind: str, dtype: str, use_peft: bool, settings: dict[str, Any]
) -> None:
    # In a process of its own: what other tests left behind would be counted with it
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        measured = pool.submit(measure, tmp_path, kind, dtype, use_peft, settings).result()
    planned = measured.planned
    assert measured.weights == planned.states["weights"]
    assert measured.reference == planned.states.get("reference model", 0) == (0 if use_peft else measured.weights)
    assert measured.optimizer == pytest.approx(planned.states["optimizer"], rel=0.01)
    assert planned.total - measured.weights - measured.reference == pytest.approx(measured.peak, rel=TOLERANCE)


@pytest.mark.parametrize(("prompt", "completion"), [(8, 56), (96, 4)])
def test_a_generation_allocates_what_was_planned(tmp_path: Path, prompt: int, completion: int) -> None:
    rows = 16
    path = save_model(byte_level_tokenizer(), tmp_path, kind="mistral", **SIZES)
    model_args = ModelConfig(model_name_or_path=path, dtype="float32")
    skeleton = build_skeleton(AutoConfig.from_pretrained(path), model_args, False, None)
    planned, kv_cache = dry_run.DryRun(skeleton, None, False, False).generation(rows, prompt, completion)
    layers, kv_heads, head_size = 4, 2, 128 // 4  # of SIZES
    keys_and_values = 2 * layers * kv_heads * head_size * (prompt + completion) * 4 * rows
    assert keys_and_values <= kv_cache <= keys_and_values + 8 * layers  # the cache of a layer counts its tokens

    model = AutoModelForCausalLM.from_pretrained(path)
    prompts = torch.full((rows, prompt), 5)
    mask = torch.ones_like(prompts)
    mask[0, 0] = 0  # prompts of several lengths: attention needs the mask
    gc.collect()
    with torch.profiler.profile(profile_memory=True) as profile:
        model.generate(
            prompts, attention_mask=mask, max_new_tokens=completion, min_new_tokens=completion, do_sample=True
        )
    assert planned == pytest.approx(peak_of_allocations(profile), rel=TOLERANCE)


def test_a_forward_has_as_many_prompts_as_the_worst_position_to_start_gives_it() -> None:
    for num_generations in range(2, 17):
        for rows in range(1, 49):
            starts = range(0, rows * num_generations, rows)  # after that the positions in a prompt's samples repeat
            counts = [len({row // num_generations for row in range(start, start + rows)}) for start in starts]
            assert most_prompts(rows, num_generations) == max(counts)
