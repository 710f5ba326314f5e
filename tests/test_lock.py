# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""One training at a time in an output folder, and a lock that nobody holds who is not training."""

import errno
import fcntl
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from disks import mounted
from test_checkpoints import make_trainer
from trl_latro.durability.checkpoints import OutputDirError
from trl_latro.durability.lock import LOCK_FILE, locked


@contextmanager
def another_process(output_dir: Path, child_of_its_own: bool = False) -> Iterator[int]:
    """A process that holds the lock until it is killed; its own child lives on until the `with` block's end."""
    ready, say_ready = os.pipe()
    stay, let_go = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            os.close(let_go)
            with locked(output_dir):
                if not child_of_its_own or os.fork() == 0:
                    os.write(say_ready, b"1")
                os.read(stay, 1)
        finally:
            os._exit(0)
    assert os.read(ready, 1) == b"1"
    try:
        yield holder
    finally:
        os.close(let_go)
        for descriptor in (ready, say_ready, stay):
            os.close(descriptor)
        try:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def kill(holder: int) -> None:
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)


def test_a_second_training_in_a_folder_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    output_dir = tmp_path / "run"
    (tmp_path / "link").symlink_to(output_dir)
    trainer = make_trainer(output_dir)
    with another_process(output_dir) as holder:
        message = (
            rf"output_dir '{output_dir}' is in use by another training \(process {holder} on "
            rf"{re.escape(socket.gethostname())}, since .* UTC\)\. Wait for its end, stop it, or choose another output_dir\.$"
        )
        with pytest.raises(OutputDirError, match=message):
            trainer.train()
        with pytest.raises(OutputDirError, match="is in use"):
            make_trainer(tmp_path / "link").train(resume_from_checkpoint=True)
        assert [path.name for path in output_dir.iterdir()] == [LOCK_FILE]
        trainer.evaluate(trainer.train_dataset.select(range(4)))  # that writes nothing there
        make_trainer(tmp_path / "other").train()
    trainer.train()
    assert not (output_dir / LOCK_FILE).exists()


@pytest.mark.parametrize("child_of_its_own", [False, True])
def test_a_dead_process_holds_no_lock(tmp_path: Path, child_of_its_own: bool) -> None:
    """Nor does a child of it, as a data loader's worker is, that lives on."""
    with another_process(tmp_path, child_of_its_own) as holder:
        kill(holder)
        assert (tmp_path / LOCK_FILE).is_file()
        with locked(tmp_path):
            assert f"process {os.getpid()} on " in (tmp_path / LOCK_FILE).read_text()


def test_a_child_takes_no_lock_from_its_parent(tmp_path: Path) -> None:
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert is_refused_elsewhere(tmp_path)
    assert not is_refused_elsewhere(tmp_path)


def is_refused_elsewhere(output_dir: Path) -> bool:
    child = os.fork()
    if child == 0:
        try:
            with locked(output_dir):
                os._exit(0)
        except OutputDirError:
            os._exit(1)
        finally:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 1


def test_a_training_that_failed_or_ended_holds_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupt(*args: Any, **kwargs: Any) -> None:
            assert is_refused_elsewhere(tmp_path)
            raise KeyboardInterrupt

        patch.setattr(trainer, "training_step", interrupt)
        trainer.train()
    assert not is_refused_elsewhere(tmp_path)
    trainer.train()
    trainer.train()
    with pytest.raises(ValueError, match="is not a complete checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "nowhere"))
    assert not is_refused_elsewhere(tmp_path)


def test_a_script_and_its_trainer_are_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked("run"):
        make_trainer(tmp_path / "run").train()
        assert is_refused_elsewhere(tmp_path / "run")  # what the script still writes
        monkeypatch.chdir("/")
    assert not is_refused_elsewhere(tmp_path / "run")


def test_two_threads_are_two_trainings(tmp_path: Path) -> None:
    refused: list[str] = []

    def train() -> None:
        try:
            with locked(tmp_path):
                pass
        except OutputDirError as error:
            refused.append(str(error))

    with locked(tmp_path):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert len(refused) == 1
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert "is in use by another training (another thread of this process)" in refused[0]


def test_the_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError), locked(tmp_path / "new"):
        raise ValueError
    with locked(tmp_path / "old"):
        (tmp_path / "old" / "model").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "model"]


def test_a_folder_that_cannot_be_locked_because_it_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputDirError, match="cannot be written to: Not a directory"), locked(output_dir):
            pass
    with (
        mounted(tmp_path / "disk", "ro") as disk,
        pytest.raises(OutputDirError, match="Read-only file system"),
        locked(disk),
    ):
        pass


def test_without_locks_a_training_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked(tmp_path):
        pass
    assert "cannot be locked on this file system (No locks available): see that no other training" in caplog.text
    monkeypatch.setitem(sys.modules, "fcntl", None)  # Windows
    with locked(tmp_path):
        pass
    assert "cannot be locked on this system: see that no other training" in caplog.text
