# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The wheel, installed where nothing but its dependencies is, trains and evaluates outside of the checkout (`make test-wheel`)."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import trl_latro


ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trl_latro"


def run(*command: str | Path, cwd: Path | None = None, status: int = 0) -> str:
    """What a program prints that sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what an earlier build has left in the checkout would get into it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("trl_latro", "examples", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


def link_dependencies(site_packages: Path) -> None:
    """Link to what the installed wheel asks for, and that in turn, as it is installed for the tests; to nothing else."""
    (installed,) = distributions(name="trl_latro", path=[str(site_packages)])
    asked, seen = [(installed, "")], set()
    while asked:
        installed, extra = asked.pop()
        if (installed.name, extra) in seen:
            continue
        seen.add((installed.name, extra))
        for one in map(Requirement, installed.requires or ()):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                asked += [(distribution(one.name), extra_of_it) for extra_of_it in ("", *one.extras)]
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            link = site_packages / top
            if not link.exists():  # the wheel's own, or a folder that several share
                link.symlink_to(installed.locate_file(top))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    assert "No module named 'trl_latro'" in run(python, "-c", "import trl_latro", cwd=folder, status=1)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    link_dependencies(Path(sysconfig.get_path("purelib", vars={"base": str(folder)})))
    assert "No broken requirements found" in run(sys.executable, "-m", "pip", "--python", python, "check")
    return python


@pytest.mark.wheel
def test_the_wheel_holds_the_package_and_neither_examples_nor_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"trl_latro-{trl_latro.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"trl_latro", info}
    package = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")} | {"trl_latro/py.typed"}
    assert package == {name for name in names if name.startswith("trl_latro/")}
    assert f"{info}/licenses/LICENSE" in names


@pytest.mark.wheel
def test_the_installed_wheel_trains_and_evaluates_on_ones_own_data(python: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "puzzles" / "dial_base_model", tmp_path / "base")
    rows = [
        {
            "question": f"The dial shows {dial}. Turn right 4. Double it. What does it show?",
            "answer": 2 * (dial + 4) % 10,
        }
        for dial in range(10)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = run(python, "-c", "import trl_latro; print(trl_latro.__file__)", cwd=tmp_path)
    assert Path(where.splitlines()[-1]).is_relative_to(python.parents[1])

    command, shared = python.parent / "trl-latro", ["--task", "mine.jsonl", "--prompt_template", "{question}"]
    shared += ["--max_completion_length", "34"]
    steps = ["--max_steps", "2", "--num_generations", "4", "--per_device_train_batch_size", "16"]
    steps += ["--gradient_accumulation_steps", "1", "--validation_size", "2", "--report_to", "none"]
    run(command, "train", *shared, *steps, "--model_name_or_path", "base", "--output_dir", "trained", cwd=tmp_path)
    run(command, "evaluate", *shared, "--model_name_or_path", "trained", "--output_dir", "results", cwd=tmp_path)
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["questions"] == 10 and results["versions"]["trl_latro"] == trl_latro.__version__
    assert 0 <= results["metrics"]["greedy_accuracy"]["value"] <= 1
