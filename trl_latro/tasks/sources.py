# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Where the rows of a dataset come from: a file, a folder of files or the Hub. Every row knows its location."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasets import get_dataset_split_names, load_dataset


SPLITS = ("train", "validation", "test")
_EXTENSIONS = (".jsonl", ".json", ".csv")


class Source(Protocol):
    """Splits, and the rows of each with the location that an error message names."""

    def splits(self) -> list[str]: ...

    def rows(self, split: str) -> Iterator[tuple[str, Any]]: ...


@dataclass(frozen=True)
class HubSource:
    """A dataset on the Hugging Face Hub."""

    name: str
    config: str | None = None

    def splits(self) -> list[str]:
        return list(get_dataset_split_names(self.name, self.config))

    def rows(self, split: str) -> Iterator[tuple[str, Any]]:
        for index, row in enumerate(load_dataset(self.name, self.config, split=split)):
            config = "" if self.config is None else f" ({self.config})"
            yield f"{self.name}{config}, split {split}, row {index}", row


@dataclass(frozen=True)
class FolderSource:
    """`train`, `validation` and `test`, each a JSON lines (`.jsonl`, `.json`) or CSV file."""

    path: Path

    def _files(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for split in SPLITS:
            for extension in _EXTENSIONS:
                path = self.path / f"{split}{extension}"
                if path.is_file() and split in files:
                    raise ValueError(f"{self.path} has both {files[split].name} and {path.name}: keep one.")
                if path.is_file():
                    files[split] = path
        if not files:
            raise FileNotFoundError(
                f"{self.path / 'train'}.jsonl does not exist, nor has the folder a validation or test split (.jsonl, .csv)."
            )
        return files

    def splits(self) -> list[str]:
        return list(self._files())

    def rows(self, split: str) -> Iterator[tuple[str, Any]]:
        files = self._files()
        if split not in files:
            raise FileNotFoundError(
                f"{self.path / split}.jsonl (or .csv) does not exist: the splits in this folder are {list(files)}."
            )
        return read_rows(files[split])


@dataclass(frozen=True)
class FileSource:
    """One file: what is trained on with `"train"`, what is tested on with `"test"`."""

    path: Path

    def splits(self) -> list[str]:
        return ["train", "test"]

    def rows(self, split: str) -> Iterator[tuple[str, Any]]:
        return read_rows(self.path)


def local_source(path: str | Path) -> FolderSource | FileSource:
    """The folder or file at `path`; raises `FileNotFoundError` if there is none, `ValueError` for another type."""
    path = Path(path)
    if path.is_dir():
        return FolderSource(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a folder with train.jsonl and test.jsonl, or a file.")
    if path.suffix not in _EXTENSIONS:
        raise ValueError(f"{path} should be a JSON lines or CSV file, with a name that ends in one of {_EXTENSIONS}.")
    return FileSource(path)


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """
    Rows of a JSON lines or CSV file with their locations. Read here and not by `datasets`, whose readers name neither the
    line nor what is wrong with it.

    Raises:
        `ValueError`: a broken line, or a file without rows.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _jsonl_rows(path)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path} holds no rows.")
    yield first
    yield from rows


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            location = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:  # broken JSON or not UTF-8
                raise ValueError(f"{location}: not a line of JSON ({error}).") from error
            yield location, row


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            for fields in reader:
                location = f"{path}, line {reader.line_num}"
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise ValueError(f"{location}: {len(fields)} fields, but the header has {len(header)}: {header}.")
                yield location, dict(zip(header, fields, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {reader.line_num}: not a line of CSV in UTF-8 ({error}).") from error
