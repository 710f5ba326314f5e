# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Rows in batches as large as the memory allows."""

import logging
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size


Row = TypeVar("Row")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Halving:
    """
    Computes rows together, and where the memory does not hold them, half of them at a time: these and all that follow.

    Args:
        what (`str`): What it computes, for the log.

    Attributes:
        limit (`int`, *optional*): Rows that are computed together at most; `None` as long as all have fitted.
    """

    def __init__(self, what: str):
        self.what = what
        self.limit: int | None = None

    def __call__(self, compute: Callable[[list[Row]], list[Result]], rows: list[Row]) -> list[Result]:
        """
        Args:
            compute (`Callable[[list[Row]], list[Result]]`): Gives a result for each row.
            rows (`list[Row]`): All rows.
        """
        results: list[Result] = []
        while len(results) < len(rows):
            part = rows[len(results) :][: self.limit]
            try:
                results += compute(part)
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or len(part) == 1:
                    raise
                self.limit = len(part) // 2
                logger.warning(
                    "%s of %d completions does not fit into memory: %d at a time from here on.",
                    *(self.what, len(part), self.limit),
                )
            else:
                continue
            clear_device_cache(garbage_collection=True)  # here the error is gone, and with it what its frames held
        return results
