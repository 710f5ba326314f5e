# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Findings in words."""

import math

from ..evaluation.report import metrics_table
from ..text_table import text_table
from .favour import Favoured
from .findings import SURE, Findings
from .samples import Probed


_METRICS = ("greedy_accuracy", "sample_accuracy", "greedy_flexible_accuracy", "sample_flexible_accuracy")
EXAMPLES = 4


def verdict(name: str, of: Favoured) -> str:
    """One sentence on what training with a reward will favour, and how sure that is."""
    margin = f"{abs(of.margin):.2g} nats" if of.in_nats else f"{abs(of.margin):.2g}"
    share = max(of.reasoning_share, 1 - of.reasoning_share)
    sure = f"in {share:.0%} of the resampled sets of questions"
    if of.best == "reasoning":
        winner, consequence = "reasoning", "the model will go on reasoning"
    elif of.gives.get("short", -math.inf) > of.gives["reasoning"]:  # which the model writes already
        winner, consequence = "guessing", "the model will stop reasoning"
    else:
        winner, consequence = "hedging", "the answers will follow the rationales less, or not at all"
    if share < SURE:
        return f"with `{name}` it is too close to call: {winner} is ahead by {margin}, but only {sure}"
    return f"with `{name}` {winner} wins by {margin} ({sure}): {consequence}"


def write_report(findings: Findings, probed: list[Probed], max_completion_length: int, command: str | None) -> str:
    """
    The report of a probe.

    Args:
        findings ([`Findings`]):
            What it found.
        probed (`list[Probed]`):
            What that rests on.
        max_completion_length (`int`):
            L, the longest rationale that was sampled.
        command (`str`, *optional*):
            The recommended training; `None` if there is none.
    """
    questions, num_samples = len(probed), len(probed[0].samples)
    ends = {"template": "with the answer template", "EOS": "with an EOS token", "limit": "at the limit"}
    ended = ", ".join(f"{findings.endings[end]:.0%} {words}" for end, words in ends.items())
    held = " and ".join(
        f"{percent} % in {f'more than {max_completion_length}' if tokens is None else tokens}"
        for percent, tokens in findings.limits.items()
    )
    logps = "; ".join(
        f"after {'no' if name == 'none' else name} rationale{'s' if name == 'sampled' else ''} {of['all']:.2f}, of which "
        f"the template {of['template']:.2f}"
        for name, of in findings.answer_logps.items()
    )
    metrics = {name: metric for name, metric in findings.metrics.items() if name in _METRICS}
    return "\n".join(
        [
            f"This rests on {questions} questions x {num_samples} samples.",
            "",
            f"Rationales end {ended}. With their end they fit: {held} tokens. {findings.short:.0%} are short; "
            f"{findings.right:.0%} of the others lead to the right answer.",
            f"Log-prob of the answer {logps}.",
            "",
            metrics_table(metrics),
            "",
            "Mean reward of the answer itself, by what the model might do:",
            rewards_table(findings.rewards),
            "",
            *(f"- {verdict(name, of)}." for name, of in findings.rewards.items()),
            "",
            *(example for of in probed[:EXAMPLES] for example in _example(of)),
            "Recommended:"
            if command
            else "There is no reward with which reasoning wins: train on gold rationales first "
            "(examples/baselines/sft_gold.py), and probe again.",
            *([f"  {command}"] if command else []),
        ]
    )


def rewards_table(rewards: dict[str, Favoured]) -> str:
    """A line for each reward."""
    ways = ("reasoning", "short", "none", "hedging")
    rows: list[tuple[str, ...]] = [("", *ways, "distrust", "rank correlation", "spread", "without spread")]
    for name, of in rewards.items():
        correlation = of.rank_correlation
        rows.append(
            (
                name,
                *(f"{of.gives[way]:.3f}" if way in of.gives else "" for way in ways),
                f"{of.distrust:.0%}",
                f"{correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]" if correlation else "",
                f"{of.spread:.3f}",
                f"{of.no_spread:.0%}",
            )
        )
    return text_table(rows)


def _example(of: Probed) -> list[str]:
    one = of.samples[0]
    prompt = one.prompt if isinstance(one.prompt, str) else one.prompt[-1]["content"]
    graded = "right" if one.correct else f"not {one.answer!r}"
    indented = [text.strip().replace("\n", "\n    ") for text in (prompt, one.completion)]
    return [f"  {indented[0]}", f"  > {indented[1]}", f"  ({graded}; log-prob {one.answer_logp:.2f})", ""]
