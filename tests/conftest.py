# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import os


# Before the libraries are imported, which read these once; programs that a test starts inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests compare numbers that they computed on the CPU
os.environ["OMP_NUM_THREADS"] = "1"  # models of this size are slower with more, and workers share the cores

from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers


SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test samples does not depend on the tests before it."""
    transformers.set_seed(0)


@pytest.fixture(scope="session", autouse=True)
def without_buffers_of_deepspeed() -> Iterator[None]:
    """On a CPU each process of DeepSpeed leaves 66 MiB of shared memory, which would count as used until a restart."""
    pattern = "deepspeed_allreduce_buffer_*"
    before = set(SHARED_MEMORY.glob(pattern))
    yield
    for buffer in set(SHARED_MEMORY.glob(pattern)) - before:
        buffer.unlink()


@pytest.fixture
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What wandb opens and reads from the environment lasts for the test."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    for name in ("WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.finish()
    wandb.teardown()
    yield
    wandb.finish()
    wandb.teardown()
