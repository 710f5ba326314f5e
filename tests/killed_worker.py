# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
`trl-latro`, of which one rank is killed in the middle of writing a file, for `test_killed.py`: `KILL` is the rank and the
end of the file's path, as in `1:checkpoint-6/optimizer.pt`.
"""

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState

from trl_latro.cli.main import main
from trl_latro.durability import manifest


RANK, _, FILE = os.environ.get("KILL", "").partition(":")

torch_save, save_to_json, write_manifest = torch.save, TrainerState.save_to_json, manifest._write


def write_half_and_die(path: Path, content: bytes) -> None:
    path.write_bytes(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    if os.environ["RANK"] == RANK and str(file).endswith(FILE):
        buffer = io.BytesIO()
        torch_save(value, buffer, *args, **kwargs)
        write_half_and_die(Path(file), buffer.getvalue())
    torch_save(value, file, *args, **kwargs)


def save_state(state: TrainerState, json_path: str) -> None:
    save_to_json(state, json_path)
    if os.environ["RANK"] == RANK and json_path.endswith(FILE):
        write_half_and_die(Path(json_path), Path(json_path).read_bytes())


def save_manifest(path: Path, content: dict[str, Any]) -> None:
    if os.environ["RANK"] == RANK and str(path).endswith(FILE) and content["files"] is not None:
        write_half_and_die(manifest._unfinished(path), json.dumps(content).encode())
    write_manifest(path, content)


if __name__ == "__main__":
    torch.save, TrainerState.save_to_json, manifest._write = save, save_state, save_manifest
    main()
