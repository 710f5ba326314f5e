# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Two ZeRO-3 ranks train as one process does."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tiny import byte_level_tokenizer, save_model
from zero3_worker import CASES, train


TESTS = Path(__file__).parent
ZERO3 = TESTS.parent / "examples" / "deepspeed" / "zero3.json"


def run_two_ranks(model: str, output_dir: Path) -> None:
    bin_dir = Path(sys.executable).parent
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, str(bin_dir / "deepspeed"), "--num_accelerators", "2", "--master_port", str(port)]
    # DeepSpeed builds an operator at its first start, for which it looks for ninja.
    env = {**os.environ, "DS_ACCELERATOR": "cpu", "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*launcher, str(TESTS / "zero3_worker.py"), model, str(output_dir), str(ZERO3)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout


def log_history(output_dir: Path) -> list[dict[str, Any]]:
    return json.loads((output_dir / "log_history.json").read_text())


def updates(output_dir: Path, left_out: set[str]) -> list[dict[str, Any]]:
    return [
        {key: entry[key] for key in entry.keys() - left_out} for entry in log_history(output_dir) if "loss" in entry
    ]


@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds an operator with g++, which is missing")
def test_two_zero3_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    model = save_model(byte_level_tokenizer(num_merges=60), tmp_path / "model")
    before = load_file(tmp_path / "model" / "model.safetensors")
    run_two_ranks(model, tmp_path / "two")
    for case, settings in CASES.items():
        train(case, model, tmp_path / "one" / case, num_processes=1)
        left_out = {"step_time"}
        if settings["gradient_accumulation_steps"] > 1:
            left_out.add("entropy")  # a mean over forwards of means over tokens: it depends on which rows share one
        one, two = (updates(tmp_path / run / case, left_out) for run in ("one", "two"))
        assert len(one) == len(two) == 2
        assert one[1]["kl"] != 0 and one[0]["latro/finished_ratio"] == 0.75
        for expected, found in zip(one, two, strict=True):
            assert found == pytest.approx(expected, abs=1e-4, rel=1e-5)

        # Of three prompts with four samples each, the first prompt's first sample is right
        for run in ("one", "two"):
            (evaluation,) = [entry for entry in log_history(tmp_path / run / case) if "eval_loss" in entry]
            assert evaluation["eval_accuracy"] == pytest.approx(1 / 12)
            assert evaluation["eval_maj@4"] == pytest.approx(1 / 3)
            assert evaluation["eval_no_answer"] == pytest.approx(9 / 12)

        after_one, after_two = (load_file(tmp_path / run / case / "model.safetensors") for run in ("one", "two"))
        assert after_two.keys() == after_one.keys()
        for name, parameter in after_one.items():
            torch.testing.assert_close(after_two[name], parameter, atol=1e-4, rtol=0.0)
            assert not torch.allclose(parameter, before[name], atol=1e-3), f"{name} has not moved"
