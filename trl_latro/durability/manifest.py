# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
The list of a checkpoint's files with their sizes and checksums, by which a whole checkpoint is told from a damaged one.

The rule: a checkpoint with a manifest is whole when every file that the manifest names is there as it was written. The
manifest is there before any other file and says "unfinished"; it is replaced, at once, when the last file is there. It
names what the process that writes `trainer_state.json` can see: where nodes share no disk, that node's files. Files that
come later (a note, what a download adds) are not in it and do no harm.

CRC-32 finds any flipped byte, and is no protection from an attacker. It was the fastest in Python's library: on a core of
an AMD EPYC 0.5 s per GiB, reading from the page cache included (SHA-256 1.0 s, BLAKE2b 2.0 s), so about 8 s for 16 GB in
one file, beside 70 s for writing them at the 4 s per GiB of `torch.save` and safetensors there. Files are read side by side.
"""

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


MANIFEST_FILE = "manifest.json"
UNFINISHED = "was cut short while it was written"

_CHUNK = 2**20
_seen_whole: dict[
    str, list[tuple[str, int | str, int]]
] = {}  # so that a script and its trainer read a checkpoint once


def begin_manifest(checkpoint: Path) -> None:
    """Make the checkpoint's folder; it is unfinished from now on."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    _write(checkpoint / MANIFEST_FILE, {"files": None})


def write_manifest(checkpoint: Path) -> None:
    """Say that the checkpoint is finished, with the files that it has now."""
    unfinished = _unfinished(checkpoint / MANIFEST_FILE)
    paths = [
        path
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path not in (checkpoint / MANIFEST_FILE, unfinished)
    ]
    files = {
        path.relative_to(checkpoint).as_posix(): {"size": path.stat().st_size, "crc32": crc32}
        for path, crc32 in zip(paths, _crc32_of_each(paths), strict=True)
    }
    _write(checkpoint / MANIFEST_FILE, {"files": files, "crc32": _crc32_of_list(files)})


def find_mismatch(checkpoint: Path, contents: bool = True) -> str | None:
    """
    Compare a checkpoint with its manifest.

    Args:
        checkpoint (`Path`):
            Folder with a manifest.
        contents (`bool`, *optional*, defaults to `True`):
            Whether the files are read, beyond their sizes.

    Returns:
        `str | None`: the first difference, as the end of a sentence that begins with the checkpoint; `None` if it matches.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_bytes())
        files = manifest["files"]
        if files is None:
            return UNFINISHED
        if manifest["crc32"] != _crc32_of_list(files):
            raise ValueError
        expected = {name: (int(file["size"]), str(file["crc32"])) for name, file in files.items()}
    except OSError as error:
        return _unreadable(MANIFEST_FILE, error)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return f"is damaged: {MANIFEST_FILE} is not as it was written"

    signature = [(MANIFEST_FILE, manifest["crc32"], 0)]
    for name, (size, _) in expected.items():
        try:
            found = (checkpoint / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"is damaged: {name} is missing"
        except OSError as error:
            return _unreadable(name, error)
        if found.st_size != size:
            return f"is damaged: {name} has {found.st_size} bytes, and {size} were written"
        signature.append((name, found.st_mtime_ns, found.st_ctime_ns))
    if not contents or _seen_whole.get(os.path.realpath(checkpoint)) == signature:
        return None

    try:
        checksums = _crc32_of_each([checkpoint / name for name in expected])
    except OSError as error:
        return _unreadable(Path(str(error.filename)).name, error)
    for (name, (_, crc32)), found_crc32 in zip(expected.items(), checksums, strict=True):
        if found_crc32 != crc32:
            return f"is damaged: {name} is not as it was written (CRC-32 {found_crc32}, not {crc32})"
    _seen_whole[os.path.realpath(checkpoint)] = signature
    return None


def _unreadable(name: str, error: OSError) -> str:
    return f"is damaged: {name} cannot be read ({error.strerror})"


def _crc32_of_each(paths: list[Path]) -> list[str]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # zlib lets go of the interpreter's lock
        return list(threads.map(_crc32, paths))


def _crc32(path: Path) -> str:
    value, buffer = 0, memoryview(bytearray(_CHUNK))
    try:
        with path.open("rb", buffering=0) as file:
            while length := file.readinto(buffer):
                value = zlib.crc32(buffer[:length], value)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed read names no file
        raise
    return f"{value:08x}"


def _crc32_of_list(files: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(files, sort_keys=True).encode()):08x}"


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _write(path: Path, content: dict[str, Any]) -> None:
    # A process that is killed here leaves the old manifest, not half of the new one
    _unfinished(path).write_text(json.dumps(content, indent=1) + "\n")
    os.replace(_unfinished(path), path)
