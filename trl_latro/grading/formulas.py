# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Formulas are compared by [math-verify](https://github.com/huggingface/Math-Verify), in any thread, with a time limit."""

import ctypes
import re
import threading
from collections.abc import Callable

import math_verify.grader
import math_verify.parser
from math_verify import LatexExtractionConfig, parse, verify

from .writing import clean


TIME_LIMIT = 5.0  # seconds; longer than any formula of the datasets takes, shorter than anybody waits
_LONGEST = 1000  # characters


class _TimeIsUp(BaseException):
    """math-verify catches every `Exception`."""


def same_formula(reference: str, given: str) -> bool:
    """Whether two formulas, with or without dollar signs around them, are equal; one that takes too long is not."""
    if len(given) > _LONGEST or given.count(":") != reference.count(":"):  # math-verify reads 3:1 as 3
        return False
    if _is_huge(reference) or _is_huge(given):
        return False

    return _within_time_limit(lambda: bool(verify(_parse(reference), _parse(given), timeout_seconds=None)))


def is_formula(text: str) -> bool:
    r"""
    Whether a text is an expression and nothing else: `2^{10}`, `\sqrt{25}`, `5 + 13`. A list, a range and an inequality
    are none, nor is one that breaks off.
    """
    text = clean(text, formula=True)
    bare = re.sub(r"\\[A-Za-z]+", "", text)
    return (
        re.fullmatch(r"[\w\s.+\-*×/^(){}|√π\ue000]+", bare) is not None
        and re.search(r"[A-Za-z]{2}|\d\.\d*\.|[-+*×/^.]\s*$|_", bare) is None
        and re.search(r"[\w)}]\s*[-+*×/^]|[√\ue000]|\\(?:sqrt|[dtc]?frac|binom|pi)", text) is not None
    )


def _is_huge(text: str) -> bool:
    """
    Whether a formula has a number of too many digits to be written out: sympy would, and arithmetic of a single step lets
    no other thread run and cannot be stopped from one.
    """
    text = re.sub(r"\s", "", text)
    if re.search(r"\^\{?\(?-?\d{5,}|\d{5,}[})]*!|![})]*!|\d{301,}|[eE]\+?\d{4,}", text) or (
        "binom" in text and re.search(r"\d{5,}", text)
    ):
        return True
    return any(
        tower[3] or len(tower[1] + tower[2]) > 5 or int(tower[1]) ** int(tower[2]) > 10_000
        for tower in re.finditer(r"\^[{(]*(\d+)\^[{(]*(\d+)(\^)?", text)
    )


def _parse(text: str) -> list:
    text = text.strip().strip("$")
    return parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)


def _within_time_limit(compare: Callable[[], bool]) -> bool:
    """
    `False` where `compare` is not done in time: an exception is raised in this thread, whichever it is.

    math-verify's own limits are alarm signals, which only the main thread can have, and which come once: an exception that
    is raised in a destructor is lost, and from Python 3.12 on the garbage collector calls destructors at the same points
    of a program at which signals are handled.
    """
    # There is a limit: no need to warn that there is none
    math_verify.parser.TIMEOUT_WARNING_SHOWN = math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    thread, lock, done = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()

    def interrupt() -> None:
        pause = TIME_LIMIT
        while not done.wait(pause):
            with lock:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeIsUp))
            pause = TIME_LIMIT / 5  # and again, if it was lost

    try:
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            return compare()
        finally:
            with lock:
                done.set()  # from here on nothing is raised any more
    except _TimeIsUp:
        done.set()  # it may have come just before that
        return False
