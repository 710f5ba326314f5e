# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The rows of a batch as one sequence without padding, in which rows with the same prompt share it.

`[prompt 1 | prompt 2 | ... | segment 1 | segment 2 | ...]`: a segment is a row from the last token of its prompt on. Its
tokens attend to the rest of the prompt, which is computed once for all rows that follow each other with the same one, and
to the segment's earlier tokens. Positions are those of the row. The last prompt token is in every segment, because each of
them has another token to predict from it.

All layers but attention work on single tokens. Attention is transformers' `sdpa`, on prompts and on segments.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .durability.processes import is_main_process
from .known_models import why_unknown


logger = logging.getLogger(__name__)

_ATTENTION = "latro_shared_prompt"


# Attention works on segments of similar lengths at a time: none is shorter than this share of the longest
_SIMILAR = 2 / 3


@dataclass
class Part:
    """
    Rows that attention works on together: N rows of at most Q query and K key tokens.

    Attributes:
        queries (`torch.Tensor` of shape `(N, Q)`), keys (`torch.Tensor` of shape `(N, K)`):
            Indices of the tokens in the sequence. Behind a shorter row stand any other tokens.
        query_positions (`torch.Tensor` of shape `(N, Q)`), key_positions (`torch.Tensor` of shape `(N, K)`):
            Their positions in the row of the batch.
        mask (`torch.Tensor` of shape `(N, 1, Q, K)`, *optional*):
            Which keys a query sees. If `None`, those up to its own position.
    """

    queries: Tensor
    keys: Tensor
    query_positions: Tensor
    key_positions: Tensor
    mask: Tensor | None


@dataclass
class SharedPromptLayout:
    """
    Where attention finds the T tokens of the sequence.

    Attributes:
        parts (`list[Part]`):
            The prompts, and the segments by length.
        order (`torch.Tensor` of shape `(T,)`):
            For each token of the sequence, its position among the queries of all parts.
        longest (`int`):
            No row has more tokens.
    """

    parts: list[Part]
    order: Tensor
    longest: int

    def map(self, change: Callable[[Tensor], Tensor]) -> "SharedPromptLayout":
        """The same positions in other tensors."""
        parts = [
            replace(part, **{name: change(value) for name, value in vars(part).items() if value is not None})
            for part in self.parts
        ]
        return replace(self, parts=parts, order=change(self.order))

    def to(self, device: torch.device | str, **kwargs: Any) -> "SharedPromptLayout":
        """On another device: accelerate moves the arguments of layers so where a model is spread over several."""
        return self.map(lambda tensor: tensor.to(device))


def share_prompts(batch: dict[str, Tensor]) -> dict[str, Any]:
    """
    Make one sequence of the rows.

    Args:
        batch (`dict[str, torch.Tensor]`):
            Rows of [`pack_rows`], `(B, L)`: `input_ids`, `attention_mask`, `rationale_mask` and `answer_mask`.

    Returns:
        `dict[str, Any]`: arguments of a model that [`enable_shared_prompts`] has prepared: `input_ids` and
        `position_ids` of shape `(1, T)`, `shift_labels` `(1, T)` with the next token where it belongs to a rationale or an
        answer and -100 elsewhere, `attention_mask` and `shared_prompt_layout`. The labels that are not -100 stand in the
        order of the rows' tokens.
    """
    input_ids = batch["input_ids"]  # (B, L)
    ends = batch["attention_mask"].sum(1)  # (B,)
    prompt_ends = ends - batch["rationale_mask"].sum(1) - batch["answer_mask"].sum(1)
    columns = torch.arange(input_ids.size(1), device=input_ids.device)  # (L,)

    # A row whose prompt is that of the row before shares it
    prompt_ids = input_ids.masked_fill(columns >= prompt_ends[:, None], 0)
    is_new = torch.ones_like(prompt_ends, dtype=torch.bool)
    is_new[1:] = (prompt_ids[1:] != prompt_ids[:-1]).any(1) | (prompt_ends[1:] != prompt_ends[:-1])

    in_prompt = columns < prompt_ends[is_new, None] - 1  # (G, L)
    in_segment = (columns >= prompt_ends[:, None] - 1) & (columns < ends[:, None])  # (S, L), S = B
    next_ids = input_ids.roll(-1, dims=1).masked_fill(columns >= ends[:, None] - 1, -100)
    positions = columns.expand_as(input_ids)
    in_both = torch.cat([in_prompt, in_segment])  # (G + S, L)
    return {
        "input_ids": torch.cat([input_ids[is_new], input_ids])[in_both][None],
        "position_ids": torch.cat([positions[is_new], positions])[in_both][None],
        "shift_labels": torch.cat([torch.full_like(input_ids[is_new], -100), next_ids])[in_both][None],
        # transformers takes a mask of four dimensions as it is, and attention here has its own
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
        "shared_prompt_layout": _lay_out(
            in_prompt.sum(1), in_segment.sum(1), is_new.cumsum(0) - 1, prompt_ends - 1, input_ids.size(1)
        ),
    }


def shared_logps(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """
    Log-probs of rationale and answer tokens, and the entropies there, from one forward of [`share_prompts`].

    Args:
        model (`torch.nn.Module`):
            Model with TRL's fused LM head, prepared by [`enable_shared_prompts`].
        batch (`dict[str, torch.Tensor]`):
            Rows of [`pack_rows`], `(B, L)`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor | None]`: `(B, L)` each, 0 on other tokens; no entropies from a head without.
    """
    scored = (batch["rationale_mask"] + batch["answer_mask"]).bool()  # (B, L)
    sequence = share_prompts(batch)
    outputs = model(**sequence, fused_lm_head=True)
    labelled = sequence["shift_labels"] != -100  # (1, T)

    def to_rows(tokens: Tensor) -> Tensor:
        return tokens.new_zeros(scored.shape).masked_scatter(scored, tokens[labelled])

    return to_rows(outputs.log_probs), None if outputs.entropy is None else to_rows(outputs.entropy)


def _lay_out(
    prompt_lengths: Tensor, segment_lengths: Tensor, prompt_of: Tensor, first_positions: Tensor, longest: int
) -> SharedPromptLayout:
    """From the lengths of prompts `(G,)` and segments `(S,)`, each segment's prompt and the position that it starts at."""
    lengths = torch.cat([prompt_lengths, segment_lengths])
    prompt_starts, segment_starts = (lengths.cumsum(0) - lengths).split([len(prompt_lengths), len(segment_lengths)])
    num_tokens = int(lengths.sum())
    prompts, in_prompts = _indices(prompt_starts, prompt_lengths, num_tokens)  # (G, P)
    prompt_positions = torch.arange(prompts.size(1), device=lengths.device).expand_as(prompts)
    parts, are_there = [], []
    if prompts.size(1) > 0:
        # Causal: nothing looks at what stands behind a prompt's end
        parts.append(Part(prompts, prompts, prompt_positions, prompt_positions, mask=None))
        are_there.append(in_prompts)
    for similar in by_length(segment_lengths.tolist()):
        rows = torch.tensor(similar, device=lengths.device)  # (N,)
        own, in_own = _indices(segment_starts[rows], segment_lengths[rows], num_tokens)  # (N, Q)
        own_positions = first_positions[rows, None] + torch.arange(own.size(1), device=lengths.device)
        key_positions = torch.cat([prompt_positions[prompt_of[rows]], own_positions], dim=1)  # (N, P + Q)
        is_key = torch.cat([in_prompts[prompt_of[rows]], torch.ones_like(in_own)], dim=1)
        mask = (key_positions[:, None, :] <= own_positions[:, :, None]) & is_key[:, None, :]
        keys = torch.cat([prompts[prompt_of[rows]], own], dim=1)
        parts.append(Part(own, keys, own_positions, key_positions, mask[:, None]))
        are_there.append(in_own)

    tokens = torch.cat([part.queries[there] for part, there in zip(parts, are_there, strict=True)])  # (T,)
    order = torch.empty_like(tokens)
    order[tokens] = torch.cat([there.flatten() for there in are_there]).nonzero()[:, 0]
    return SharedPromptLayout(parts, order, longest)


def _indices(starts: Tensor, lengths: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Indices of rows in the sequence `(N, longest)`, and which of them there are."""
    columns = torch.arange(int(lengths.max()), device=lengths.device)
    # What stands behind a row's end is spread over the sequence: gradients of one position are added up one by one
    return (starts[:, None] + columns) % num_tokens, columns < lengths[:, None]


def by_length(lengths: list[int]) -> list[list[int]]:
    """Rows in parts of similar lengths."""
    parts: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not parts or lengths[row] < _SIMILAR * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(row)
    return parts


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
            That of `sdpa`; the sequence has masks of its own.
        sliding_window (`int`, *optional*):
            Number of positions that a token sees, itself among them.
        shared_prompt_layout ([`SharedPromptLayout`], *optional*):
            Where the tokens are.
    """
    if shared_prompt_layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    outputs = []
    for part in shared_prompt_layout.parts:
        mask = part.mask
        if sliding_window is not None and sliding_window < shared_prompt_layout.longest:
            distances = part.query_positions[:, None, :, None] - part.key_positions[:, None, None, :]
            in_window = (distances >= 0) & (distances < sliding_window)
            mask = in_window if mask is None else mask & in_window
        output, _ = sdpa_attention_forward(
            module, _take(query, part.queries), _take(key, part.keys), _take(value, part.keys), mask, **kwargs
        )
        outputs.append(output.flatten(0, 1))  # (N * Q, heads, head size)
    return torch.cat(outputs)[shared_prompt_layout.order][None], None


def _take(states: Tensor, indices: Tensor) -> Tensor:
    """`(1, heads, T, head size)` at indices `(N, length)`, as `(N, heads, length, head size)`."""
    return states[0].transpose(0, 1)[indices].transpose(1, 2)


AttentionInterface.register(_ATTENTION, shared_prompt_attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def why_not_shared(model: PreTrainedModel | PeftModel) -> str | None:
    """Why the rows of a model cannot share their prompts, or `None` where they can."""
    implementation = model.config._attn_implementation
    if implementation not in ("sdpa", _ATTENTION):
        return f"`attn_implementation` is {implementation!r}, not 'sdpa'"
    return why_unknown(model)


def _without_adapter(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def enable_shared_prompts(model: PreTrainedModel | PeftModel) -> None:
    """Let a known model take the sequences of [`share_prompts`] too."""
    _without_adapter(model).set_attn_implementation(_ATTENTION)


def enable_where_possible(models: list[PreTrainedModel | PeftModel]) -> bool:
    """Let the policy, and the reference model behind it, share prompts. Where they cannot, the log says why."""
    reason = why_not_shared(models[0])
    if reason is None:
        for model in models:
            enable_shared_prompts(model)
    elif is_main_process():
        logger.warning("The samples of a prompt do not share it, each is computed with its own: %s.", reason)
    return reason is None


def check_attention(model: PreTrainedModel | PeftModel) -> None:
    """
    Raises:
        `ValueError`: a model that took the sequences of [`share_prompts`] has been given another attention, in which the
        rows would see each other.
    """
    if model.config._attn_implementation != _ATTENTION:
        raise ValueError(
            f"The model's attention was changed to {model.config._attn_implementation!r} after the trainer was made, but "
            "samples that share their prompt need the trainer's own. Choose the attention before, with "
            "`model_init_kwargs={'attn_implementation': ...}`, or set `share_prompts=False`."
        )


@contextmanager
def enabled_shared_prompts(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Within, a known model takes the sequences of [`share_prompts`] too; then it has the attention again that it had."""
    implementation = model.config._attn_implementation
    enable_shared_prompts(model)
    try:
        yield
    finally:
        _without_adapter(model).set_attn_implementation(implementation)


@contextmanager
def disabled_shared_prompts(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Within, the model has the attention again that transformers knows by its name."""
    _without_adapter(model).set_attn_implementation("sdpa")
    try:
        yield
    finally:
        enable_shared_prompts(model)
