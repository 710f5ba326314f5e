# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
All that a training logs, line by line, in its output folder.

The rule: the file is the history of the model that is being trained. At its start a training writes what its checkpoint has
logged, and without a checkpoint nothing: lines of steps that are made again go. From there on each log is one more line.
"""

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .checkpoints import say_failed_write


METRICS_FILE = "metrics.jsonl"


class MetricsFile(TrainerCallback):
    """
    Writes `metrics.jsonl`: a line of JSON for each log of the training and of its evaluations, whole also if the process is
    killed. NaN and infinity, which JSON does not have, are `null`.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        path = Path(str(args.output_dir)) / METRICS_FILE
        new = path.with_name(f"_{METRICS_FILE}")
        with say_failed_write(path, path.parent):
            new.write_bytes(b"".join(map(_line, state.log_history)))
            new.replace(path)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        path = Path(str(args.output_dir)) / METRICS_FILE
        # In one call of the system, so that no line is cut short
        with say_failed_write(path, path.parent), path.open("ab", buffering=0) as file:
            file.write(_line(state.log_history[-1]))


def _line(entry: dict[str, Any]) -> bytes:
    values = {name: value if _is_json(value) else None for name, value in entry.items()}
    return json.dumps({"step": values.pop("step"), **values}).encode() + b"\n"


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
