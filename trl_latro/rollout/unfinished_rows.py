# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Generation that computes a prompt once for all of its rows, and goes on without the rows that are done."""

import copy
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ..known_models import CACHE, why_unknown
from ..truncation import RationaleStop
from .row_draws import RowDraws
from .sampling_settings import is_neutral


# `generate` computes rows that are done to its end. It is left when this share of its rows is done; each time the cache
# of the others is copied, so a smaller share saves less than it costs.
DONE_SHARE = 1 / 8


# All others of `GenerationConfig` count the tokens or the time of a call, look at the prompt by itself, or decode in
# another way than token by token.
_SETTINGS_OF_A_ROW = {
    *("max_length", "max_new_tokens", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    *("do_sample", "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "sequence_bias"),
    *("renormalize_logits", "remove_invalid_values", "return_dict_in_generate", "disable_compile"),
    *("output_attentions", "output_hidden_states", "output_logits", "output_scores"),
    *("_from_model_config", "transformers_version"),
}


class _EnoughDone(StoppingCriteria):
    """
    Ends `generate` for all rows when [`DONE_SHARE`] of them are done.

    Attributes:
        done (`torch.Tensor` of shape `(B,)`): The rows that are.
    """

    def __init__(self, rationale_stop: RationaleStop, eos_token_ids: Tensor, num_rows: int):
        self.rationale_stop = rationale_stop
        self.eos_token_ids = eos_token_ids
        self.done = torch.zeros(num_rows, dtype=torch.bool, device=eos_token_ids.device)

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor] | None, **kwargs: Any) -> torch.BoolTensor:
        ended = torch.isin(input_ids[:, -1], self.eos_token_ids)
        self.done = self.done | ended | self.rationale_stop(cast(torch.LongTensor, input_ids), scores)
        enough = self.done.float().mean() >= DONE_SHARE
        return cast(torch.BoolTensor, self.done | enough)


def can_leave_rows_out(model: PreTrainedModel | PeftModel, generation_config: GenerationConfig) -> bool:
    """
    Whether [`generate_until_done`] gives what `generate` does: a known model, and settings that look at the tokens of a row
    or at the next token's distribution only. `generate` takes from the model's own settings what `generation_config`
    leaves open.
    """
    return why_unknown(model) is None and all(
        name in _SETTINGS_OF_A_ROW or is_neutral(name, value) or (name == "use_cache" and value is True)
        for config in (generation_config, model.generation_config)
        for name, value in config.to_dict().items()
    )


@torch.no_grad()
def generate_until_done(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    rationale_stop: RationaleStop,
    generation_config: GenerationConfig,
    row_draws: RowDraws | None = None,
    **kwargs: Any,
) -> list[list[int]]:
    """
    Sample as `generate` does, but compute each prompt once, and leave rows that are done out of further forwards.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model, see [`can_leave_rows_out`].
        input_ids (`torch.Tensor` of shape `(B, P)`), attention_mask (`torch.Tensor` of shape `(B, P)`):
            Prompts, padded on the left.
        rationale_stop ([`RationaleStop`]):
            Where rationales end, besides EOS tokens; `start` was called.
        generation_config ([`~transformers.GenerationConfig`]):
            Settings of `generate`, with `max_new_tokens`, `eos_token_id` and `pad_token_id`.
        row_draws ([`~trl_latro.rollout.row_draws.RowDraws`], *optional*):
            Random numbers of each row's own; then `generation_config` says `do_sample=False`.
        **kwargs:
            Further arguments of `generate`.

    Returns:
        `list[list[int]]`: the sampled tokens of each row; padding may follow.
    """
    prompt_length, limit = input_ids.size(1), generation_config.max_new_tokens
    generation_config = copy.deepcopy(generation_config)
    generation_config.return_dict_in_generate = True
    eos_token_ids = torch.as_tensor(generation_config.eos_token_id, device=input_ids.device)
    completions: list[list[int]] = [[] for _ in range(input_ids.size(0))]
    rows = torch.arange(input_ids.size(0), device=input_ids.device)  # which completions the ids below belong to
    cache = _cache_prompts(model, input_ids, attention_mask) if prompt_length > 1 else None
    while len(rows) > 0:
        enough_done = _EnoughDone(rationale_stop, eos_token_ids, len(rows))
        generation_config.max_new_tokens = limit - (input_ids.size(1) - prompt_length)
        outputs = model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=generation_config,
            stopping_criteria=StoppingCriteriaList([enough_done]),
            logits_processor=LogitsProcessorList([] if row_draws is None else [row_draws]),
            **{CACHE: cache},
            **kwargs,
        )
        sampled = outputs.sequences.size(1) - input_ids.size(1)
        input_ids, cache = outputs.sequences, outputs[CACHE]
        limit_reached = sampled == generation_config.max_new_tokens
        done = torch.ones_like(enough_done.done) if limit_reached else enough_done.done
        for row, ids in zip(rows[done].tolist(), input_ids[done, prompt_length:].tolist(), strict=True):
            completions[row] = ids
        kept = (~done).nonzero()[:, 0]
        rows, input_ids = rows[kept], input_ids[kept]
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(done), sampled)], dim=1)[kept]
        cache.batch_select_indices(kept)
        rationale_stop.keep(kept.tolist())
        if row_draws is not None:
            row_draws.keep(kept)
    return completions


def _cache_prompts(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Cache:
    """The KV cache of prompts `(B, P)` without their last token, with which `generate` begins."""
    rows = torch.stack([input_ids, attention_mask], dim=1)[..., :-1]  # (B, 2, P - 1)
    distinct, prompt_of = rows.unique(dim=0, return_inverse=True)  # (G, 2, P - 1), (B,)
    mask = distinct[:, 1]
    cache = model(
        input_ids=distinct[:, 0],
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )[CACHE]
    cache.batch_select_indices(prompt_of)
    return cache
