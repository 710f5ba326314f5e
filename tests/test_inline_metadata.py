# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What `uv run examples/gsm8k.py` installs: the scripts' inline metadata (PEP 723) against pyproject.toml."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
