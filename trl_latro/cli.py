# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""The commands `trl-latro train`, `evaluate` and `plan`; `python -m trl_latro` is the same, for launchers."""

import sys
from collections.abc import Callable


USAGE = """usage: trl-latro {train,evaluate,plan} [--config FILE] [options]

  train     train a model with LaTRO on a task or on your own data
  evaluate  accuracy, maj@k, pass@k and answer likelihood with intervals; compare two evaluations
  plan      does a training fit? memory per GPU, prompts and tokens per update, without a GPU or weights

`trl-latro train --help` and so on list the options. Several processes:
  accelerate launch -m trl_latro train ...      deepspeed --module trl_latro train ...
"""


def main() -> None:
    """Entry point of the command line."""
    # The commands are imported when they are called: that takes seconds
    commands: dict[str, Callable[[], Callable[[list[str]], None]]] = {
        "train": _train,
        "evaluate": _evaluate,
        "plan": _plan,
    }
    # DeepSpeed's launcher puts --local_rank in front; the processes read it from their environment
    argv = [argument for argument in sys.argv[1:] if not argument.startswith("--local_rank")]
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if argv[0] not in commands:
        sys.exit(f"trl-latro: there is no command {argv[0]!r}, only {list(commands)}.\n\n{USAGE}")
    command = commands[argv[0]]()
    try:
        command(argv[1:])
    except (FileNotFoundError, FloatingPointError, ValueError) as error:
        sys.exit(f"trl-latro {argv[0]}: {error}")


def _train() -> Callable[[list[str]], None]:
    from .scripts.train import main

    return main


def _evaluate() -> Callable[[list[str]], None]:
    from .scripts.evaluate import main

    return main


def _plan() -> Callable[[list[str]], None]:
    from .scripts.plan import main

    return main
