# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
What an answer gets that ignores the rationale: the spread of the reference answers. Pure functions on texts.

An answer that ignores the rationale can be no better than a guess from the distribution of the answers. That is
estimated here from the references of the other questions, so that an answer which only this question has is not known
beforehand.
"""

import math
from collections import Counter


_END, _UNKNOWN = "end", "unknown"  # beside the characters


def log_spread(answers: list[str], number: int) -> list[float]:
    """
    Log-prob of each of the first answers under the distribution of all others, `log p_h(y)`:

        p_h(y) = (1 - u) * c(y) / n  +  u * p_char(y)

    with `c(y)` of the `n` others equal to `y`, and `u` the share of answers that none of the others equals: by Good and
    Turing, the share of the others that occur once. Those are spelled: `p_char` is the product over the positions of the
    frequencies of their characters there, in the others, with one count spread evenly over all characters.

    Args:
        answers (`list[str]`):
            Reference answers.
        number (`int`):
            Answers that are asked about, the first ones.
    """
    counts = Counter(answers)
    once = sum(count == 1 for count in counts.values())
    at = Counter(spelled for answer in answers for spelled in _spell(answer))
    reaching = Counter(position for answer in answers for position, _ in _spell(answer))
    alphabet = len({character for _, character in at} | {_UNKNOWN})
    logps = []
    for answer in answers[:number]:
        n, c = len(answers) - 1, counts[answer] - 1
        others_once = once + (1 if c == 1 else 0) - (1 if c == 0 else 0)
        u = (others_once + 0.5) / (n + 1)
        log_char = sum(
            math.log((at[position, character] - 1 + 1 / alphabet) / reaching[position])
            for position, character in _spell(answer)
        )
        seen = (1 - u) * c / n if n > 0 else 0.0
        logps.append(math.log(seen + u * math.exp(log_char)) if seen > 0 else math.log(u) + log_char)
    return logps


def share_of_commonest(answers: list[str]) -> float:
    """How often the most frequent answer is the right one, `(c - 1) / (n - 1)`: of those that it was not found with."""
    ((_, most),) = Counter(answers).most_common(1)
    return (most - 1) / max(len(answers) - 1, 1)


def _spell(answer: str) -> list[tuple[int, str]]:
    """Positions and their characters, the last one the end of the answer."""
    return list(enumerate([*answer, _END]))
