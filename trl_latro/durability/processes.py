# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Processes of one training that have to come to one decision, of which one per disk looks at the disk."""

from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import gather_object


T = TypeVar("T")


def looks_at_disk(on_each_node: bool) -> bool:
    """
    Whether this process is the one that reads and locks the folder of the run: the main process, or with `on_each_node`
    (`save_on_each_node` of the trainer's arguments, where nodes share no disk) the main process of every node.
    """
    if not _is_started():
        return True
    state = PartialState()
    return state.is_local_main_process if on_each_node else state.is_main_process


def is_main_process() -> bool:
    """Whether this process speaks for all."""
    return not _is_started() or PartialState().is_main_process


def first_said(own: T | None) -> T | None:
    """What the first process that has something to say says, in every process. All have to call it."""
    if not _is_started():
        return own
    return next((one for one in gather_object([own]) if one is not None), None)


def _is_started() -> bool:
    # Making a `PartialState` would start the process group, with settings that are not the run's
    return bool(PartialState._shared_state)
