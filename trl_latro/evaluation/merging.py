# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A LoRA adapter as a whole model: merged into its base, for engines that read whole models from a folder."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedConfig

from ..loading import load_adapter, load_config, one_line, read_adapter_config


def load_whole_config(name: str, revision: str | None, trust_remote_code: bool) -> PreTrainedConfig:
    """
    The config of a model, or of the base model of an adapter that can be merged, before any weights are read.

    Raises:
        `ValueError`: no model, an adapter of another kind than LoRA, no base model, or quantized weights in it.
    """
    config = read_adapter_config(name, revision)
    if config is None:
        return load_config(name, revision, trust_remote_code)
    kind = PeftType(config.peft_type)
    if kind != PeftType.LORA:
        raise ValueError(
            f"--use_vllm: the adapter {name!r} is of the kind {kind.value}, but only those of LoRA are merged into their base "
            "model for vLLM. Leave --use_vllm out."
        )
    base = str(config.base_model_name_or_path)
    base_config = load_config(
        base, config.revision, trust_remote_code, f"config.json of the base model of the adapter {name!r}"
    )
    quantization = base_config.to_dict().get("quantization_config")
    if quantization is not None:
        raise ValueError(
            f"--use_vllm: the weights of {base!r}, the base model of the adapter {name!r}, are quantized "
            f"({quantization['quant_method']}), and merging an adapter into them would round it. Leave --use_vllm out, or "
            "name the model that was quantized in base_model_name_or_path of adapter_config.json."
        )
    return base_config


@contextmanager
def whole_model(
    name: str, revision: str | None, trust_remote_code: bool, dtype: str
) -> Iterator[tuple[str, str | None]]:
    """
    Name and revision of a model that is whole: the model itself, or, until the end of the context, a folder with an
    adapter merged into its base model.

    Args:
        name (`str`):
            Model or LoRA adapter, see [`load_whole_config`].
        revision (`str`, *optional*):
            Revision on the Hub.
        trust_remote_code (`bool`):
            Whether the model may bring code of its own.
        dtype (`str`):
            Type of the weights.

    Raises:
        `ValueError`: an adapter that cannot be merged, or no room for the merged weights.
    """
    config = read_adapter_config(name, revision)
    if config is None:
        yield name, revision
        return
    with tempfile.TemporaryDirectory(prefix="merged-adapter-") as folder:
        _write_merged(name, revision, config, trust_remote_code, dtype, folder)
        yield folder, None


def _write_merged(
    name: str, revision: str | None, config: PeftConfig, trust_remote_code: bool, dtype: str, folder: str
) -> None:
    adapted = load_adapter(name, revision, config, trust_remote_code=trust_remote_code, dtype=dtype)
    base = adapted.get_base_model()
    embeddings = (base.get_input_embeddings(), base.get_output_embeddings())
    if base.config.tie_word_embeddings and any(isinstance(layer, BaseTunerLayer) for layer in embeddings):
        raise ValueError(
            f"--use_vllm: the adapter {name!r} changes the embeddings of its base model, which are its head too, on one side "
            "only: merged, it would change both. Leave --use_vllm out."
        )
    try:
        merged = adapted.merge_and_unload()
    except (NotImplementedError, ValueError) as error:  # a variant of LoRA that is no change of the weights
        raise ValueError(
            f"--use_vllm: the adapter {name!r} cannot be merged into its base model, as vLLM needs it: {one_line(error)}. "
            "Leave --use_vllm out."
        ) from error
    needed = sum(parameter.nbytes for parameter in merged.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"--use_vllm: the merged adapter takes {needed / 2**20:,.0f} MiB in {tempfile.gettempdir()}, which has "
            f"{free / 2**20:,.0f} free. Make room, or name another folder in the variable TMPDIR."
        )
    merged.save_pretrained(folder)
