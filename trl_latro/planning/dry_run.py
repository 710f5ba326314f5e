# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A training step and a generation on fake tensors, which have shapes and types but no memory: every operation of the model
is run, and what it would allocate is counted. It takes seconds for a model of any size, on any machine.
"""

import logging
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from ..known_models import CACHE
from ..shared_prompt import enable_shared_prompts, share_prompts


FAKE_TENSOR_LOG = logging.getLogger("torch._subclasses.fake_tensor")


class MemoryCounter(TorchDispatchMode):
    """
    Counts the bytes of tensors that are made within, while they live.

    Args:
        known (`list[torch.Tensor]`):
            Tensors made before, which are not counted, nor views of them.

    Attributes:
        live (`int`): Bytes now.
        peak (`int`): The most there were at a time.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = [tensor.untyped_storage() for tensor in known]  # kept, or their ids would be used again
        self._seen = {id(storage) for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._seen:
            return
        self._seen.add(id(storage))
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, key: int, nbytes: int) -> None:
        self._seen.remove(key)
        self.live -= nbytes


# Tokens and words of the vocabulary that TRL's fused LM head takes at a time
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768


class FusedHead(torch.autograd.Function):
    """
    Stands for TRL's fused LM head as it runs on a GPU: one tile of logits at a time, gradients added up in float32. (TRL's
    own would count the larger temporary copies that it makes without a GPU.)
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(hidden, weight)  # (N, H), (V, H)
        ctx.dtype = dtype
        make_tile(hidden, dtype)
        return hidden.new_zeros(hidden.size(0), dtype=torch.float32)  # (N,)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        make_tile(hidden, ctx.dtype)
        return grad_hidden.to(hidden.dtype), None if grad_weight is None else grad_weight.to(weight.dtype), None


def make_tile(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Buffer of the fused head, of this size for small vocabularies too."""
    return hidden.new_empty(min(hidden.size(0), TILE_TOKENS), TILE_VOCABULARY, dtype=dtype)


class DryRun:
    """
    A model on fake tensors.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model on the meta device. It is used up.
        autocast (`torch.dtype`, *optional*):
            Type of mixed precision. Its copies of the weights are counted.
        gradient_checkpointing (`bool`):
            Whether layers are computed once more in the backward instead of being kept.
        shares_prompts (`bool`):
            Whether rows with the same prompt share it.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        autocast: torch.dtype | None,
        gradient_checkpointing: bool,
        shares_prompts: bool,
    ) -> None:
        self.autocast = autocast
        self.shares_prompts = shares_prompts
        self.mode = FakeTensorMode()
        if gradient_checkpointing:
            model.gradient_checkpointing_enable()
            if isinstance(model, PeftModel):
                model.enable_input_require_grads()
        with self.mode:
            to_fake(model)
        self.model = model.get_base_model() if isinstance(model, PeftModel) else model  # adapters are in its layers
        if shares_prompts:
            enable_shared_prompts(self.model)

    @contextmanager
    def _counter(self) -> Iterator[MemoryCounter]:
        """Within, the model's operations run on fake tensors and are counted."""
        level = FAKE_TENSOR_LOG.level
        FAKE_TENSOR_LOG.setLevel(logging.CRITICAL)  # it prints the traceback of what it then raises
        try:
            with self.mode, MemoryCounter([*self.model.parameters(), *self.model.buffers()]) as counter:
                yield counter
        except RuntimeError as error:
            # Before torch 2.13 the hooks of checkpointing stay with the frames, and act in the next dry run
            traceback.clear_frames(error.__traceback__)
            raise ValueError(
                f"The activations of {type(self.model).__name__} cannot be estimated: it has an operation that does not "
                f"run on tensors without memory ({str(error).strip().splitlines()[0]})."
            ) from error
        finally:
            FAKE_TENSOR_LOG.setLevel(level)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=self.autocast, enabled=self.autocast is not None)

    def training_step(self, rows: int, prompts: int, length: int, scored: int) -> int:
        """
        Peak bytes of a forward and a backward on `(rows, length)` tokens, of which the last `scored` of each row go into
        the loss; the rows have `prompts` different prompts. The gradients of the weights are not among them.
        """
        self.model.train()
        # They are counted elsewhere, since they stay from one forward to the next
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(drop_gradient)
        inputs, predicts = self._inputs(rows, prompts, length, scored)
        with self._counter() as counter:
            self._logps(inputs, predicts).sum().backward()
        return counter.peak

    @torch.no_grad()
    def scoring(self, rows: int, prompts: int, length: int, scored: int) -> int:
        """Peak bytes of a forward without gradient."""
        self.model.eval()
        inputs, predicts = self._inputs(rows, prompts, length, scored)
        with self._counter() as counter:
            self._logps(inputs, predicts)
        return counter.peak

    @torch.no_grad()
    def generation(self, rows: int, prompt: int, completion: int) -> tuple[int, int]:
        """
        Peak bytes of generating `(rows, completion)` tokens after prompts of `prompt` tokens, and how much of it is the KV
        cache at its end.
        """
        self.model.eval()
        with self._counter() as prefill:
            self._next_token(rows, prompt)
        with self._counter() as decode:
            cache = self._next_token(rows, prompt + completion - 1)
            decode.peak = decode.live  # forget how the cache came about: what counts is the last token
            cache = self._next_token(rows, prompt + completion, cache)
            kv_cache = decode.live  # all else is freed
        return max(prefill.peak, decode.peak), kv_cache

    def _inputs(self, rows: int, prompts: int, length: int, scored: int) -> tuple[dict[str, Any], tuple[Any, Any]]:
        """Arguments of the model, and the positions that the scored tokens are predicted from."""
        fake = self.mode.from_tensor
        # Another token for another prompt
        input_ids = (torch.arange(rows) * prompts // rows)[:, None].repeat(1, length)  # (B, L)
        attention_mask = torch.ones_like(input_ids)
        if not self.shares_prompts:
            inputs = {"input_ids": fake(input_ids), "attention_mask": fake(attention_mask)}
            return inputs, (slice(None), slice(-scored, None))
        is_scored = (torch.arange(length) >= length - scored).long().expand(rows, length)
        sequence = share_prompts(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "rationale_mask": is_scored,
                "answer_mask": torch.zeros_like(is_scored),
            }
        )
        row, position = (sequence.pop("shift_labels") != -100).nonzero(as_tuple=True)  # (S,) each
        layout = sequence.pop("shared_prompt_layout").map(fake)
        inputs = {name: fake(tensor) for name, tensor in sequence.items()} | {"shared_prompt_layout": layout}
        return inputs, (fake(row), fake(position))

    def _logps(self, inputs: dict[str, Any], predicts: tuple[Any, Any]) -> Tensor:
        with self._autocast():
            hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state  # (B, L, H) or (1, T, H)
            weight = self.model.get_output_embeddings().weight  # (V, H)
            hidden = hidden[predicts].reshape(-1, hidden.size(-1))  # (S, H)
            logps: Tensor = FusedHead.apply(hidden, weight, self.autocast or weight.dtype)
        return logps

    def _next_token(self, rows: int, length: int, cache: Any = None) -> Any:
        """Forward of all tokens that are not in the cache, and the distribution of the next one; the cache."""
        input_ids = torch.zeros(rows, length if cache is None else 1, dtype=torch.long)
        with self._autocast():
            outputs = self.model(
                input_ids=input_ids,
                attention_mask=torch.ones(rows, length, dtype=torch.long),
                **{CACHE: cache},
                use_cache=True,
                logits_to_keep=1,
            )
        outputs.logits[:, -1].to(copy=True, dtype=torch.float32).softmax(-1)  # (B, V), as `generate` does
        return outputs[CACHE]


def to_fake(model: nn.Module) -> nn.Module:
    """Put fake tensors on the CPU, where the operations are those of a real run, instead of those on the meta device."""
    fakes: dict[Tensor, Tensor] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in fakes:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                fakes[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module.register_parameter(name, fakes[parameter])  # type: ignore[arg-type]
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype), persistent=False)
    return model


def drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
