# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A long run holds no more after 500 steps than after 250."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memory_worker import EVERY, STEPS
from trl_latro.collapse_monitor import PromptColumns


@pytest.mark.slow
def test_memory_does_not_grow_over_500_steps(tmp_path: Path) -> None:
    worker = Path(__file__).parent / "memory_worker.py"
    subprocess.run([sys.executable, str(worker), str(tmp_path)], capture_output=True, check=True, timeout=900)
    found = json.loads((tmp_path / "memory.json").read_text())
    print(*found, sep="\n")
    assert [line["step"] for line in found] == list(range(EVERY, STEPS + 1, EVERY))
    # The monitor holds the last 16 rollouts and the best 16, which are some of the last or others
    apart = 16 * len(PromptColumns._fields)
    tensors = [line["tensors"] for line in found]
    assert max(tensors) - min(tensors) <= apart, tensors
    # The log grows by an entry per line, and accelerate keeps the data loader of each evaluation
    objects = (found[-1]["objects"] - found[0]["objects"]) / (STEPS - EVERY)
    assert objects < 2, f"{objects} objects per step"
    # The log takes 2 KiB per step; the rest is rich's cache of printed texts, which is bounded
    half = next(line for line in found if line["step"] == STEPS // 2)
    kib = (found[-1]["memory"] - half["memory"]) * 1024 / (STEPS - STEPS // 2)
    assert kib < 10, f"{kib} KiB per step"
