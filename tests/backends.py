# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The ways to train on several devices, started with two ranks on CPU, and the comparison with one process."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from backend_worker import FEATURES, empty, train


TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Backend:
    """
    How to start it, and what shows that it is the one: the beginning of the name of the class around the model, and
    the stage of ZeRO.

    With an optimizer in DeepSpeed's file (`own_optimizer`) the logged learning rate is that of the step to come.
    """

    command: tuple[str, ...]
    port_option: str
    wrapper: str
    deepspeed: str = ""
    zero_stage: int = 0
    own_optimizer: bool = False


def _deepspeed(stage: int, file: str, own_optimizer: bool = False) -> Backend:
    command = (str(BIN / "deepspeed"), "--num_accelerators", "2")
    path = EXAMPLES / "deepspeed" / file
    return Backend(command, "--master_port", "DeepSpeedEngine", str(path), stage, own_optimizer)


_FSDP2_CONFIG = str(EXAMPLES / "fsdp" / "fsdp2.yaml")

BACKENDS: dict[str, Backend] = {
    "DDP": Backend(
        ("-m", "torch.distributed.run", "--nproc_per_node", "2"), "--master_port", "DistributedDataParallel"
    ),
    "ZeRO-1": _deepspeed(1, "zero1.json"),
    "ZeRO-2": _deepspeed(2, "zero2.json"),
    "ZeRO-3": _deepspeed(3, "zero3.json"),
    "ZeRO-3, offload": _deepspeed(3, "zero3_offload_params.json", own_optimizer=True),
    "FSDP2": Backend(
        ("-m", "accelerate.commands.launch", "--config_file", _FSDP2_CONFIG, "--num_processes", "2"),
        "--main_process_port",
        "FSDP",  # before the name of the model's class
    ),
}

# TRL 1.16 with ZeRO-3 of DeepSpeed 0.19 ends so after generation with sharded parameters, if the head is trained
FAILS_IN_TRL = "Cannot partition a param in flight"
FAILING = "sharded generation"


def features_of(backend: str) -> list[str]:
    """Those that can run. Sharded generation is a setting of ZeRO-3."""
    if BACKENDS[backend].zero_stage == 3:
        return [feature for feature in FEATURES if feature != FAILING]
    return [feature for feature in FEATURES if FEATURES[feature].settings.get("ds3_gather_for_generation", True)]


def start(backend: str, script: str, *arguments: str, timeout: float = 900) -> tuple[int, str]:
    """Run a script of this folder with two ranks. Returns its exit status, not 0 after the timeout, and what it printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = BACKENDS[backend]
    command = [*launcher.command, launcher.port_option, str(port), str(TESTS / script), *arguments]
    # DeepSpeed builds an operator at its first start, for which it looks for ninja
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # Torch's launcher then ends its ranks, which have sessions of their own; DeepSpeed's ranks are in the group
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
    return process.returncode, output


def skip_without_deepspeed() -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    if shutil.which("g++") is None:
        pytest.skip("DeepSpeed builds an operator with g++, which is missing")


class Difference(NamedTuple):
    """
    The largest differences of two runs: of saved parameters, and of logged values. That of a value above 10 is divided by
    a tenth of the value.
    """

    parameters: float
    log: float


def train_alone(feature: str, model: str, output_dir: Path) -> Path:
    """One process, whose run is the reference: with what it has to show so that agreeing with it means something."""
    run = output_dir / feature
    train(feature, model, run, num_processes=1)
    before, after = (load_file(find_weights(path)) for path in (run / "before", run))
    for name, parameter in after.items():
        assert not torch.allclose(parameter, before[name], atol=1e-3), f"{feature}: {name} has not moved"
    log = json.loads((run / "log_history.json").read_text())
    settings = FEATURES[feature]
    assert log[0]["latro/finished_ratio"] == settings.finished_ratio
    assert any(entry.get("kl", 0.0) != 0.0 for entry in log) == (settings.completion is not empty)
    generated = json.loads((run / "generated.json").read_text())
    assert len(generated) == (4 if settings.generates else 0)
    for call in generated[:2]:  # in training; those of evaluation go on to the answer
        assert abs(len(call[0]) - len(call[-1])) > 9
    return run


def compare(backend: str, features: Iterable[str], model: str, alone: Path, output_dir: Path) -> dict[str, Difference]:
    """Run features with two ranks, and compare them with those of one process in `alone`."""
    features = list(features)
    arguments = (model, str(output_dir), BACKENDS[backend].deepspeed, ";".join(features))
    status, output = start(backend, "backend_worker.py", *arguments)
    if status != 0:
        raise RuntimeError(f"{backend} ended with status {status}:\n{output}")
    return {feature: _difference(backend, feature, alone / feature, output_dir / feature) for feature in features}


def _difference(backend: str, feature: str, one: Path, two: Path) -> Difference:
    kind = json.loads((two / "backend.json").read_text())
    assert kind["wrapper"].startswith(BACKENDS[backend].wrapper), f"{backend} was not run, but {kind['wrapper']}"
    assert kind["zero_stage"] == BACKENDS[backend].zero_stage

    parameters, found_parameters = (load_file(find_weights(run)) for run in (one, two))
    assert found_parameters.keys() == parameters.keys()
    of_parameters = [(found_parameters[name] - parameter).abs().max().item() for name, parameter in parameters.items()]

    log, found_log = (_read_log(run, backend, feature) for run in (one, two))
    assert [entry.keys() for entry in found_log] == [entry.keys() for entry in log]
    of_log = [
        abs(found_entry[name] - value) / max(1.0, abs(value) / 10)
        for entry, found_entry in zip(log, found_log, strict=True)
        for name, value in entry.items()
    ]
    assert all(math.isfinite(number) for number in of_parameters + of_log)

    generated, found_generated = (json.loads((run / "generated.json").read_text()) for run in (one, two))
    assert found_generated == generated
    return Difference(max(of_parameters), max(of_log))


def _read_log(run: Path, backend: str, feature: str) -> list[dict[str, Any]]:
    """What was logged, without what must differ."""
    entries = json.loads((run / "log_history.json").read_text())
    if FEATURES[feature].num_eval_prompts % 2 == 1:
        # Prompts that fill up the last batch are left out of the grades alone
        graded = ("eval_accuracy", "eval_maj@4", "eval_no_answer")
        entries = [{name: entry[name] for name in graded} if "eval_loss" in entry else entry for entry in entries]
    left_out = ["step_time", "runtime", "per_second"]
    if BACKENDS[backend].own_optimizer:
        left_out.append("learning_rate")
    return [{name: value for name, value in entry.items() if not name.endswith(tuple(left_out))} for entry in entries]


def find_weights(run: Path) -> Path:
    """The model, or its adapter."""
    (weights,) = run.glob("*.safetensors")
    return weights
