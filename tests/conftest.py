# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import os


# Before the libraries are imported, which read these once; programs that a test starts inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests compare numbers that they computed on the CPU
os.environ["OMP_NUM_THREADS"] = "1"  # models of this size are slower with more, and workers share the cores

import pytest
import transformers


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test samples does not depend on the tests before it."""
    transformers.set_seed(0)
