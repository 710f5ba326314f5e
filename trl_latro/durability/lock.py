# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
One training at a time in an output folder.

The rule: from its first look at the folder to its end, a training holds a lock (`flock`) on a file there, and another
one is refused. The system lets go of the lock when the process ends, however it ends; whatever it has forked does not hold it.
On file systems shared by several machines the lock holds between them as far as `flock` does there (NFS: yes, also
Lustre mounted with `flock`; object stores: no). Where there is none, the training goes on with a warning.
"""

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .checkpoints import OutputDirError, check_writable
from .processes import first_said, looks_at_disk


logger = logging.getLogger(__name__)

LOCK_FILE = "_training.lock"  # a push to the Hub leaves out what begins with "_"


@dataclass
class _Held:
    descriptor: int
    thread: int
    times: int
    made_folder: bool


_held: dict[str, _Held] = {}  # by the folder's real path


def _forget_in_child() -> None:
    # A worker that outlives a killed training would hold its lock. Closing takes nothing from the parent.
    for held in _held.values():
        with suppress(OSError):
            os.close(held.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def locked(output_dir: str | Path, on_each_node: bool = False) -> Iterator[None]:
    """
    Hold the lock of a run's folder within the `with` block, in the one process that [`looks_at_disk`]. Every process of
    the run has to enter it. A `with` block within another one, as that of a trainer in a script's, is no second training.

    Args:
        output_dir (`str` or `Path`):
            The folder. It is made if it does not exist.
        on_each_node (`bool`, *optional*, defaults to `False`):
            Whether the nodes share no disk, as `save_on_each_node` says.

    Raises:
        `OutputDirError`: another training holds it, or the folder cannot be written to. All processes raise it.
    """
    folder, refusal = os.path.realpath(output_dir), None
    holds = looks_at_disk(on_each_node)
    if holds:
        try:
            _acquire(folder, output_dir)
        except OutputDirError as error:
            holds, refusal = False, str(error)
    try:
        refusal = first_said(refusal)
        if refusal is not None:
            raise OutputDirError(refusal)
        yield
    finally:
        if holds:
            _release(folder)


def _acquire(folder: str, output_dir: str | Path) -> None:
    """`folder` is the real path of `output_dir`, which the messages name."""
    held = _held.get(folder)
    if held is not None:
        if held.thread != threading.get_ident():
            raise _in_use(output_dir, "another thread of this process")
        held.times += 1
        return
    check_writable(output_dir)
    made_folder = not os.path.isdir(folder)
    path = os.path.join(folder, LOCK_FILE)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = _open_locked(path)
        if descriptor is not None:
            _held[folder] = _Held(descriptor, threading.get_ident(), 1, made_folder)
            _write_holder(descriptor)
            return
        holder = Path(path).read_text(errors="replace").strip()
    except OSError as error:
        if folder in _held:
            _release(folder)
        raise OutputDirError(
            f"output_dir {str(output_dir)!r} cannot be locked ({path}: {error.strerror}). Choose another output_dir, or see "
            "to its permissions and its space."
        ) from error
    raise _in_use(output_dir, holder or "another process")


def _write_holder(descriptor: int) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {now}\n".encode())


def _in_use(output_dir: str | Path, holder: str) -> OutputDirError:
    return OutputDirError(
        f"output_dir {str(output_dir)!r} is in use by another training ({holder}). Wait for its end, stop it, or choose "
        "another output_dir."
    )


def _open_locked(path: str) -> int | None:
    """The descriptor of the file, locked; `None` if another process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # closed in programs that are started: PEP 446
        try:
            if not _flock(descriptor, path):
                os.close(descriptor)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one who had it has removed it in between


def _flock(descriptor: int, path: str) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        logger.warning("%s cannot be locked on this system: see that no other training writes there.", path)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        logger.warning(
            "%s cannot be locked on this file system (%s): see that no other training writes there.",
            path,
            error.strerror,
        )
    return True


def _release(folder: str) -> None:
    held = _held.get(folder)
    if held is None:  # in a child that was forked within the block
        return
    held.times -= 1
    if held.times > 0:
        return
    del _held[folder]
    with suppress(OSError):  # a folder that the user has removed, a disk that is gone
        os.unlink(os.path.join(folder, LOCK_FILE))
    os.close(held.descriptor)
    if held.made_folder:
        with suppress(OSError):  # not empty: the rule
            os.rmdir(folder)
