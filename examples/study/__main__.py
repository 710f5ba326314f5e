# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Compare LaTRO, with four rewards, and its baselines on two puzzles, with several seeds. No network, no GPU.

    python examples/study

Each run leaves a small file in the output folder; a run that has one is not made again, so that a stopped study
continues where it was. At the end the tables in `results.md` and the picture `results.png`, beside that folder, are
written from all files in it.
"""

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it need not look for a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for each process
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from study.report import read_runs, write_report
from study.run import Run, do_run, end_with_parent
from study.settings import METHODS, STEPS, TASKS, TEST_PUZZLES


def check_old_runs(runs: list[Run], output_dir: Path) -> None:
    """Raises `ValueError` where the output folder holds a run of another size."""
    for seeds in read_runs(output_dir).values():
        for old in seeds:
            for name in ("steps", "test_puzzles"):
                asked = runs[0]._asdict()[name]
                if old[name] != asked:
                    raise ValueError(
                        f"{output_dir} holds runs with {name} {old[name]}, but {asked} is asked for: choose another "
                        "--output_dir, or delete its files."
                    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parents[2] / "docs" / "study")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
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

    args.output_dir.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(task, method, seed, args.steps, args.test_puzzles)
        for seed in args.seeds
        for task in args.tasks
        for method in args.methods
    ]
    check_old_runs(runs, args.output_dir)
    waiting = [run for run in runs if not run.path(args.output_dir).exists()]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them made before", flush=True)

    start = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, spawn, initializer=end_with_parent) as pool:
        futures = {pool.submit(do_run, run, args.output_dir): run for run in waiting}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                run, metrics = futures[future], future.result()["metrics"]
                shown = ", ".join(f"{name} {metrics[name][0]:.1%}" for name in metrics if "tokens" not in name)
                left = (time.perf_counter() - start) / done * (len(waiting) - done)
                print(
                    f"[{done}/{len(waiting)}] {run.task} {run.method} seed {run.seed}: {shown} "
                    f"(about {left / 60:.0f} min left)",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the runs under way end, the others wait for the next call
            raise
    page, picture = write_report(args.output_dir)
    print(f"Tables in {page}, picture in {picture}")


if __name__ == "__main__":
    main()
