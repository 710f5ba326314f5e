# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a result says about where it was measured, and its file."""

import json
import os
import platform
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers


PACKAGES = ("trl_latro", "trl", "transformers", "torch", "accelerate", "peft")


def describe(device: torch.device) -> dict[str, dict[str, str | int]]:
    machine = {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
        machine["gpu_bytes"] = torch.cuda.get_device_properties(device).total_memory
        machine["cuda"] = str(torch.version.cuda)
    versions = {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    return {"machine": machine, "versions": versions}


def name_of_device(device: str) -> str:
    """For names of files: `cpu`, or the name of the GPU."""
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return re.sub(r"\W+", "-", name.lower())


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all: a result that is there is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result, indent=1) + "\n")
    unfinished.replace(path)


def processor() -> str:
    info = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the name
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def quiet() -> None:
    """What the libraries say about loading and about their next version is not what is measured."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".* is deprecated and will be removed in v6", category=FutureWarning)
