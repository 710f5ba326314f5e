# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The folder of an evaluation: `settings.json`, `generations-RANK.jsonl` of each process, and `results.json` at the end.

A batch's lines are written as soon as it is done, so a stopped evaluation continues with the batches that are missing.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..durability.checkpoints import OutputDirError
from ..loading import one_line, read_json_object
from .batches import Batch
from .generation import Generation


SETTINGS, RESULTS = "settings.json", "results.json"


def generations_file(output_dir: Path, process_index: int) -> Path:
    return output_dir / f"generations-{process_index}.jsonl"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file at once: whoever stops the program finds the old one or the new one."""
    _write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_settings(output_dir: Path) -> dict[str, Any]:
    """The settings of an evaluation; raises `ValueError` where they cannot be read."""
    return read_json_object(output_dir / SETTINGS)


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".tmp")
    with _saying_failed_write(path):
        unfinished.write_bytes(content)
        os.replace(unfinished, path)


@contextmanager
def _saying_failed_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputDirError(
            f"{path} could not be written: {error.strerror}. The batches before are kept: once the cause is gone, the same "
            "command continues."
        ) from error


def open_folder(output_dir: Path, settings: dict[str, Any]) -> None:
    """
    Make the folder of an evaluation, or check that a stopped one continues with the same settings.

    Args:
        output_dir (`Path`):
            The folder.
        settings (`dict[str, Any]`):
            All that the generations depend on.

    Raises:
        `ValueError`: other settings than those that it was begun with, or a folder that holds something else.
    """
    if (output_dir / SETTINGS).is_file():
        # One that failed before its first batch (out of memory, say) may begin anew with other settings
        if any(path.stat().st_size > 0 for path in output_dir.glob("generations-*.jsonl")):
            _check_settings(output_dir, read_settings(output_dir), settings)
            return
    elif output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ValueError(
            f"output_dir {str(output_dir)!r} is no folder of an evaluation (it has no {SETTINGS}) and not empty. Name "
            "another one."
        )
    with _saying_failed_write(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    write_json(output_dir / SETTINGS, settings)


def _check_settings(output_dir: Path, begun_with: dict[str, Any], settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if begun_with.get(name) != value:
            raise ValueError(
                f"The evaluation in {str(output_dir)!r} was begun with {name} {begun_with.get(name)!r}, now it is "
                f"{value!r}. Continue with the same settings, or name another output_dir."
            )


def keep_complete_batches(output_dir: Path, batches: list[Batch]) -> None:
    """
    Drop what a stop left behind: a line that breaks off, and the lines of a batch of which some are missing.

    Raises:
        `ValueError`: a line before the last is no generation, or of no batch of this evaluation. Nothing is dropped then.
    """
    size = {batch.number: len(batch.questions) for batch in batches}
    for path in sorted(output_dir.glob("generations-*.jsonl")):
        content = path.read_bytes()
        *lines, _ = content.split(b"\n")  # behind the last line break stands a line that breaks off, or nothing
        numbers = [one.batch for one in _parse(path, lines)]
        for line, number in enumerate(numbers, start=1):
            if number not in size:
                raise ValueError(f"{path}, line {line} is of batch {number}, which this evaluation does not have.")
        found = Counter(numbers)
        kept = [line + b"\n" for line, number in zip(lines, numbers, strict=True) if found[number] == size[number]]
        if b"".join(kept) != content:
            _write(path, b"".join(kept))


def append_generations(path: Path, generations: list[Generation]) -> None:
    """Write a batch's lines and have them on the disk before the next batch starts."""
    with _saying_failed_write(path), path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in generations))
        file.flush()
        os.fsync(file.fileno())


def read_generations(output_dir: Path) -> list[Generation]:
    """All generations of the folder; raises `ValueError` where a line is none."""
    return [
        one
        for path in sorted(output_dir.glob("generations-*.jsonl"))
        for one in _parse(path, path.read_bytes().removesuffix(b"\n").split(b"\n"))
    ]


def _parse(path: Path, lines: list[bytes]) -> list[Generation]:
    """The generations in a file's lines; those of an empty file are none."""
    generations = []
    for number, line in enumerate(lines, start=1):
        if not line and len(lines) == 1:
            break
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError(f"it is {type(content).__name__}, not an object")
            one = Generation(**content)
            if not isinstance(one.batch, int) or not isinstance(one.question, int):
                raise ValueError(f"batch {one.batch!r} and question {one.question!r} should be numbers")
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number} is no generation of an evaluation ({one_line(error)}). Remove the line, and the "
                "same command makes its batch once more, or take the file from a copy."
            ) from error
        generations.append(one)
    return generations
