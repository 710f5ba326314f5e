# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Folders that are made once and kept: a whole one or none, whatever interrupts the making."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from trl_latro.durability.checkpoints import check_writable, say_failed_write


def cache_dir() -> Path:
    """`~/.cache/trl_latro`, or what the environment variable `TRL_LATRO_CACHE` names."""
    named = os.environ.get("TRL_LATRO_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "trl_latro"


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """
    A folder of the cache. Where it is not there yet, `make` fills an empty one, which gets its name once it is whole.
    Processes that want the same one wait for each other.

    Args:
        name (`str`):
            Name of the folder.
        make (`Callable[[Path], None]`):
            Fills the folder that it is given.

    Returns:
        `Path`: the folder.

    Raises:
        `OutputDirError`: the cache cannot be written to, or its disk is full.
    """
    folder = cache_dir() / name
    if folder.is_dir():
        return folder
    check_writable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            part.mkdir()
            try:
                with say_failed_write(part):
                    make(part)
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return folder
