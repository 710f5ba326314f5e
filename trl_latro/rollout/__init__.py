# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Sampling of completions: one engine per file, all with the interface of `engine.py`."""
