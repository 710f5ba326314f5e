# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""`trl-latro compare`: the paired differences of two evaluations."""

from argparse import ArgumentParser
from pathlib import Path

from ..evaluation.comparison import compare, find_prompting_differences
from ..evaluation.report import differences_table


USAGE = "trl-latro compare A B"


def main(argv: list[str] | None = None) -> None:
    """
    Print both values, B - A and its 95 % interval of every metric that two evaluations of the same questions have, and where
    the models were prompted differently.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.

    Raises:
        `ValueError`: not two folders, or folders that cannot be compared, see [`compare`].
    """
    parser = ArgumentParser(
        "trl-latro compare",
        usage=USAGE,
        description="Compare two evaluations of the same questions: B - A with 95 % intervals, paired by question.",
    )
    parser.add_argument("folders", nargs="*", metavar="A B", help="The --output_dir of two finished evaluations.")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(f"There is no option {unknown[0]!r}, only two folders of evaluations: {USAGE}.")
    if len(arguments.folders) != 2:
        raise ValueError(
            f"Two folders of evaluations are compared ({USAGE}), got {len(arguments.folders)}: {arguments.folders}."
        )
    first, second = map(Path, arguments.folders)
    print(f"A: {first}\nB: {second}")
    # Before the comparison, which other prompts make impossible
    for name, of_first, of_second in find_prompting_differences(first, second):
        print(f"Prompted differently: {name} is {of_first} in A and {of_second} in B.")
    print()
    print(differences_table(compare(first, second)))
