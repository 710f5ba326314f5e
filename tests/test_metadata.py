# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Version and dependencies are the same wherever they are named, also in the scripts for `uv run` (PEP 723)."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import trl_latro


ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = [
    path
    for folder in (EXAMPLES, EXAMPLES / "baselines")
    for path in sorted(folder.glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]
DISTRIBUTIONS = packages_distributions()  # by the modules that they bring
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # the one of PEP 723


def read_block(script: Path) -> dict[str, Any]:
    (block,) = BLOCK.finditer(script.read_text())
    lines = block["content"].splitlines()
    return tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))


def direct_dependencies(extras: set[str]) -> set[str]:
    """Names of what trl_latro with some of its extras asks for."""
    asked = PROJECT["dependencies"] + [one for extra in extras for one in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(one).name) for one in asked}


def imported_packages(script: Path) -> set[str]:
    """Names of the distributions that a script imports, without Python's own and what lies beside it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(str(node.module).partition(".")[0])
    beside = {path.stem for path in script.parent.iterdir()} | {"trl_latro"}
    return {canonicalize_name(DISTRIBUTIONS[name][0]) for name in modules - beside - sys.stdlib_module_names}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_asks_for_this_package_and_for_all_that_it_imports(script: Path) -> None:
    block = read_block(script)
    assert block["requires-python"] == PROJECT["requires-python"]
    (asked,) = [Requirement(one) for one in block["dependencies"]]
    assert asked.name == PROJECT["name"]
    source = block["tool"]["uv"]["sources"][asked.name]
    assert (script.parent / source["path"]).resolve() == ROOT and source["editable"]
    imported = imported_packages(script)
    assert imported <= direct_dependencies(asked.extras)
    for extra in asked.extras:
        assert not imported <= direct_dependencies(asked.extras - {extra}), f"nothing of {extra} is imported"


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert trl_latro.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    released = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released is not None and released[1] == version


def test_what_was_run_is_what_may_be_installed() -> None:
    """The table of docs/compatibility.md, pyproject.toml and constraints.txt."""
    rows = re.findall(r"^\| ([\w-]+)[^|]* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", COMPATIBILITY, re.MULTILINE)
    run = {canonicalize_name(name): versions for name, *versions in rows}
    python = run.pop("python")
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in python)
    minors = {f"Programming Language :: Python :: {version.rpartition('.')[0]}" for version in python}
    assert minors <= set(PROJECT["classifiers"])
    pinned = dict(line.split("==") for line in CONSTRAINTS.splitlines() if "==" in line)
    bounds = {one.name: one.specifier for one in map(Requirement, PROJECT["dependencies"]) if one.specifier}
    assert bounds.keys() == run.keys() - {"deepspeed"}
    for name, (oldest, usual, newest) in run.items():
        assert pinned[name] == usual
        assert all(version in bounds.get(name, SpecifierSet()) for version in (oldest, usual, newest)), name
