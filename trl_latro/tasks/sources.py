# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Where the rows of a dataset come from: a file, a folder of files or the Hub. Every row knows its location."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from datasets import get_dataset_split_names, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from ..loading import is_utf8, one_line, why_not_reached


SPLITS = ("train", "validation", "test")
_EXTENSIONS = (".jsonl", ".json", ".csv")


class BadRow(NamedTuple):
    """
    What stands for a row that cannot be read.

    Args:
        reason (`str`): What is wrong with it.
    """

    reason: str


class Source(Protocol):
    """Splits, and the rows of each, or a [`BadRow`], with the location that an error message names."""

    def splits(self) -> list[str]: ...

    def rows(self, split: str) -> Iterator[tuple[str, Any]]: ...


@dataclass(frozen=True)
class HubSource:
    """A dataset on the Hugging Face Hub."""

    name: str
    config: str | None = None

    def __str__(self) -> str:
        return self.name if self.config is None else f"{self.name} ({self.config})"

    def splits(self) -> list[str]:
        with self._reading():
            return list(get_dataset_split_names(self.name, self.config))

    def rows(self, split: str) -> Iterator[tuple[str, Any]]:
        with self._reading():
            dataset = load_dataset(self.name, self.config, split=split)
        for index, row in enumerate(dataset):
            yield f"{self}, split {split}, row {index}", row

    @contextmanager
    def _reading(self) -> Iterator[None]:
        not_reached = why_not_reached()
        try:
            yield
        except (DatasetsError, HTTPError, OSError, ValueError) as error:
            if not_reached is not None and isinstance(error, OSError):
                raise ValueError(
                    f"The dataset {self} is not in the cache, and the Hugging Face Hub ({constants.ENDPOINT}) is not "
                    f"reached ({not_reached}). Give a file or folder with the data, or try again with a network."
                ) from error
            raise ValueError(
                f"The dataset {self} cannot be loaded from the Hugging Face Hub: {one_line(error)}."
            ) from error


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
    line nor what is wrong with it. A row that cannot be read is a [`BadRow`], and the next one follows.

    Raises:
        `ValueError`: a file without rows, one that cannot be opened, a CSV file whose header is broken or in which the
        rows cannot be told apart.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _jsonl_rows(path)
    try:
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path} holds no rows.")
        yield first
        yield from rows
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(
                    line, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_names
                )
            except (ValueError, RecursionError) as error:  # broken JSON or not UTF-8
                row = BadRow(f"not a line of JSON ({one_line(error)}).")
            yield f"{path}, line {number}", row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = find_repeated([name for name, _ in pairs])
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")
    return dict(pairs)


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # What is no UTF-8 becomes lone surrogates, so that the row that it stands in is the only one that is lost
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            if not is_utf8("".join(header)):
                raise ValueError(f"{path}, line {reader.line_num}: the header is not in UTF-8: {header}.")
            # Columns without a name come from commas at the ends of lines, and nobody asks for them
            twice = find_repeated([name for name in header if name])
            if twice:
                raise ValueError(
                    f"{path}, line {reader.line_num}: the header names the column {twice[0]!r} twice, so which of them is "
                    f"meant is not known: {header}. Rename or remove one."
                )
            for fields in reader:
                location = f"{path}, line {reader.line_num}"
                if not fields:
                    continue
                if len(fields) != len(header):
                    yield location, BadRow(f"{len(fields)} fields, but the header has {len(header)}: {header}.")
                elif not is_utf8("".join(fields)):
                    yield location, BadRow("not in UTF-8.")
                else:
                    yield location, dict(zip(header, fields, strict=True))
        except csv.Error as error:
            # With a quote that does not end, say, the rest of the file is one row
            raise ValueError(
                f"{path}, line {reader.line_num}: not a line of CSV ({error}). Where the next row begins is not known: "
                "mend the file."
            ) from error


def find_repeated(names: list[str]) -> list[str]:
    """Names that are there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
