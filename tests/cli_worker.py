# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Runs of `trl-latro` or of a Python script, each in a process of its own, for tests of what only a whole process shows:
settings read at import, exit status, last words. The first process imports the libraries, which takes seconds, and the runs
are forks of it.
"""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple


@dataclass
class Run:
    """A command line, the variables that it finds beside those of all runs, and the script if it is not `trl-latro`'s."""

    args: list[str]
    env: dict[str, str] = field(default_factory=dict)
    script: str | None = None


class Outcome(NamedTuple):
    status: int
    output: str


def run_all(runs: dict[str, Run], folder: Path, env: dict[str, str]) -> dict[str, Outcome]:
    """One run after the other, by name; `env` holds for all of them."""
    (folder / "runs.json").write_text(json.dumps({name: asdict(run) for name, run in runs.items()}))
    subprocess.run([sys.executable, __file__, str(folder)], env={**os.environ, **env}, check=True, timeout=900)
    statuses = json.loads((folder / "statuses.json").read_text())
    return {name: Outcome(statuses[name], (folder / f"{name}.log").read_text()) for name in runs}


def main(folder: Path) -> None:
    """The forks leave through `SystemExit` or their error, as the program itself does."""
    import trl_latro.cli.train  # noqa: F401  before the forks, which share it
    from trl_latro.cli import main as cli

    statuses = {}
    for name, settings in json.loads((folder / "runs.json").read_text()).items():
        run = Run(**settings)
        process = os.fork()
        if process == 0:
            output = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.update(run.env)
            sys.argv = [run.script or "trl-latro", *run.args]
            if run.script is None:
                cli.main()
            else:
                sys.path[0] = str(Path(run.script).parent)  # as Python does
                runpy.run_path(run.script, run_name="__main__")
            sys.exit()
        statuses[name] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    (folder / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
