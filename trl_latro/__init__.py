# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import importlib
from typing import TYPE_CHECKING, Any


__version__ = "0.2.0"

__all__ = ["LaTROConfig", "LaTROTrainer"]

if TYPE_CHECKING:
    from .latro_config import LaTROConfig
    from .latro_trainer import LaTROTrainer
else:
    _MODULES = {"LaTROConfig": "latro_config", "LaTROTrainer": "latro_trainer"}

    def __getattr__(name: str) -> Any:
        # Loaded when they are asked for: that takes seconds, and `trl-latro --help` needs neither
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)

    def __dir__() -> list[str]:
        return [*globals(), *__all__]
