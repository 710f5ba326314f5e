# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""The commands `trl-latro train`, `evaluate`, `compare`, `plan` and `probe`; `python -m trl_latro` is the same, for launchers."""

import importlib
import os
import sys


COMMANDS = ("train", "evaluate", "compare", "plan", "probe")  # modules beside this one
USAGE = """usage: trl-latro {train,evaluate,plan,probe} [--config FILE] [options]
       trl-latro compare A B

  train     train a model with LaTRO on a task or on your own data
  evaluate  accuracy, maj@k, pass@k and answer likelihood with intervals
  compare   the paired differences of two evaluations, with intervals
  plan      memory per GPU, steps and tokens of a training, without a GPU or weights
  probe     before training: the model's rationales, and which rewards favour reasoning

`trl-latro train --help` lists the options. Several processes:
  accelerate launch -m trl_latro train ...      deepspeed --module trl_latro train ...
"""


def main() -> None:
    """Entry point of the command line."""
    if sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))  # `python -m`: no file of the working folder stands for an installed module
    # DeepSpeed's launcher puts --local_rank in front; the processes read it from their environment
    argv = [argument for argument in sys.argv[1:] if not argument.startswith("--local_rank")]
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if argv[0] not in COMMANDS:
        sys.exit(f"trl-latro: there is no command {argv[0]!r}, only {list(COMMANDS)}.\n\n{USAGE}")
    # Imported when a command is called: that takes seconds
    from .common import saying_what_is_wrong
    from .noise import reduce_noise

    reduce_noise()
    command = importlib.import_module(f"trl_latro.cli.{argv[0]}")
    with saying_what_is_wrong(f"trl-latro {argv[0]}"):
        command.main(argv[1:])
