# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Models, tokenizers and settings that others wrote: read, and where that fails, one sentence that names them.

The Hub is asked once whether it is there. If it is not, the process goes on as with `HF_HUB_OFFLINE=1`: what is in the cache
is used, and the rest fails at once, where each file would be asked for six times, with pauses.
"""

import functools
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from peft import PeftConfig, PeftModel, PeftType
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import deepspeed as transformers_deepspeed
from transformers.quantizers import AutoHfQuantizer
from transformers.utils import find_adapter_config_file
from transformers.utils import logging as transformers_logging


ADAPTER_CONFIG = "adapter_config.json"
LONGEST_REASON = 300  # characters: transformers' errors may list all models there are


@functools.cache
def why_not_reached() -> str | None:
    """
    Why the Hub does not answer, `None` if it does. Without an answer the process goes on offline.

    The request has the time limit of huggingface_hub's own, `HF_HUB_ETAG_TIMEOUT` (10 seconds), and no retries.
    """
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except (HTTPError, OSError) as error:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started later
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        return one_line(error)
    return None


def one_line(error: BaseException) -> str:
    """An error's text as the end of a sentence; its type too, unless the text says it all."""
    text = " ".join(str(error).split())
    if not isinstance(error, OSError | ValueError | ImportError | HTTPError | SafetensorError) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    if len(text) > LONGEST_REASON:
        text = text[:LONGEST_REASON].rsplit(" ", 1)[0] + " ..."
    return text.rstrip(" .!")


@contextmanager
def reading_model(name: str, what: str) -> Iterator[None]:
    """
    Say what is wrong where a part of a model cannot be read.

    Args:
        name (`str`):
            Folder, or name on the Hub.
        what (`str`):
            What is read within.

    Raises:
        `ValueError`: no such model, or one that cannot be read, whatever transformers raised. (Files of others are read
        here, so an error of any type says something about them.)
    """
    local = os.path.exists(name)
    if not local:
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ValueError(
                f"--model_name_or_path {name!r}: no model and tokenizer are there: no such folder is seen from {Path.cwd()}, "
                "and no model on the Hugging Face Hub has a name like that."
            ) from error
    elif not os.path.isdir(name):
        raise ValueError(f"--model_name_or_path {name!r} is a file: give the folder that holds config.json.")
    not_reached = None if local else why_not_reached()
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if not_reached is not None and isinstance(error, OSError):
            raise ValueError(
                f"--model_name_or_path {name!r}: there is no such folder (seen from {Path.cwd()}), the Hugging Face Hub "
                f"({constants.ENDPOINT}) is not reached ({not_reached}), and its cache has no whole copy of {what}. Give a "
                "model's folder, or try again with a network."
            ) from error
        if local and not any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
            raise ValueError(
                f"--model_name_or_path {name!r} holds no model: it has neither config.json nor {ADAPTER_CONFIG}."
            ) from error
        damaged = find_damaged_files(name)
        raise ValueError(
            f"--model_name_or_path {name!r}: {what} cannot be loaded: {one_line(error)}."
            + (f" Not whole, or not what the name says: {', '.join(damaged)}. Copy that once more." if damaged else "")
        ) from error


def find_damaged_files(folder: str) -> list[str]:
    """Files of a model that are not whole: weights, judged by their headers, and settings."""
    damaged = []
    for path in sorted(Path(folder).glob("*")):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
            elif path.suffix == ".json":
                read_json_object(path)
            elif path.suffix == ".bin" and not zipfile.is_zipfile(path):
                damaged.append(path.name)
        except (OSError, SafetensorError, ValueError):
            damaged.append(path.name)
    return damaged


def load_tokenizer(name: str, revision: str | None, trust_remote_code: bool, **kwargs: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer; raises `ValueError` where there is none."""
    with reading_model(name, "the tokenizer"):
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code, **kwargs)


def load_processing_class(name: str, revision: str | None, trust_remote_code: bool) -> Any:
    """What belongs to a model: its tokenizer, or a processor of several modalities (which training refuses)."""
    sides = {"truncation_side": "left", "padding_side": "left"}
    return AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code, **sides)


def load_config(
    name: str, revision: str | None, trust_remote_code: bool, what: str = "config.json"
) -> PreTrainedConfig:
    """The model's config, which errors call `what`; raises `ValueError` where there is none."""
    with reading_model(name, what):
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def read_adapter_config(name: str, revision: str | None) -> PeftConfig | None:
    """The config of an adapter, `None` for a whole model."""
    with reading_model(name, "the adapter's config"):
        if find_adapter_config_file(name, revision=revision) is None:
            return None
        return PeftConfig.from_pretrained(name, revision=revision)


def load_adapter(name: str, revision: str | None, config: PeftConfig, **kwargs: Any) -> PeftModel:
    """
    An adapter on its base model. PEFT loads it: transformers 5.23 makes the magnitudes of DoRA anew.

    Args:
        name (`str`), revision (`str`, *optional*):
            The adapter.
        config ([`~peft.PeftConfig`]):
            Its config, see [`read_adapter_config`].
        **kwargs:
            Of the base model's `from_pretrained`.

    Raises:
        `ValueError`: one of the two cannot be read.
    """
    base_name = str(config.base_model_name_or_path)
    with reading_model(base_name, "the base model of the adapter"):
        base = AutoModelForCausalLM.from_pretrained(base_name, revision=config.revision, **kwargs)
    with reading_model(name, "the adapter"):
        return PeftModel.from_pretrained(base, name, revision=revision)


def check_weights(
    name: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    dtype: str | None = None,
) -> None:
    """
    See that a model can be loaded, before that takes minutes: it is, on the meta device, which reads the headers of the
    files and keeps no numbers. Of a model on the Hub this fetches the files.

    Raises:
        `ValueError`: not a causal language model, files that are missing or broken off, a package that it needs, or
        weights that its files lack, which transformers would make at random.
    """
    adapter = read_adapter_config(name, revision)
    if adapter is None:
        _check_whole(name, revision, trust_remote_code, attn_implementation, dtype)
        return
    base = str(adapter.base_model_name_or_path)
    load_config(base, adapter.revision, trust_remote_code, f"config.json of the base model of the adapter {name!r}")
    if adapter.is_prompt_learning:
        raise ValueError(
            f"--model_name_or_path {name!r} is an adapter of the kind {PeftType(adapter.peft_type).value}, which puts "
            "vectors of its own before the prompt: only adapters that change a model's layers can be evaluated."
        )
    model = _check_whole(base, adapter.revision, trust_remote_code, attn_implementation, dtype)
    if model is not None:
        with reading_model(name, "the adapter"):
            adapted = PeftModel(model, adapter, low_cpu_mem_usage=True)
            found = adapted.load_adapter(name, "default", revision=revision, low_cpu_mem_usage=True)
        _say_unfit(name, "the adapter's file lacks weights", found.missing_keys)


def _check_whole(
    name: str, revision: str | None, trust_remote_code: bool, attn_implementation: str | None, dtype: str | None
) -> PreTrainedModel | None:
    """[`check_weights`] of a model that is no adapter; it on the meta device, `None` where it cannot be made there."""
    with reading_model(name, "config.json"):
        quantization = dict(PreTrainedConfig.get_config_dict(name, revision=revision)[0]).get("quantization_config")
    if quantization is not None:
        _check_quantizer(name, quantization)
        return None
    with reading_model(name, "the model"), _quiet(), _without_zero3():
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                name,
                revision=revision,
                trust_remote_code=trust_remote_code,
                attn_implementation=attn_implementation,
                dtype=dtype,
                device_map="meta",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except NotImplementedError:  # code of the model's own that reads numbers while it is made
            return None
    _say_unfit(name, "its files lack weights of a causal language model", found["missing_keys"])
    # Of a weight with another shape, its name and both shapes
    mismatched = [f"{key} {[*in_file]} and {[*in_model]}" for key, in_file, in_model in found["mismatched_keys"]]
    _say_unfit(name, "weights have other shapes in its files than config.json says", mismatched)
    return model


def _say_unfit(name: str, wrong: str, keys: Iterable[str]) -> None:
    """Raises `ValueError` where there are keys."""
    names = sorted(keys)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"--model_name_or_path {name!r}: {wrong}: {', '.join(names[:3])}{more}. They would be random numbers. Copy the "
            "files once more, or choose a model that has them."
        )


def _check_quantizer(name: str, quantization: dict[str, Any]) -> None:
    """Raises `ValueError` where a package is missing that quantized weights need; the rest takes their own device."""
    with reading_model(name, "its quantized weights"):
        try:
            AutoHfQuantizer.from_config(quantization, pre_quantized=True).validate_environment()
        except ImportError:
            raise
        except Exception:  # no GPU, say, which the loading itself tells
            return


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' reports and progress bars."""
    verbosity, has_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _without_zero3() -> Iterator[None]:
    """As if no training arguments had named ZeRO-3, which would spread the weights over the processes."""
    reference = transformers_deepspeed._hf_deepspeed_config_weak_ref
    settings = None if reference is None else reference()
    transformers_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if settings is not None:
            transformers_deepspeed.set_hf_deepspeed_config(settings)


def read_json_object(path: Path, name: str | None = None) -> dict[str, Any]:
    """
    Read a JSON file that holds one object.

    Args:
        path (`Path`):
            The file.
        name (`str`, *optional*):
            What an error calls it, its path if not given.

    Raises:
        `ValueError`: it cannot be read, is not JSON, or holds something else.
    """
    name = str(path) if name is None else name
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # broken JSON or not UTF-8
        raise ValueError(f"{name} is not JSON ({one_line(error)}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} should hold an object in braces, but holds {_shortened(content)}.")
    return content


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
