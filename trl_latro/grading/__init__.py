# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Is a completion's answer the reference answer? The rule is written down in docs/grading.md.

`writing.py` gives every sign one writing, `numerals.py` finds numbers, `quantities.py` and `options.py` read an answer,
`formulas.py` asks math-verify, `flexible.py` finds the answer of a completion without the template.
"""

from .graders import (
    NO_ANSWER,
    Grade,
    Grader,
    grade_answer,
    grade_completion,
    grade_flexibly,
    grade_math,
    grade_option,
    majority_accuracy,
)


__all__ = [
    "NO_ANSWER",
    "Grade",
    "Grader",
    "grade_answer",
    "grade_completion",
    "grade_flexibly",
    "grade_math",
    "grade_option",
    "majority_accuracy",
]
