# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The ways to train on several devices, started with two ranks on CPU, and the comparison with one process."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file

from backend_worker import FEATURES


TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Backend:
    """A launcher's command, before `--main_process_port` or its like, and DeepSpeed's file."""

    command: tuple[str, ...]
    port_option: str
    deepspeed: Path | None = None


def _deepspeed(file: str) -> Backend:
    command = (str(BIN / "deepspeed"), "--num_accelerators", "2")
    return Backend(command, "--master_port", EXAMPLES / "deepspeed" / file)


BACKENDS: dict[str, Backend] = {
    "DDP": Backend(("-m", "torch.distributed.run", "--nproc_per_node", "2"), "--master_port"),
    "ZeRO-1": _deepspeed("zero1.json"),
    "ZeRO-2": _deepspeed("zero2.json"),
    "ZeRO-3": _deepspeed("zero3.json"),
    "ZeRO-3, optimizer and parameters offloaded": _deepspeed("zero3_offload_params.json"),
    "FSDP2": Backend(
        (
            *("-m", "accelerate.commands.launch", "--num_processes", "2"),
            *("--config_file", str(EXAMPLES / "accelerate" / "fsdp2.yaml")),
        ),
        "--main_process_port",
    ),
}


def start(backend: Backend, script: Path, *arguments: str, timeout: float = 600) -> tuple[int, str]:
    """Run a script with two ranks. Returns its exit status, -9 after the timeout, and what it printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *backend.command, backend.port_option, str(port), str(script), *arguments]
    env = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # DeepSpeed looks for ninja to build an operator
        "DS_ACCELERATOR": "cpu",
    }
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher and its ranks
        output, _ = process.communicate()
    return process.returncode, output


def run_two_ranks(backend: Backend, features: Iterable[str], model: str, output_dir: Path) -> None:
    status, output = start(
        backend,
        TESTS / "backend_worker.py",
        *(model, str(output_dir), str(backend.deepspeed or ""), ";".join(features)),
    )
    if status != 0:
        raise RuntimeError(f"Ended with status {status}:\n{output}")


class Difference(NamedTuple):
    """
    The largest differences of two runs: of saved parameters, and of logged values, where a value above 10 counts in
    units of a tenth of itself.
    """

    parameters: float
    log: float


def read_log(run: Path, whole_evaluation: bool) -> list[dict[str, Any]]:
    """What was logged, without what tells of time and of rows that fill up the last batch of the evaluation."""
    entries = json.loads((run / "log_history.json").read_text())
    if not whole_evaluation:
        graded = ("eval_accuracy", "eval_maj@4", "eval_no_answer")
        entries = [
            {name: entry[name] for name in graded} if "eval_loss" in entry else entry for entry in entries
        ]
    times = ("step_time", "runtime", "per_second")
    return [{name: value for name, value in entry.items() if not name.endswith(times)} for entry in entries]


def difference(one: Path, two: Path, feature: str) -> Difference:
    """Of what two runs of a feature wrote."""
    parameters, found_parameters = (load_file(find_weights(run)) for run in (one, two))
    assert found_parameters.keys() == parameters.keys()
    of_parameters = [(found_parameters[name] - parameter).abs().max().item() for name, parameter in parameters.items()]

    log, found_log = (read_log(run, FEATURES[feature].num_eval_prompts == 4) for run in (one, two))
    assert [entry.keys() for entry in found_log] == [entry.keys() for entry in log]
    of_log = [
        abs(found_entry[name] - value) / max(1.0, abs(value) / 10)
        for entry, found_entry in zip(log, found_log, strict=True)
        for name, value in entry.items()
    ]
    assert all(math.isfinite(number) for number in of_parameters + of_log)
    return Difference(max(of_parameters), max(of_log))


def find_weights(run: Path) -> Path:
    """The model, or its adapter."""
    (weights,) = run.glob("*.safetensors")
    return weights
