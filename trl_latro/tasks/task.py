# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""A task turns a dataset into prompts and reference answers, the columns that `LaTROTrainer` reads, and grades answers."""

import functools
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from datasets import Dataset

from ..answer_template import AnswerTemplate, list_answers
from ..grading import Grader, grade_answer
from ..loading import is_utf8
from .sources import BadRow, FileSource, Source, local_source


logger = logging.getLogger(__name__)

NAMED_ROWS, LONGEST_REASON = 10, 200  # of bad rows: kinds that a message names and rows of each; characters


class Example(NamedTuple):
    """
    One row of a task.

    Args:
        text (`str`):
            Prompt for a tokenizer without chat template.
        message (`str`):
            The user's message for a tokenizer with one.
        answer (`str` or `list[str]`):
            Reference answer, what stands for `{answer}` in the answer template, or a list where several are right.
        rationale (`str`, *optional*):
            Gold rationale, without the sentence that gives the answer.
        options (`dict[str, list[str]]`, *optional*):
            Options of a multiple-choice question: the lists `"label"` and `"text"`.
    """

    text: str
    message: str
    answer: str | list[str]
    rationale: str | None = None
    options: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class Task:
    """
    A dataset, the rule that makes a prompt and an answer of each of its rows, and the grading of answers.

    Args:
        source ([`Source`]):
            Where the rows come from, unless `dataset_path` says otherwise.
        columns (`tuple[str, ...]`):
            Columns that `to_example` reads.
        to_example (`Callable[[dict[str, Any]], Example]`):
            Makes an [`Example`] of a row, or raises a `ValueError` saying what is wrong with it.
        answer_template ([`~trl_latro.answer_template.AnswerTemplate`], *optional*):
            How an answer is written; `"The answer is {answer}."` if not given.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]):
            Compares an extracted answer with the reference.
        split_sizes (`dict[str, int]`, *optional*):
            Rows of the source's `"train"` and, if it has one, `"validation"` split, for a plan made without reading them.
    """

    source: Source
    columns: tuple[str, ...]
    to_example: Callable[[dict[str, Any]], Example]
    answer_template: AnswerTemplate = AnswerTemplate()
    grader: Grader = grade_answer
    split_sizes: dict[str, int] | None = None

    def load(
        self,
        split: str,
        conversational: bool,
        dataset_path: str | None = None,
        num_shots: int = 0,
        validation_size: int = 0,
        validation_seed: int = 0,
        skip_bad_rows: bool = False,
    ) -> Dataset:
        """
        Load a split as a dataset with the columns `prompt` and `answer`, and `rationale` and `options` where the task
        has them.

        Args:
            split (`str`):
                `"train"`, `"validation"` or `"test"`. Where the data have no validation split, it is taken out of the
                training split.
            conversational (`bool`):
                Whether prompts are messages, for a tokenizer with a chat template, or plain text.
            dataset_path (`str`, *optional*):
                Folder that holds `train.jsonl` and so on with the columns of the Hub, or a single file. Without it the
                dataset comes from the task's own source.
            num_shots (`int`, *optional*, defaults to `0`):
                Number of solved questions in front of each question. They are always the same ones, drawn from the
                training split, which loses them.
            validation_size (`int`, *optional*, defaults to `0`):
                Size of the validation split, drawn at random: from the data's own, else out of the training split.
            validation_seed (`int`, *optional*, defaults to `0`):
                Seed of that draw: the same seed takes the same rows.
            skip_bad_rows (`bool`, *optional*, defaults to `False`):
                Whether to leave out rows that cannot be read. The log then counts and names them.

        Returns:
            [`~datasets.Dataset`]: the rows of the split, in their order.

        Raises:
            `FileNotFoundError`, `ValueError`: no such split, rows that cannot be read, sizes that the data do not have.
        """
        source = self.find_source(dataset_path)
        splits = source.splits()
        if split not in (*splits, "validation"):
            raise ValueError(f"The data have no split {split!r}: the splits are {splits}.")
        if num_shots and isinstance(source, FileSource):
            raise ValueError(
                f"num_shots is {num_shots}, but {source.path} is a single file: solved questions come from a training "
                "split, so put train.jsonl and test.jsonl into a folder."
            )

        shots: list[Example] = []
        if split == "train" or num_shots or split not in splits:
            train = self._examples(source, "train", skip_bad_rows)
            shots, train = _draw(train, num_shots, seed=0, name="num_shots")
        if split in splits and split != "train":
            examples = self._examples(source, split, skip_bad_rows)
            if split == "validation" and validation_size < len(examples):
                examples, _ = _draw(examples, validation_size, validation_seed, "validation_size", of="validation set")
        elif "validation" in splits:
            examples = train
        else:
            validation, train = _draw(train, validation_size, validation_seed, "validation_size")
            examples = train if split == "train" else validation
        return self._dataset(examples, shots, conversational)

    def find_source(self, dataset_path: str | None = None) -> Source:
        """Where the rows come from: the folder or file at `dataset_path`, else the task's own source."""
        return self.source if dataset_path is None else local_source(dataset_path)

    def count_train(self, num_shots: int, validation_size: int) -> int | None:
        """Rows that [`load`] leaves of the source's training split, `None` where its size is not known."""
        if self.split_sizes is None:
            return None
        taken_out = num_shots + (0 if "validation" in self.split_sizes else validation_size)
        return self.split_sizes["train"] - taken_out

    def _examples(self, source: Source, split: str, skip_bad_rows: bool) -> list[Example]:
        examples: list[Example] = []
        bad: dict[str, list[str]] = {}  # locations by what is wrong there
        for location, row in source.rows(split):
            try:
                examples.append(self._example(row))
            except ValueError as error:
                bad.setdefault(str(error), []).append(location)
        if bad:
            named = _name_bad_rows(bad, len(examples))
            if not examples:
                raise ValueError(named)
            if not skip_bad_rows:
                raise ValueError(f"{named} Mend what is wrong, or leave such rows out with --skip_bad_rows.")
            _warn_once(f"Left out: {named}")
        return examples

    def _example(self, row: Any) -> Example:
        if isinstance(row, BadRow):
            raise ValueError(row.reason)
        if not isinstance(row, dict):
            raise ValueError(f"expected an object with the columns {list(self.columns)}, got {row!r}.")
        missing = [column for column in self.columns if column not in row]
        if missing:
            raise ValueError(f"the columns {missing} are missing; the columns present are {list(row)}.")
        return self.to_example(row)

    def _dataset(self, examples: list[Example], shots: list[Example], conversational: bool) -> Dataset:
        answers: list[Any] = [example.answer for example in examples]
        if any(isinstance(answer, list) for answer in answers):
            answers = list(map(list_answers, answers))  # a column has texts or lists, not both
        columns: dict[str, list[Any]] = {
            "prompt": [self._prompt(example, shots, conversational) for example in examples],
            "answer": answers,
        }
        for name in ("rationale", "options"):
            values = [example._asdict()[name] for example in examples]
            if any(value is not None for value in values):
                columns[name] = values
        return Dataset.from_dict(columns)

    def _prompt(self, example: Example, shots: list[Example], conversational: bool) -> str | list[dict[str, str]]:
        if not conversational:
            return "".join(f"{shot.text}\n{self._solution(shot)}\n\n" for shot in shots) + example.text
        messages = []
        for shot in shots:
            messages += [
                {"role": "user", "content": shot.message},
                {"role": "assistant", "content": self._solution(shot)},
            ]
        return [*messages, {"role": "user", "content": example.message}]

    def _solution(self, shot: Example) -> str:
        if shot.rationale is None:
            raise ValueError("num_shots needs data with gold rationales, and these have none: set it to 0.")
        return f"{shot.rationale.strip()} {self.answer_template.fill(list_answers(shot.answer)[0])}"


def nonempty_text(value: Any, name: str) -> str:
    """Return `value` if it is a text with something in it, else raise a `ValueError` that names it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} should be a non-empty text, got {value!r}.")
    if not is_utf8(value):
        raise ValueError(f"{name} has half of a surrogate pair, which is no character: {value!r}.")
    return value


def _name_bad_rows(bad: dict[str, list[str]], num_good: int) -> str:
    """How many rows cannot be read, which, and why, from their locations by what is wrong there."""
    number = sum(map(len, bad.values()))
    reason, (location, *_) = next(iter(bad.items()))
    if len(bad) == 1 and num_good == 0:  # a column that is called something else, say
        return (
            f"None of the {number} rows can be read: {location}: {reason}" if number > 1 else f"{location}: {reason}"
        )
    named = []
    for reason, locations in list(bad.items())[:NAMED_ROWS]:
        rows = [place.rpartition(", ")[2] for place in locations[:NAMED_ROWS]]  # in the same file
        more = f" and {len(locations) - NAMED_ROWS} more" if len(locations) > NAMED_ROWS else ""
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        named.append(f"{', '.join(rows)}{more}: {reason.removesuffix('.')}")
    if len(bad) > NAMED_ROWS:
        named.append(f"and {sum(map(len, list(bad.values())[NAMED_ROWS:]))} more")
    file = location.rpartition(", ")[0]
    return f"{number} of {number + num_good} rows cannot be read: {file}, {'; '.join(named)}."


@functools.cache
def _warn_once(message: str) -> None:
    """Files are read several times, for questions to train on and to validate with, and by every process."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message)


def _draw(
    examples: list[Example], count: int, seed: int, name: str, of: str = "training set"
) -> tuple[list[Example], list[Example]]:
    """`count` examples at random, and the others in their order."""
    if not 0 <= count < len(examples):
        raise ValueError(
            f"{name} is {count}, but the {of} has {len(examples)} rows: use a number from 0 to {len(examples) - 1}."
        )
    drawn = random.Random(seed).sample(range(len(examples)), count)
    rest = sorted(set(range(len(examples))) - set(drawn))
    return [examples[i] for i in drawn], [examples[i] for i in rest]
