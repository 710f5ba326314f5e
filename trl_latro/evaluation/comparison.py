# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The paired difference of two evaluations of the same questions."""

from pathlib import Path
from typing import NamedTuple

from ..prompting import find_differences
from .files import RESULTS, SETTINGS, read_generations, read_settings
from .generation import Generation
from .intervals import Metric, percentile_interval
from .metrics import QuestionMetric, question_metrics, resample


_SEED = 0  # one for both: their resamples are paired


class Difference(NamedTuple):
    """
    A metric of two evaluations.

    Args:
        first (`float`): In the first.
        second (`float`): In the second.
        difference (`Metric`): Second minus first, with its 95 % interval.
    """

    first: float
    second: float
    difference: Metric


def compare(first_dir: Path, second_dir: Path) -> dict[str, Difference]:
    """
    Metrics that both evaluations have, and their differences.

    The bootstrap draws the same questions for both: what makes a question hard for both models cancels, so the interval
    is narrower than the two evaluations' own intervals suggest.

    Args:
        first_dir (`Path`): Folder of the first evaluation.
        second_dir (`Path`): Folder of the second.

    Raises:
        `ValueError`: a folder without a finished evaluation, or other questions.
    """
    first, second = _read_finished(first_dir), _read_finished(second_dir)
    _check_same_questions(first, second, first_dir, second_dir)
    one, other = _question_metrics(first, first_dir), _question_metrics(second, second_dir)
    resampled, resampled_other = resample(one, _SEED), resample(other, _SEED)
    differences = {}
    for name in one:
        if name in other:
            value, value_other = one[name].value, other[name].value
            interval = percentile_interval(resampled_other[name] - resampled[name])
            differences[name] = Difference(value, value_other, Metric(value_other - value, *interval))
    return differences


def find_prompting_differences(first_dir: Path, second_dir: Path) -> list[tuple[str, str, str]]:
    """
    Settings of two evaluations by which their models were prompted differently.

    Args:
        first_dir (`Path`): Folder of the first evaluation.
        second_dir (`Path`): Folder of the second.

    Raises:
        `ValueError`: a folder without a finished evaluation.
    """
    for folder in (first_dir, second_dir):
        _check_finished(folder)
    return find_differences(read_settings(first_dir), read_settings(second_dir))


def _question_metrics(generations: list[Generation], folder: Path) -> dict[str, QuestionMetric]:
    settings = read_settings(folder)
    return question_metrics(generations, settings["max_completion_length"])


def _read_finished(folder: Path) -> list[Generation]:
    _check_finished(folder)
    return read_generations(folder)


def _check_finished(folder: Path) -> None:
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{str(folder)!r} is no folder of an evaluation: it has no {SETTINGS}.")
    if not (folder / RESULTS).is_file():
        raise ValueError(
            f"The evaluation in {str(folder)!r} is not finished: it has no {RESULTS}. Call it again with the same "
            "settings, and it continues."
        )


def _check_same_questions(
    first: list[Generation], second: list[Generation], first_dir: Path, second_dir: Path
) -> None:
    asked, asked_second = (
        {one.question: (one.prompt, one.answer) for one in generations} for generations in (first, second)
    )
    if len(asked) != len(asked_second):
        raise ValueError(
            f"{str(first_dir)!r} has {len(asked)} questions, {str(second_dir)!r} has {len(asked_second)}: only "
            "evaluations of the same questions can be compared."
        )
    for question in sorted(asked):
        if asked[question] != asked_second[question]:
            raise ValueError(
                f"Question {question} differs: {asked[question]} in {str(first_dir)!r}, {asked_second[question]} in "
                f"{str(second_dir)!r}. Only evaluations of the same questions can be compared."
            )
