# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""A task turns a dataset into prompts and reference answers: the two columns that `LaTROTrainer` reads."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, load_dataset


__all__ = ["Example", "Task", "nonempty_text", "train_validation_split"]


class Example(NamedTuple):
    """
    One row of a task.

    Args:
        text (`str`):
            Prompt for a tokenizer without chat template.
        message (`str`):
            The user's message for a tokenizer with one.
        answer (`str`):
            Reference answer, what stands for `{answer}` in the answer template.
    """

    text: str
    message: str
    answer: str


@dataclass(frozen=True)
class Task:
    """
    A dataset and the rule that makes a prompt and an answer of each of its rows.

    Args:
        hub_name (`str`):
            Name of the dataset on the Hub.
        hub_config (`str`):
            Its configuration.
        columns (`tuple[str, ...]`):
            Columns that `to_example` reads.
        to_example (`Callable[[dict[str, Any]], Example]`):
            Makes an [`Example`] of a row, or raises a `ValueError` saying what is wrong with it.
    """

    hub_name: str
    hub_config: str
    columns: tuple[str, ...]
    to_example: Callable[[dict[str, Any]], Example]

    def load(self, split: str, conversational: bool, dataset_path: str | None = None) -> Dataset:
        """
        Load a split as a dataset with the columns `prompt` and `answer`.

        Args:
            split (`str`):
                `"train"` or `"test"`.
            conversational (`bool`):
                Whether prompts are messages, for a tokenizer with a chat template, or plain text.
            dataset_path (`str`, *optional*):
                Folder that holds `train.jsonl` and `test.jsonl` with the columns of the Hub. Without it the dataset is
                loaded from the Hub.

        Returns:
            [`~datasets.Dataset`]: one row per row of the split, in its order.
        """
        if dataset_path is None:
            rows = self._hub_rows(split)
        else:
            rows = _jsonl_rows(Path(dataset_path) / f"{split}.jsonl")
        prompts: list[Any] = []
        answers: list[str] = []
        for place, row in rows:
            example = self._example(place, row)
            prompts.append([{"role": "user", "content": example.message}] if conversational else example.text)
            answers.append(example.answer)
        return Dataset.from_dict({"prompt": prompts, "answer": answers})

    def _hub_rows(self, split: str) -> Iterator[tuple[str, Any]]:
        for index, row in enumerate(load_dataset(self.hub_name, self.hub_config, split=split)):
            yield f"{self.hub_name} ({self.hub_config}), split {split}, row {index}", row

    def _example(self, place: str, row: Any) -> Example:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: expected an object with the columns {list(self.columns)}, got {row!r}.")
        missing = [column for column in self.columns if column not in row]
        if missing:
            raise ValueError(f"{place}: the columns {missing} are missing; the columns present are {list(row)}.")
        try:
            return self.to_example(row)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def nonempty_text(value: Any, name: str) -> str:
    """Return `value` if it is a text with something in it, else raise a `ValueError` that names it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} should be a non-empty text, got {value!r}.")
    return value


def train_validation_split(dataset: Dataset, validation_size: int, seed: int) -> tuple[Dataset, Dataset | None]:
    """
    Take a validation set out of a training set, so that the test set never chooses a checkpoint.

    Args:
        dataset ([`~datasets.Dataset`]):
            The training set.
        validation_size (`int`):
            Number of rows to take out, at random without replacement; 0 takes none.
        seed (`int`):
            Seed of the draw: the same seed takes the same rows.

    Returns:
        `tuple[Dataset, Dataset | None]`: the rows that remain for training, and the validation set.
    """
    if not 0 <= validation_size < len(dataset):
        raise ValueError(
            f"validation_size is {validation_size}, but the training set has {len(dataset)} rows: use a number from 0 "
            f"to {len(dataset) - 1}."
        )
    if validation_size == 0:
        return dataset, None
    splits = dataset.train_test_split(test_size=validation_size, seed=seed)
    return splits["train"], splits["test"]


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # Read here and not by `datasets`, whose JSON reader names neither the line nor what is wrong with it.
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: dataset_path is a folder with train.jsonl and test.jsonl.")
    empty = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            empty = False
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:  # broken JSON or not UTF-8
                raise ValueError(f"{place}: not a line of JSON ({error}).") from error
            yield place, row
    if empty:
        raise ValueError(f"{path} holds no rows.")
