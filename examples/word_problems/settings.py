# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""How `make smollm2` and the study train on word problems."""

from pathlib import Path
from typing import Any

import torch


PROMPTS, SAMPLES = 16, 8  # per step of the optimizer
STEPS = 12
MAX_TOKENS = 80  # the longest worked solution has 65

# Products in bfloat16, weights in float32. A processor without instructions for bfloat16 emulates them and takes three
# times as long as in float32. Old versions of torch do not say which a processor has; Linux does.
CPU_INFO = Path("/proc/cpuinfo")
BF16 = torch.cuda.is_available() or (CPU_INFO.exists() and "avx512_bf16" in CPU_INFO.read_text())

TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": SAMPLES,  # a prompt at a time, for less memory
    "gradient_accumulation_steps": PROMPTS,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "constant",
    "bf16": BF16,
    "gradient_checkpointing": False,  # memory is not short here
}
ROLLOUT: dict[str, Any] = {"num_generations": SAMPLES, "beta": 0.02, "max_completion_length": MAX_TOKENS}
