# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""The commands: a module each, and what they and the example scripts share."""
