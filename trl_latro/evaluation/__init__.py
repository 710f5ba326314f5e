# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Greedy accuracy, accuracy of samples, majority and pass@k, the answer's likelihood: with intervals, for any task."""

from .in_memory import Evaluation, evaluate
from .intervals import Metric


__all__ = ["Evaluation", "Metric", "evaluate"]
