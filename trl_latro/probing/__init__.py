# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""For `trl-latro probe`: what training will make of a model, foretold from samples of it."""
