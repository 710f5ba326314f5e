# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Generation without the rows that are done: the same tokens, fewer forwards."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList

import tiny
from trl_latro.rationale import RationaleStop
from trl_latro.rollout import generate_until_done


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
STOPS = ["e", "t "]
LIMIT = 48


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


def started(answer_room: int) -> RationaleStop:
    stop = RationaleStop(TOKENIZER, STOPS)
    stop.start(prompt_length=6, answer_room=answer_room)
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


@pytest.mark.parametrize("answer_room", [0, 5])
@pytest.mark.parametrize("model", [{"kind": "llama"}, {"kind": "gpt2"}, {"kind": "mistral", "sliding_window": 8}])
def test_the_tokens_are_those_of_generate(model: dict[str, Any], answer_room: int) -> None:
    net = tiny.tiny_model(TOKENIZER, seed=3, **model)
    ids, mask = prompts(24)
    expected = net.generate(
        ids,
        attention_mask=mask,
        generation_config=config(do_sample=False),
        stopping_criteria=StoppingCriteriaList([started(answer_room)]),
    )
    found = generate_until_done(net, ids, mask, started(answer_room), config(do_sample=False))
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
