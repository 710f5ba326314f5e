# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

from .latro_config import LaTROConfig
from .latro_trainer import LaTROTrainer


__version__ = "0.2.0"

__all__ = ["LaTROConfig", "LaTROTrainer"]
