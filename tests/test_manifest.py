# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A checkpoint of which anything is missing or changed is found and passed over, and a whole one is not."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from given import snapshot
from test_checkpoints import losses, make_trainer
from trl_latro import LaTROTrainer
from trl_latro.durability import manifest
from trl_latro.durability.checkpoints import OutputDirError, find_problem, is_whole, resolve_checkpoint
from trl_latro.durability.manifest import MANIFEST_FILE


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [delete, truncate, append, flip, make_a_folder]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LaTROTrainer:
    """A trainer after three steps, with the checkpoints 2 and 3."""
    trainer = make_trainer(tmp_path_factory.mktemp("trained"))
    trainer.train()
    return trainer


@pytest.fixture
def run(trained: LaTROTrainer, tmp_path: Path) -> Path:
    """Another folder with its checkpoints."""
    return Path(shutil.copytree(trained.args.output_dir, tmp_path / "run"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_of_any_file_is_found_and_named(run: Path, damage: Callable[[Path], None]) -> None:
    checkpoint = run / "checkpoint-3"
    files = sorted(path for path in checkpoint.iterdir() if path.name != MANIFEST_FILE)
    states = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "process_state_0.pth", "trainer_state.json"}
    assert {path.name for path in files} >= states | {"model.safetensors", "training_args.bin", "tokenizer.json"}
    for path in files:
        copy = run / "checkpoint-4"
        shutil.copytree(checkpoint, copy)
        damage(copy / path.name)
        problem = find_problem(copy)
        assert problem is not None and f"is damaged: {path.name} " in problem
        shutil.rmtree(copy)


def test_any_flipped_bit_of_the_manifest_is_found(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    manifest.begin_manifest(checkpoint)
    (checkpoint / "weights.bin").write_bytes(b"1234")
    (checkpoint / "shards").mkdir()
    (checkpoint / "shards" / ".metadata").write_bytes(b"")  # as FSDP writes it
    manifest.write_manifest(checkpoint)
    assert find_problem(checkpoint) is None
    content = (checkpoint / MANIFEST_FILE).read_bytes()
    meaning = json.loads(content)
    assert set(meaning["files"]) == {"weights.bin", "shards/.metadata"}
    for position in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            (checkpoint / MANIFEST_FILE).write_bytes(changed)
            try:
                same = json.loads(changed) == meaning  # white space
            except ValueError:
                same = False
            assert (find_problem(checkpoint) is None) == same


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"files": {}}', '{"files": [], "crc32": "0"}', "[" * 10**5])
def test_a_manifest_that_is_none_is_no_traceback(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    assert find_problem(tmp_path) == f"is damaged: {MANIFEST_FILE} is not as it was written"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", delete),
        ("scheduler.pt", delete),
        ("rng_state.pth", delete),
        ("process_state_0.pth", delete),
        ("model.safetensors", truncate),
        ("optimizer.pt", flip),
        (MANIFEST_FILE, truncate),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_whole_one_before(
    trained: LaTROTrainer, run: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    damage(run / "checkpoint-3" / name)
    resumed = make_trainer(run)
    resumed.train(resume_from_checkpoint=True)
    assert f"{run}/checkpoint-3 is damaged: {name} " in caplog.text and "It is passed over." in caplog.text
    assert losses(resumed) == losses(trained)
    for parameter, tensor in snapshot(trained.model).items():
        torch.testing.assert_close(snapshot(resumed.model)[parameter], tensor, rtol=0, atol=0)
    assert find_problem(run / "checkpoint-3") is None  # written once more


def test_a_damaged_checkpoint_that_is_named_is_an_error(run: Path) -> None:
    damaged = run / "checkpoint-3"
    delete(damaged / "scheduler.pt")
    message = "checkpoint-3' is not a complete checkpoint, it is damaged: scheduler.pt is missing. Name another one"
    with pytest.raises(ValueError, match=message):
        make_trainer(run).train(resume_from_checkpoint=str(damaged))
    flip(run / "checkpoint-2" / "optimizer.pt")
    message = (
        "no whole checkpoint: checkpoint-3 is damaged: scheduler.pt .*; checkpoint-2 is damaged: optimizer.pt is not"
    )
    with pytest.raises(ValueError, match=message):
        make_trainer(run).train(resume_from_checkpoint=True)


def test_a_whole_checkpoint_is_whole_wherever_it_was_brought(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "last-checkpoint"  # its name on the Hub
    shutil.copytree(run / "checkpoint-3", moved)
    (moved / ".gitattributes").write_text("*.safetensors filter=lfs\n")  # what comes with a download, or from the user
    (moved / ".cache").mkdir()
    (moved / "notes.txt").write_text("the good one")
    assert find_problem(moved) is None
    linked = tmp_path / "snapshot"  # as the Hub's cache has it
    linked.mkdir()
    for path in moved.iterdir():
        (linked / path.name).symlink_to(path)
    assert find_problem(linked) is None
    resumed = make_trainer(tmp_path / "new", max_steps=4)
    resumed.train(resume_from_checkpoint=str(linked))
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [1, 2, 3, 4]


def test_a_checkpoint_of_transformers_alone_is_accepted_with_a_sentence(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    delete(run / "checkpoint-3" / MANIFEST_FILE)
    assert resolve_checkpoint(run, True) == str(run / "checkpoint-3")
    assert caplog.text.count(f"{run}/checkpoint-3 has no {MANIFEST_FILE}, as one that transformers alone has") == 1


def test_until_its_manifest_is_there_a_checkpoint_is_unfinished_and_no_older_one_goes(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_is_full(path: Path, content: dict) -> None:
        if content["files"] is not None:
            assert (path.parent / "trainer_state.json").is_file() and not is_whole(path.parent)
            assert (run / "checkpoint-2").is_dir()
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    write = manifest._write
    monkeypatch.setattr(manifest, "_write", disk_is_full)
    trainer = make_trainer(run, max_steps=4)
    trainer.args.save_total_limit = 1
    with pytest.raises(OutputDirError, match="checkpoint-4 could not be written .*continue from .*checkpoint-3'"):
        trainer.train(resume_from_checkpoint=True)
    assert find_problem(run / "checkpoint-4") == manifest.UNFINISHED
    assert find_problem(run / "checkpoint-3") is None and find_problem(run / "checkpoint-2") is None
    monkeypatch.undo()
    assert resolve_checkpoint(run, True) == str(run / "checkpoint-3")


def test_a_checkpoint_is_read_once_and_again_when_it_has_changed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    crc32 = manifest._crc32
    monkeypatch.setattr(manifest, "_crc32", lambda path: read.append(path) or crc32(path))
    checkpoint = resolve_checkpoint(run, True)  # as a script does, before its trainer
    files = json.loads((run / "checkpoint-3" / MANIFEST_FILE).read_text())["files"]
    assert len(read) == len(files)
    assert resolve_checkpoint(run, checkpoint) == checkpoint
    assert len(read) == len(files)
    optimizer = run / "checkpoint-3" / "optimizer.pt"
    times = optimizer.stat()
    flip(optimizer)
    os.utime(optimizer, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "optimizer.pt" in str(find_problem(run / "checkpoint-3"))


def test_what_a_checkpoint_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "trainer_state.json").write_text("3")
    for path, problem in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "folder", "was cut short while it was written, it has no whole trainer_state.json"),
    ):
        with pytest.raises(ValueError, match=f"is not a complete checkpoint, it {problem}. Name another one"):
            resolve_checkpoint(tmp_path, path)
