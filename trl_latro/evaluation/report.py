# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Metrics as tables of plain text."""

from ..text_table import text_table
from .comparison import Difference
from .intervals import Metric


_SHARES = (
    "greedy_accuracy",
    "sample_accuracy",
    "greedy_flexible_accuracy",
    "sample_flexible_accuracy",
    "maj@",
    "pass@",
    "greedy_finished",
    "sample_finished",
)


def metrics_table(metrics: dict[str, Metric]) -> str:
    """One line per metric: value and interval, shares in percent."""
    rows = [("", "value", "95 % interval")]
    for name, metric in metrics.items():
        value, low, high = (_number(name, number) for number in metric)
        rows.append((_title(name), value, f"[{low}, {high}]"))
    return text_table(rows)


def differences_table(differences: dict[str, Difference]) -> str:
    """One line per metric: both values and B - A with its interval, shares in percent and percentage points."""
    rows = [("", "A", "B", "B - A", "95 % interval")]
    for name, (first, second, difference) in differences.items():
        value, low, high = (_number(name, number, "+") for number in difference)
        rows.append((_title(name), _number(name, first), _number(name, second), value, f"[{low}, {high}]"))
    return text_table(rows)


def _title(name: str) -> str:
    return name.replace("_", " ") + (" (%)" if name.startswith(_SHARES) else "")


def _number(name: str, value: float, sign: str = "") -> str:
    if name.startswith(_SHARES):
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.1f}" if name.endswith("_rationale_tokens") else f"{value:{sign}.3f}"
