# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Runs that are made side by side, each in a process of its own, and that are not made twice."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from .run import Run


def read_files(output_dir: Path, task: str = "*") -> list[dict[str, Any]]:
    """The runs in a folder, of one task if it is named, by seed."""
    runs = [json.loads(path.read_text()) for path in sorted(output_dir.glob(f"{task}-*.json"))]
    return sorted(runs, key=lambda run: run["seed"])


def check_old_runs(runs: list[Run], output_dir: Path) -> None:
    """Raises `ValueError` where the output folder holds a run of the same task and another size."""
    for run in {run.task: run for run in runs}.values():
        for old in read_files(output_dir, run.task):
            for name in ("steps", "test_puzzles"):
                asked = run._asdict()[name]
                if old[name] != asked:
                    raise ValueError(
                        f"{output_dir} holds runs with {name} {old[name]}, but {asked} is asked for: choose another "
                        "--output_dir, or delete its files."
                    )


def end_with_parent() -> None:
    """Workers of a study that was killed would go on with what it had handed out."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make_runs(
    runs: list[Run],
    output_dir: Path,
    workers: int,
    make: Callable[[Run, Path], dict[str, Any]],
    show: Callable[[dict[str, Any]], str],
) -> None:
    """
    Make those runs that have no file yet.

    Args:
        runs (`list[Run]`): The runs, in their order; one that is named twice is made once.
        output_dir (`Path`): Folder of their files.
        workers (`int`): Runs at the same time.
        make (`Callable`): Makes a run and writes its file, at the very end.
        show (`Callable`): What the line of a run says of its result.

    Raises:
        `ValueError`: a run was killed, and with it those beside it.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    check_old_runs(runs, output_dir)
    runs = list(dict.fromkeys(runs))
    waiting = [run for run in runs if not run.path(output_dir).exists()]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them made before", flush=True)

    start = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=end_with_parent) as pool:
        futures = {pool.submit(make, run, output_dir): run for run in waiting}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                run, shown = futures[future], show(future.result())
                left = (time.perf_counter() - start) / done * (len(waiting) - done)
                print(
                    f"[{done}/{len(waiting)}] {run.task} {run.method} seed {run.seed}: {shown} "
                    f"(about {left / 60:.0f} min left)",
                    flush=True,
                )
        except BrokenProcessPool as error:
            raise ValueError(
                "A run was killed, as the system does when memory runs out. The finished ones are kept: start the same "
                "command again, and where several ran, with fewer --workers."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the runs under way end, the others wait for the next call
            raise
