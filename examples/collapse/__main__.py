# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Train a base model whose rationales are mostly wrong, with several objectives and seeds. No network, no GPU.

    python examples/collapse

Each run leaves a small file in the output folder; a run that has one is not made again, so that a stopped study
continues where it was. At the end the tables in `collapse.md` and `collapse_per_seed.md` and the picture
`collapse.png`, beside that folder, are written from all files in it. With `--from-scratch` the files of the runs asked
for are deleted first.
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

from collapse.report import write_report
from collapse.run import do_run
from collapse.settings import OBJECTIVES, STEPS, TASK, TEST_PUZZLES
from study.pool import make_runs
from study.run import Run
from trl_latro.cli.common import saying_what_is_wrong


def show(result: dict[str, Any]) -> str:
    return "samples right " + ", ".join(
        f"{look['sample_accuracy']:.1%} after step {look['step']}" for look in result["looks"]
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parents[2] / "docs" / "collapse")
    parser.add_argument("--methods", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="of all methods; if not given, those of each in settings.py"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time, each on one core")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training; fewer for a quick look")
    parser.add_argument("--test_puzzles", type=int, default=TEST_PUZZLES, help="fewer for a quick look")
    parser.add_argument("--from-scratch", action="store_true", help="make runs anew that have a file")
    args = parser.parse_args(argv)
    if args.workers < 1 or args.steps < 1 or not 1 <= args.test_puzzles <= TEST_PUZZLES:
        parser.error(
            f"--workers ({args.workers}) and --steps ({args.steps}) must be at least 1, and --test_puzzles "
            f"({args.test_puzzles}) from 1 to {TEST_PUZZLES}."
        )

    runs = [
        Run(TASK, method, seed, args.steps, args.test_puzzles)
        for method in args.methods
        for seed in args.seeds or OBJECTIVES[method].seeds
    ]
    if args.from_scratch:
        for run in runs:
            run.path(args.output_dir).unlink(missing_ok=True)
    make_runs(runs, args.output_dir, args.workers, do_run, show)
    page, picture = write_report(args.output_dir)
    print(f"Tables in {page}, picture in {picture}")


if __name__ == "__main__":
    with saying_what_is_wrong("collapse"):
        main()
