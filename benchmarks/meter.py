# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Seconds and peak memory of the phases of a training step."""

import ctypes
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch


class CudaMemory:
    """Bytes in tensors on the GPU, as PyTorch counts them."""

    method = "torch.cuda.max_memory_allocated"

    def held(self) -> int:
        return torch.cuda.memory_allocated()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated()

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats()


class ProcessMemory:
    """Resident bytes of this process, as Linux counts them: everything, libraries and the interpreter too."""

    method = "resident memory of a process of its own (VmHWM, reset before each phase)"

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise RuntimeError(f"Peak memory on a CPU is read from Linux's /proc, but this is {sys.platform}.")

    def held(self) -> int:
        return self._status("VmRSS")

    def peak(self) -> int:
        return self._status("VmHWM")

    def reset(self) -> None:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is not held
        Path("/proc/self/clear_refs").write_text("5")

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


class Meter:
    """
    Collects the seconds (and peak bytes) of each training step by phase. A phase inside of another one is not part of it.

    Args:
        device (`torch.device`):
            Where the work is done; a GPU is waited for at the borders of phases.
        memory (`CudaMemory` or `ProcessMemory`, *optional*):
            What tells the peak; without it seconds alone are measured.
    """

    def __init__(self, device: torch.device, memory: CudaMemory | ProcessMemory | None = None):
        self.device = device
        self.memory = memory
        self.steps: list[dict[str, Any]] = []
        self.current: str | None = None
        self._since = 0.0

    def start(self) -> None:
        """Begin a step, in the phase "training"."""
        self.steps.append({"seconds": defaultdict(float), "peak": {}, "held": None})
        self._switch("training")
        if self.memory is not None:
            self.steps[-1]["held"] = self.memory.held()

    def stop(self) -> None:
        self._switch(None)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer = self.current
        self._switch(name)
        yield
        self._switch(outer)

    def _switch(self, name: str | None) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.current is not None:
            step = self.steps[-1]
            step["seconds"][self.current] += now - self._since
            if self.memory is not None:
                step["peak"][self.current] = max(self.memory.peak(), step["peak"].get(self.current, 0))
        if self.memory is not None:
            self.memory.reset()
        self.current = name
        self._since = time.perf_counter()

    def watch(self, owner: Any, method: str, phase: str) -> None:
        """Count every call of a method as a phase, from outside."""
        inner: Callable[..., Any] = getattr(owner, method)

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return inner(*args, **kwargs)

        setattr(owner, method, timed)
