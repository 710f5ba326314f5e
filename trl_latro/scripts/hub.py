# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import Trainer

from ..hub import PushError, saying_how_to_push_again


@contextmanager
def last_push(trainer: Trainer) -> Iterator[None]:
    """
    For the push of a training that is done and saved. If it fails, the program ends with exit status 1 and says what
    failed and how to push again.
    """
    try:
        with saying_how_to_push_again(trainer):
            yield
    except PushError as error:
        sys.exit(f"The training is done and saved in {trainer.args.output_dir}, but {error.failure}")
