# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Runs every feature on every backend and writes the table of `docs/backends.md`: `make backends`."""

import os
import platform
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import conftest  # noqa: F401, the environment of the tests
from backend_worker import FEATURES
from backends import BACKENDS, FAILING, FAILS_IN_TRL, Difference, compare, features_of, start, train_alone
from tiny import byte_level_tokenizer, save_model


DOCS = Path(__file__).parents[1] / "docs" / "backends.md"
BEGIN, END = "<!-- written by `make backends`: begin -->\n", "<!-- end -->\n"


def make_table(results: dict[str, dict[str, Difference]], failing: set[str]) -> str:
    lines = [f"| Feature | {' | '.join(results)} |", f"|---{'|---' * len(results)}|"]
    for feature in FEATURES:
        cells = []
        for backend, found in results.items():
            if feature in found:
                cells.append(" / ".join("0" if number == 0 else f"{number:.0e}" for number in found[feature]))
            else:
                cells.append("fails" if feature == FAILING and backend in failing else "")
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    worst = max(number for found in results.values() for difference in found.values() for number in difference)
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "trl", "transformers", "accelerate", "deepspeed", "peft")
    )
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return "\n".join(
        [*lines, "", f"The largest of all is {worst:.1e}. {date.today():%d %B %Y}; {machine}; {packages}.", ""]
    )


def main() -> None:
    head, rest = DOCS.read_text().split(BEGIN)
    _, tail = rest.split(END)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = save_model(byte_level_tokenizer(num_merges=60), work / "model")
        for feature in FEATURES:
            train_alone(feature, model, work / "alone")
        results, failing = {}, set()
        for backend in BACKENDS:
            results[backend] = compare(backend, features_of(backend), model, work / "alone", work / backend)
            print(backend, results[backend], flush=True)
            if BACKENDS[backend].zero_stage == 3:
                arguments = (model, str(work / "failing"), BACKENDS[backend].deepspeed, FAILING)
                status, output = start(backend, "backend_worker.py", *arguments)
                if status == 0 or FAILS_IN_TRL not in output:
                    raise RuntimeError(f"{FAILING} no longer fails as it did on {backend}:\n{output}")
                failing.add(backend)
    DOCS.write_text(f"{head}{BEGIN}{make_table(results, failing)}{END}{tail}")


if __name__ == "__main__":
    main()
