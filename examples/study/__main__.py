# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Compare LaTRO, with four rewards, and its baselines on two puzzles, with several seeds. No network, no GPU.

    python examples/study

Each run leaves a small file in the output folder; a run that has one is not made again, so that a stopped study
continues where it was. At the end the tables in `results.md` and the picture `results.png`, beside that folder, are
written from all files in it.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it need not look for a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for each process
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from study.pool import make_runs
from study.report import write_report
from study.run import Run, do_run
from study.settings import METHODS, STEPS, TASKS, TEST_PUZZLES
from trl_latro.cli.common import saying_what_is_wrong


def show(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    return ", ".join(f"{name} {metrics[name][0]:.1%}" for name in metrics if "tokens" not in name)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parents[2] / "docs" / "study")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["dial", "house"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time, each on one core")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training; fewer for a quick look")
    parser.add_argument("--test_puzzles", type=int, default=TEST_PUZZLES, help="fewer for a quick look")
    args = parser.parse_args(argv)
    if args.workers < 1 or args.steps < 1 or not 1 <= args.test_puzzles <= TEST_PUZZLES:
        parser.error(
            f"--workers ({args.workers}) and --steps ({args.steps}) must be at least 1, and --test_puzzles "
            f"({args.test_puzzles}) from 1 to {TEST_PUZZLES}."
        )

    runs = [
        Run(task, method, seed, args.steps, args.test_puzzles)
        for seed in args.seeds
        for task in args.tasks
        for method in args.methods
    ]
    make_runs(runs, args.output_dir, args.workers, do_run, show)
    page, picture = write_report(args.output_dir)
    print(f"Tables in {page}, picture in {picture}")


if __name__ == "__main__":
    with saying_what_is_wrong("study"):
        main()
