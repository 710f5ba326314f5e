# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The folder of an evaluation: `settings.json`, `generations-RANK.jsonl` of each process, and `results.json` at the end.

A batch's lines are written as soon as it is done, so a stopped evaluation continues with the batches that are missing.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from .batches import Batch
from .generation import Generation


SETTINGS, RESULTS = "settings.json", "results.json"


def generations_file(output_dir: Path, process_index: int) -> Path:
    return output_dir / f"generations-{process_index}.jsonl"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file at once: whoever stops the program finds the old one or the new one."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


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
            _check_settings(output_dir, json.loads((output_dir / SETTINGS).read_text(encoding="utf-8")), settings)
            return
    elif output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ValueError(
            f"output_dir {str(output_dir)!r} is no folder of an evaluation (it has no {SETTINGS}) and not empty. Name "
            "another one."
        )
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
    """Drop what a stop left behind: a line that breaks off, and the lines of a batch of which some are missing."""
    size = {batch.number: len(batch.questions) for batch in batches}
    for path in sorted(output_dir.glob("generations-*.jsonl")):
        content = path.read_bytes()
        *lines, _ = content.split(b"\n")  # behind the last line break stands a line that breaks off, or nothing
        numbers = [json.loads(line)["batch"] for line in lines]
        found = Counter(numbers)
        kept = [line + b"\n" for line, number in zip(lines, numbers, strict=True) if found[number] == size[number]]
        if b"".join(kept) != content:
            unfinished = path.with_suffix(".tmp")
            unfinished.write_bytes(b"".join(kept))
            os.replace(unfinished, path)


def append_generations(path: Path, generations: list[Generation]) -> None:
    """Write a batch's lines and have them on the disk before the next batch starts."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in generations))
        file.flush()
        os.fsync(file.fileno())


def read_generations(output_dir: Path) -> list[Generation]:
    """All generations of the folder."""
    return [
        Generation(**json.loads(line))
        for path in sorted(output_dir.glob("generations-*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
