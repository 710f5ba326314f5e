# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Which checkpoint a training resumes from, and what is said where a folder or a checkpoint cannot be written."""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError


logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"


class OutputDirError(OSError):
    """`output_dir` could not be written to."""


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, the last one first."""
    checkpoints = [
        path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)
    ]
    return sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: `trainer_state.json` is what is written last."""
    try:
        json.loads((checkpoint / STATE_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return True


def resolve_checkpoint(output_dir: str | Path, resume_from_checkpoint: str | Path | bool | None) -> str | None:
    """
    Find the checkpoint to resume from.

    Args:
        output_dir (`str` or `Path`):
            Folder that the run writes to.
        resume_from_checkpoint (`str`, `Path` or `bool`, *optional*):
            `True`, `"true"` or `"last"` for the last whole checkpoint in `output_dir`, or the path of a checkpoint.

    Returns:
        `str | None`: the checkpoint, or `None` to start anew.

    Raises:
        `ValueError`: there is no whole checkpoint to resume from.
    """
    if not resume_from_checkpoint:
        return None
    if str(resume_from_checkpoint).lower() not in ("true", "last"):
        if not is_whole(Path(str(resume_from_checkpoint))):
            raise ValueError(
                f"resume_from_checkpoint: {str(resume_from_checkpoint)!r} is not a complete checkpoint, it has no whole "
                f"{STATE_FILE}."
            )
        return str(resume_from_checkpoint)
    checkpoints = list_checkpoints(output_dir)
    for checkpoint in checkpoints:
        if is_whole(checkpoint):
            return str(checkpoint)
        logger.warning("%s was cut short while it was written, it is passed over.", checkpoint)
    found = f"no whole checkpoint, {checkpoints[0].name} was cut short" if checkpoints else "no checkpoint"
    raise ValueError(
        f"resume_from_checkpoint={resume_from_checkpoint}: {str(output_dir)!r} holds {found}. Leave it out to start anew."
    )


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, so that it does not pass for whole at any moment on the way."""
    (checkpoint / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def check_writable(output_dir: str | Path) -> None:
    """
    See that a file can be made in the folder of a run, or where the folder will be made, before anything expensive.

    Raises:
        `OutputDirError`: it is not a folder, or not one that this process may write to.
    """
    folder = Path(output_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputDirError(
            f"output_dir {str(output_dir)!r} cannot be written to: {error.strerror}. Choose another output_dir, or see to "
            "its permissions."
        ) from error


@contextmanager
def say_failed_write(path: Path) -> Iterator[None]:
    """
    Say what is left and how to go on where a checkpoint or a model could not be written.

    Args:
        path (`Path`):
            What is written within: a checkpoint of `output_dir`, or `output_dir` for the model.

    Raises:
        `OutputDirError`: in place of the errors of `open`, safetensors and torch, of which none names the file and torch's
        not the reason; also where another process could not write, which ends the waiting for it.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        if is_whole(path):  # what comes after the writing: a push, a callback
            raise
        output_dir = path.parent if path.name.startswith("checkpoint-") else path
        reason = " ".join(str(error).split())
        free = shutil.disk_usage(output_dir).free / 2**20
        whole = [checkpoint.name for checkpoint in list_checkpoints(output_dir) if is_whole(checkpoint)]
        raise OutputDirError(
            f"{path} could not be written to its end, with {free:.0f} MiB free on its disk: {reason.rstrip('.')}. "
            + (
                "The earlier checkpoints are whole: once the cause is gone, continue from the last with "
                f"resume_from_checkpoint={str(output_dir / whole[0])!r}."
                if whole
                else "There is no earlier checkpoint: once the cause is gone, start anew."
            )
        ) from error
