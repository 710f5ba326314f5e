# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Trainings that survive: checkpoints, pushes, trackers and a node that is taken away, for any trainer."""
