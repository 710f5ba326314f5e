# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Generation without the rows that are done: the same tokens, fewer forwards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList

import tiny
from given import cpu_config, lora_config
from trl_latro import LaTROTrainer
from trl_latro.rollout.row_draws import RowDraws, choose
from trl_latro.rollout.unfinished_rows import can_leave_rows_out, generate_until_done
from trl_latro.truncation import RationaleStop, Truncator


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
STOPS = ["e", "t "]
LIMIT = 48
SLIDING = {"kind": "mistral", "sliding_window": 8}


def prompts(num_rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = 6
    ids = torch.randint(5, 200, (num_rows, width), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(num_rows):
        mask[row, : row % 4] = 0
    return ids.masked_fill(mask == 0, TOKENIZER.pad_token_id), mask


def config(do_sample: bool) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=LIMIT,
        do_sample=do_sample,
        top_k=0,
        eos_token_id=[TOKENIZER.eos_token_id],
        pad_token_id=TOKENIZER.pad_token_id,
    )


def started(answer_budget: int) -> RationaleStop:
    stop = RationaleStop(Truncator(TOKENIZER, STOPS, [TOKENIZER.eos_token_id]))
    stop.start(prompt_length=6, answer_budget=answer_budget)
    return stop


def until_end(ids: list[int]) -> list[int]:
    while ids and ids[-1] == TOKENIZER.pad_token_id:
        ids = ids[:-1]
    return ids


def watched_rows(model: PreTrainedModel) -> list[int]:
    """Tokens of each forward, from now on."""
    tokens: list[int] = []

    def see(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        tokens.append(kwargs["input_ids"].numel())

    model.register_forward_pre_hook(see, with_kwargs=True)
    return tokens


@pytest.mark.parametrize("answer_budget", [0, 5])
@pytest.mark.parametrize(
    "model", [*({"kind": kind} for kind in ("llama", "mistral", "phi3", "qwen2", "qwen3", "gemma3")), SLIDING], ids=str
)
def test_the_tokens_are_those_of_generate(model: dict[str, Any], answer_budget: int) -> None:
    net = tiny.tiny_model(TOKENIZER, seed=3, **model)
    assert can_leave_rows_out(net, config(do_sample=False))
    ids, mask = prompts(24)
    expected = net.generate(
        ids,
        attention_mask=mask,
        generation_config=config(do_sample=False),
        stopping_criteria=StoppingCriteriaList([started(answer_budget)]),
    )
    found = generate_until_done(net, ids, mask, started(answer_budget), config(do_sample=False))
    expected_ids = [until_end(row) for row in expected[:, 6:].tolist()]
    # What was sampled beside the rows that were done is cut by the trainer; here a row ends where it is done
    assert [until_end(row) for row in found] == expected_ids
    assert len({len(row) for row in expected_ids}) > 2, "rows of one length would prove nothing"


def test_rows_that_are_done_are_not_computed() -> None:
    net = tiny.tiny_model(TOKENIZER, kind="llama", seed=3)
    ids, mask = prompts(64)
    tokens = watched_rows(net)
    torch.manual_seed(0)
    found = [until_end(row) for row in generate_until_done(net, ids, mask, started(0), config(do_sample=True))]
    kept = sum(len(row) for row in found)
    computed = sum(tokens) - ids.numel() + len(found)  # the first token of each row comes from the prompts' forward
    assert kept <= computed <= 1.15 * kept
    longest = max(len(row) for row in found)
    assert len(found) * longest > 2 * kept, "with rows of one length nothing could be saved"


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_prompt_is_computed_once_for_all_of_its_rows(kind: str) -> None:
    net = tiny.tiny_model(TOKENIZER, kind=kind, seed=3)
    ids, mask = (tensor.repeat_interleave(4, dim=0) for tensor in prompts(6))
    expected = net.generate(
        ids,
        attention_mask=mask,
        generation_config=config(do_sample=False),
        stopping_criteria=StoppingCriteriaList([started(0)]),
    )
    tokens = watched_rows(net)
    found = generate_until_done(net, ids, mask, started(0), config(do_sample=False))
    assert [until_end(row) for row in found] == [until_end(row) for row in expected[:, 6:].tolist()]
    assert tokens[:2] == [6 * 5, 24], "all but the last token of each prompt, then that of each row"


def test_padding_with_the_id_of_a_prompts_token_makes_no_other_prompt_of_it() -> None:
    net = tiny.tiny_model(TOKENIZER, kind="llama", seed=3)
    pad = TOKENIZER.pad_token_id
    ids = torch.tensor([[pad, 7, 8, 9, 10, 11]] * 2)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    rows = zip(ids, mask, strict=True)
    alone = [generate_until_done(net, i[None], m[None], started(0), config(do_sample=False))[0] for i, m in rows]
    assert generate_until_done(net, ids, mask, started(0), config(do_sample=False)) == alone
    assert alone[0] != alone[1]


def test_draws_of_rows_have_the_distribution_of_the_logits() -> None:
    """Over several blocks of the vocabulary, one of them without probability."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(900, generator=generator)
    logits[256:512] = logits[800:] = -torch.inf
    number = 20_000
    draws = RowDraws(range(number), 1, logits.device)
    tokens = draws(torch.empty(0), logits.expand(number, -1)).argmax(-1)
    found = torch.bincount(tokens, minlength=900) / number
    probabilities = logits.softmax(-1)
    exact = torch.multinomial(probabilities, number, replacement=True, generator=generator)
    chance = (torch.bincount(exact, minlength=900) / number - probabilities).abs().sum()
    assert (found - probabilities).abs().sum() < 1.1 * chance
    assert found[probabilities == 0].sum() == 0


def test_a_draw_at_the_end_of_its_range_hits_a_token_that_can_be() -> None:
    weights = torch.tensor([[0.0, 1e-30, 0.3, 0.1, 0.0, 0.0]] * 3)
    assert choose(weights, torch.tensor([0.0, 0.8, 1.0])).tolist() == [1, 3, 3]


def test_rows_are_left_out_only_where_the_models_cache_is_known() -> None:
    def can(model: PreTrainedModel, **own: Any) -> bool:
        for name, value in own.items():
            setattr(model.generation_config, name, value)
        return can_leave_rows_out(model, config(do_sample=True))

    def llama() -> PreTrainedModel:
        return tiny.tiny_model(TOKENIZER, kind="llama")

    assert can(llama())
    assert can(get_peft_model(llama(), lora_config()))
    assert not can(tiny.tiny_model(TOKENIZER, kind="gpt2"))
    assert not can(llama(), use_cache=False)
    assert not can(llama(), cache_implementation="static")
    for setting in (
        {"min_new_tokens": 3},
        {"max_time": 60.0},
        {"num_beams": 2},
        {"guidance_scale": 3.0},
        {"encoder_repetition_penalty": 1.2},
        {"encoder_no_repeat_ngram_size": 2},
        {"prompt_lookup_num_tokens": 4},
    ):
        assert not can(llama(), **setting), setting
    assert can(llama(), temperature=0.7, repetition_penalty=1.1, num_beams=1, min_length=0)
    assert not can(get_peft_model(llama(), PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")))
    activated = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", alora_invocation_tokens=[5])
    assert not can(get_peft_model(llama(), activated))


@pytest.mark.parametrize("own", [{"use_cache": False}, {"cache_implementation": "static"}, {"min_new_tokens": 3}])
def test_a_model_with_settings_of_its_own_trains(own: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.tiny_model(TOKENIZER, kind="llama", seed=3)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    args = cpu_config(
        str(tmp_path), beta=0.0, max_completion_length=12, max_steps=1, rationale_stop_strings=STOPS, num_generations=4
    )
    trainer = LaTROTrainer(model, args, tiny.tiny_dataset(3), processing_class=TOKENIZER)
    trainer.train()
    assert trainer.state.global_step == 1
