# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What the commands do not show: warnings that no user can act on, and progress bars where nobody watches them."""

import logging
import sys
import warnings

import datasets
import transformers


def is_watched() -> bool:
    """Whether the output goes to a terminal. A file would get every state of a progress bar, with control characters."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def reduce_noise() -> None:
    """Leave them out from here on. `python -W default` brings the warnings of Python back."""
    renamed = {  # by transformers 5.23 and torch 2.13; called by TRL 1.16 and DeepSpeed 0.19
        "transformers": ".* is deprecated and will be removed in v6",
        r"torch\.distributed": r"`torch\.distributed\..*` is deprecated",
    }
    for package, message in renamed.items():
        warnings.filterwarnings("ignore", message, FutureWarning, package, append=True)
    logging.getLogger("DeepSpeed").addFilter(_is_not_about_the_cpu)
    if not is_watched():
        hide_bars()


def hide_bars() -> None:
    """No progress bars of files that are read and written."""
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def show_own_lines() -> None:
    """For a script with lines of its own: the libraries' are left out from here on."""
    # TRL 1.16 calls methods that transformers 5.23 has renamed
    warnings.filterwarnings("ignore", ".* is deprecated and will be removed in v6", FutureWarning)
    transformers.logging.set_verbosity_error()
    hide_bars()


def _is_not_about_the_cpu(record: logging.LogRecord) -> bool:
    # Said wherever DeepSpeed is installed and there is no GPU, also where it is not used
    return not record.getMessage().startswith("Setting accelerator to CPU.")
