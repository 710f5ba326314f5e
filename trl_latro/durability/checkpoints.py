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

from .manifest import MANIFEST_FILE, UNFINISHED, find_mismatch


logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
_LAST = ("true", "last")  # what stands for the newest whole checkpoint


class OutputDirError(OSError):
    """`output_dir` could not be written to."""


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, the last one first."""
    checkpoints = [
        path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)
    ]
    return sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)


def find_problem(checkpoint: Path, contents: bool = True) -> str | None:
    """
    What is wrong with a checkpoint, as the end of a sentence that begins with it; `None` if it is whole.

    One with a manifest is whole if it matches it. One without, which transformers alone has written, is whole if its
    `trainer_state.json` is: that was written last.

    Args:
        checkpoint (`Path`):
            Folder of a checkpoint.
        contents (`bool`, *optional*, defaults to `True`):
            Whether the files are read and compared with their checksums, beyond their sizes.
    """
    try:
        if (checkpoint / MANIFEST_FILE).exists():
            return find_mismatch(checkpoint, contents)
        if not checkpoint.is_dir():
            return "is not a folder" if checkpoint.exists() else "does not exist"
        if isinstance(json.loads((checkpoint / STATE_FILE).read_bytes()), dict):
            return None
    except (FileNotFoundError, ValueError, RecursionError):
        pass
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"{UNFINISHED}, it has no whole {STATE_FILE}"


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end and has all its files in their sizes; see [`find_problem`]."""
    return find_problem(checkpoint, contents=False) is None


def resolve_checkpoint(
    output_dir: str | Path, resume_from_checkpoint: str | Path | bool | None, on_each_node: bool = False
) -> str | None:
    """
    Find the checkpoint to resume from: the same one in all processes of a run, which all have to call this. One of them
    reads it ([`~trl_latro.durability.processes.looks_at_disk`]).

    Args:
        output_dir (`str` or `Path`):
            Folder that the run writes to.
        resume_from_checkpoint (`str`, `Path` or `bool`, *optional*):
            `True`, `"true"` or `"last"` for the newest whole checkpoint in `output_dir`, or the path of a checkpoint.
        on_each_node (`bool`, *optional*, defaults to `False`):
            Whether the nodes share no disk, as `save_on_each_node` says. Each then looks at its own.

    Returns:
        `str | None`: the checkpoint, or `None` to start anew.

    Raises:
        `ValueError`: there is no whole checkpoint to resume from, or the one that was named is not whole.
    """
    if not resume_from_checkpoint:
        return None
    # It takes seconds to load, and whatever starts anew need not wait for it
    from .processes import first_said, is_main_process, looks_at_disk

    def problem_of(checkpoint: Path) -> str | None:
        return first_said(find_problem(checkpoint) if looks_at_disk(on_each_node) else None)

    def accept(checkpoint: Path) -> str:
        if is_main_process() and not (checkpoint / MANIFEST_FILE).exists():
            logger.warning(
                "%s has no %s, as one that transformers alone has written: its files could not be checked.",
                checkpoint,
                MANIFEST_FILE,
            )
        return str(checkpoint)

    if str(resume_from_checkpoint).lower() not in _LAST:
        problem = problem_of(Path(str(resume_from_checkpoint)))
        if problem is not None:
            raise ValueError(
                f"resume_from_checkpoint: {str(resume_from_checkpoint)!r} is not a complete checkpoint, it {problem}. Name "
                'another one, or "last" for the newest whole one in output_dir.'
            )
        accept(Path(str(resume_from_checkpoint)))
        return str(resume_from_checkpoint)
    names = first_said([path.name for path in list_checkpoints(output_dir)] if is_main_process() else None) or []
    problems = {}
    for name in names:
        checkpoint = Path(output_dir) / name
        problem = problem_of(checkpoint)
        if problem is None:
            return accept(checkpoint)
        problems[name] = problem
        if is_main_process():
            logger.warning("%s %s. It is passed over.", checkpoint, problem)
    found = "no checkpoint"
    if problems:
        found = "no whole checkpoint: " + "; ".join(f"{name} {problem}" for name, problem in problems.items())
    raise ValueError(
        f"resume_from_checkpoint={resume_from_checkpoint}: {str(output_dir)!r} holds {found}. Leave it out to start anew."
    )


def guess_checkpoint(output_dir: str | Path, resume_from_checkpoint: str | bool | None) -> Path | None:
    """
    The checkpoint that [`resolve_checkpoint`] will find, as far as the sizes of its files tell: without reading them, which
    may take minutes, and without the other processes.
    """
    if not resume_from_checkpoint:
        return None
    if str(resume_from_checkpoint).lower() not in _LAST:
        return Path(str(resume_from_checkpoint))
    return next(filter(is_whole, list_checkpoints(output_dir)), None)


def find_missing_states(checkpoint: str | Path) -> list[str]:
    """What a checkpoint has nothing of, beside the model: with `save_only_model`, all of them."""
    names = [path.name for path in Path(checkpoint).iterdir()]
    beginnings = {
        "optimizer": ("optimizer", "global_step"),  # the latter is DeepSpeed's folder
        "learning rate schedule": ("scheduler", "global_step"),
        "random states": ("rng_state",),
    }
    return [state for state, beginning in beginnings.items() if not any(name.startswith(beginning) for name in names)]


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, so that it does not pass for whole at any moment on the way."""
    (checkpoint / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def check_writable(output_dir: str | Path) -> None:
    """
    See that a file can be made and filled in a folder, or where the folder will be made, before anything expensive.

    Raises:
        `OutputDirError`: it is empty, not a folder, not one that this process may write to, or its disk is full.
    """
    if not str(output_dir):
        raise OutputDirError("output_dir is empty: name a folder.")
    try:
        with tempfile.TemporaryFile(dir=_nearest_folder(Path(output_dir))) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OutputDirError(
            f"output_dir {str(output_dir)!r} cannot be written to: {error.strerror}. Choose another output_dir, or see to "
            "its permissions and its space."
        ) from error


def _nearest_folder(path: Path) -> Path:
    """The path itself, or the first above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _is_failed_write(error: Exception) -> bool:
    # `open` raises an `OSError`, torch a `RuntimeError`, tokenizers a bare `Exception`
    known = isinstance(error, (OSError, SafetensorError, RuntimeError)) or type(error) is Exception
    return known and not isinstance(error, torch.OutOfMemoryError)


@contextmanager
def say_failed_write(path: Path, output_dir: str | Path | None = None) -> Iterator[None]:
    """
    Say what is left and how to go on where a checkpoint or a model could not be written.

    Args:
        path (`Path`):
            What is written within: a checkpoint, or the folder of a model.
        output_dir (`str` or `Path`, *optional*):
            Folder with the checkpoints of the run. By default the one that a checkpoint is in, and that of the model.

    Raises:
        `OutputDirError`: in place of the errors of `open`, safetensors, torch and tokenizers, of which none names the file
        and some not the reason; also where another process could not write, which ends the waiting for it.
    """
    is_checkpoint = path.name.startswith("checkpoint-")
    try:
        yield
    except OutputDirError:
        raise
    except Exception as error:
        # What comes after the writing, a push or a callback, is not the disk's
        if not _is_failed_write(error) or (is_checkpoint and is_whole(path)):
            raise
        folder = Path(output_dir) if output_dir is not None else path.parent if is_checkpoint else path
        reason = " ".join(str(error).split())
        free = shutil.disk_usage(_nearest_folder(path)).free / 2**20
        whole = [checkpoint.name for checkpoint in list_checkpoints(folder) if is_whole(checkpoint)]
        raise OutputDirError(
            f"{path} could not be written to its end, with {free:.0f} MiB free on its disk: {reason.rstrip('.')}. "
            + (
                "The earlier checkpoints are whole: once the cause is gone, continue from the last with "
                f"resume_from_checkpoint={str(folder / whole[0])!r}."
                if whole
                else "There is no earlier checkpoint: once the cause is gone, start anew."
            )
        ) from error
