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


TIME_LIMIT = 5  # seconds; longer than any formula of the datasets takes, shorter than anybody waits
_LONGEST = 1000  # characters


class _TimeIsUp(BaseException):
    """math-verify catches every `Exception`."""


def same_formula(reference: str, given: str) -> bool:
    """Whether two formulas, with or without dollar signs around them, are equal; one that takes too long is not."""
    if len(given) > _LONGEST or given.count(":") != reference.count(":"):  # math-verify reads 3:1 as 3
        return False
    if _is_huge(reference) or _is_huge(given):
        return False

    def compare(limit: int | None) -> bool:
        return bool(verify(_parse(reference, limit), _parse(given, limit), timeout_seconds=limit))

    if threading.current_thread() is threading.main_thread():
        return compare(TIME_LIMIT)
    return _within_time_limit(lambda: compare(None))


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


def _parse(text: str, limit: int | None) -> list:
    text = text.strip().strip("$")
    return parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=limit)


def _within_time_limit(compare: Callable[[], bool]) -> bool:
    """
    `False` where `compare` is not done in time, for threads other than the main one: an exception is raised in the thread.

    math-verify's own limits are alarm signals, which only the main thread can have.
    """
    # There is a limit: no need to warn that there is none
    math_verify.parser.TIMEOUT_WARNING_SHOWN = math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    thread, lock, done = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not done:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TimeIsUp))

    timer = threading.Timer(TIME_LIMIT, interrupt)
    timer.daemon = True
    try:
        timer.start()
        try:
            return compare()
        finally:
            with lock:
                done = True  # from here on nothing is raised any more
            timer.cancel()
    except _TimeIsUp:
        return False
