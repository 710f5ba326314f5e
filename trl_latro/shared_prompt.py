# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The rows of a batch as one sequence without padding, in which rows with the same prompt share it.

`[prompt 1 | prompt 2 | ... | segment 1 | segment 2 | ...]`: a segment is a row from the last token of its prompt on. Its
tokens attend to the rest of the prompt, which is computed once for all rows that follow each other with the same one, and
to the segment's earlier tokens. Positions are those of the row. The last prompt token is in every segment, because each of
them has another token to predict from it.

All layers but attention work on single tokens. Attention is transformers' `sdpa`, on prompts and on segments.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    LlamaForCausalLM,
    MistralForCausalLM,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask


# Classes whose log-probs the tests have compared: tokens meet in attention only, and know their places from
# `position_ids` only. A model's own code from the Hub is none of them.
MODEL_CLASSES = (LlamaForCausalLM, MistralForCausalLM, Phi3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)

_ATTENTION = "latro_shared_prompt"


@dataclass
class SharedPromptLayout:
    """
    Where attention finds the tokens of the sequence. T tokens, G prompts of at most P tokens without the last, S segments
    of at most R tokens.

    Attributes:
        prompts (`torch.Tensor` of shape `(G, P)`):
            Places of the prompts' tokens in the sequence. What stands behind a shorter one does not matter.
        segments (`torch.Tensor` of shape `(S, R)`):
            Places of the segments' tokens.
        prompt_of_segment (`torch.Tensor` of shape `(S,)`):
            The prompt of each segment.
        distances (`torch.Tensor` of shape `(S, 1, R, P + R)`):
            By how many positions each token of a segment stands behind those of its prompt and of the segment.
        order (`torch.Tensor` of shape `(T,)`):
            For each token of the sequence, its place among the `G * P` of the prompts and the `S * R` of the segments.
    """

    prompts: Tensor
    segments: Tensor
    prompt_of_segment: Tensor
    distances: Tensor
    order: Tensor


def share_prompts(batch: dict[str, Tensor]) -> dict[str, Any]:
    """
    Make one sequence of the rows.

    Args:
        batch (`dict[str, torch.Tensor]`):
            Rows of [`pack_rows`], `(B, L)`: `input_ids`, `attention_mask`, `rationale_mask` and `answer_mask`.

    Returns:
        `dict[str, Any]`: arguments of a model that [`enable_shared_prompts`] has prepared: `input_ids` and
        `position_ids` of shape `(1, T)`, `shift_labels` `(1, T)` with the next token where it belongs to a rationale or an
        answer and -100 elsewhere, `attention_mask` `(S, 1, R, P + R)` and `shared_prompt_layout`. The labels that are not
        -100 stand in the order of the rows' tokens.
    """
    input_ids = batch["input_ids"]  # (B, L)
    ends = batch["attention_mask"].sum(1)  # (B,)
    prompt_ends = ends - batch["rationale_mask"].sum(1) - batch["answer_mask"].sum(1)
    columns = torch.arange(input_ids.size(1), device=input_ids.device)  # (L,)

    # A row whose prompt is that of the row before shares it
    prompt_ids = input_ids.masked_fill(columns >= prompt_ends[:, None], 0)
    is_new = torch.ones_like(prompt_ends, dtype=torch.bool)
    is_new[1:] = (prompt_ids[1:] != prompt_ids[:-1]).any(1) | (prompt_ends[1:] != prompt_ends[:-1])
    prompt_of_segment = is_new.cumsum(0) - 1  # (S,) = (B,)

    in_prompt = columns < prompt_ends[is_new, None] - 1  # (G, L)
    in_segment = (columns >= prompt_ends[:, None] - 1) & (columns < ends[:, None])  # (S, L)
    next_ids = input_ids.roll(-1, dims=1).masked_fill(columns >= ends[:, None] - 1, -100)
    positions = columns.expand_as(input_ids)
    in_both = torch.cat([in_prompt, in_segment])  # (G + S, L)

    prompt_lengths, segment_lengths = in_prompt.sum(1), in_segment.sum(1)
    prompts, in_prompts = _places(prompt_lengths, 0)
    segments, in_segments = _places(segment_lengths, int(prompt_lengths.sum()))
    # The key tokens of a segment are its prompt's and its own
    own = torch.arange(segments.size(1), device=input_ids.device)  # (R,)
    query_positions = prompt_ends[:, None] - 1 + own  # (S, R)
    key_positions = torch.cat(
        [torch.arange(prompts.size(1), device=input_ids.device).expand(len(segments), -1), query_positions], dim=1
    )
    distances = query_positions[:, None, :, None] - key_positions[:, None, None, :]  # (S, 1, R, P + R)
    is_key = torch.cat([in_prompts[prompt_of_segment], torch.ones_like(in_segments)], dim=1)  # (S, P + R)
    return {
        "input_ids": torch.cat([input_ids[is_new], input_ids])[in_both][None],
        "position_ids": torch.cat([positions[is_new], positions])[in_both][None],
        "shift_labels": torch.cat([torch.full_like(input_ids[is_new], -100), next_ids])[in_both][None],
        # transformers takes a mask of four dimensions as it is
        "attention_mask": (distances >= 0) & is_key[:, None, None, :],
        "shared_prompt_layout": SharedPromptLayout(
            prompts=prompts,
            segments=segments,
            prompt_of_segment=prompt_of_segment,
            distances=distances,
            order=torch.cat([in_prompts.flatten(), in_segments.flatten()]).nonzero()[:, 0],
        ),
    }


def _places(lengths: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Places of parts that stand one after the other from `start` on, `(N, longest)`, and which of them there are."""
    columns = torch.arange(int(lengths.max()), device=lengths.device)
    there = columns < lengths[:, None]
    places = start + lengths.cumsum(0)[:, None] - lengths[:, None] + columns
    return places.masked_fill(~there, 0), there


def shared_prompt_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sliding_window: int | None = None,
    shared_prompt_layout: SharedPromptLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """
    Attention of the sequence of [`share_prompts`], of shape `(1, T, heads, head size)`. Other batches, those of
    generation for example, go to transformers' `sdpa`.

    Args:
        module (`torch.nn.Module`):
            The attention module.
        query, key, value (`torch.Tensor` of shape `(1, heads, T, head size)`):
            Projections; `key` and `value` may have fewer heads.
        attention_mask (`torch.Tensor`, *optional*):
            `(S, 1, R, P + R)`, or with another batch that of `sdpa`.
        sliding_window (`int`, *optional*):
            Number of positions that a token sees, itself among them.
        shared_prompt_layout ([`SharedPromptLayout`], *optional*):
            Where the tokens are.
    """
    if shared_prompt_layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layout = shared_prompt_layout
    if sliding_window is not None and attention_mask is not None:
        attention_mask = attention_mask & (layout.distances < sliding_window)
    outputs = []
    if layout.prompts.size(1) > 0:  # no prompt has a token beside its last one
        prompt_mask = None  # causal, and nothing looks at the tokens behind a prompt's end
        if sliding_window is not None:
            columns = torch.arange(layout.prompts.size(1), device=query.device)
            distances = columns[:, None] - columns
            prompt_mask = ((distances >= 0) & (distances < sliding_window))[None, None]
        output, _ = sdpa_attention_forward(
            module, *(_take(x, layout.prompts) for x in (query, key, value)), prompt_mask, **kwargs
        )
        outputs.append(output.flatten(0, 1))  # (G * P, heads, head size)
    places = torch.cat([layout.prompts[layout.prompt_of_segment], layout.segments], dim=1)  # (S, P + R)
    output, _ = sdpa_attention_forward(
        module, _take(query, layout.segments), _take(key, places), _take(value, places), attention_mask, **kwargs
    )
    outputs.append(output.flatten(0, 1))  # (S * R, heads, head size)
    return torch.cat(outputs)[layout.order][None], None


def _take(states: Tensor, places: Tensor) -> Tensor:
    """`(1, heads, T, head size)` at places `(N, length)`, as `(N, heads, length, head size)`."""
    return states[0].transpose(0, 1)[places].transpose(1, 2)


AttentionInterface.register(_ATTENTION, shared_prompt_attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def why_not_shared(model: PreTrainedModel) -> str | None:
    """Why the rows of a model cannot share their prompts, or `None` where they can."""
    if type(model) not in MODEL_CLASSES:
        names = ", ".join(model_class.__name__ for model_class in MODEL_CLASSES)
        return f"{type(model).__name__} is none of {names}"
    implementation = model.config._attn_implementation
    if implementation not in ("sdpa", _ATTENTION):
        return f"`attn_implementation` is {implementation!r}, not 'sdpa'"
    return None


def enable_shared_prompts(model: PreTrainedModel) -> None:
    """Let a model of [`MODEL_CLASSES`] take the sequences of [`share_prompts`] too."""
    model.set_attn_implementation(_ATTENTION)


@contextmanager
def disabled_shared_prompts(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model has the attention again that transformers knows by its name."""
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(_ATTENTION)
