# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The quickstart's notebook: it runs, and what it shows in the repository is what a run gave."""

import json
import re
from pathlib import Path
from typing import Any

import pytest


NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


def printed(notebook: dict[str, Any]) -> str:
    """All that its code cells have printed."""
    return "".join(
        "".join(output["text"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )


def accuracies(text: str) -> dict[str, float]:
    """In percent, before and after the training."""
    found = re.findall(r"^(greedy|samples) +([\d.]+)% -> +([\d.]+)%$", text, re.MULTILINE)
    return {
        f"{kind} {when}": float(value)
        for kind, *both in found
        for when, value in zip(("before", "after"), both, strict=True)
    }


def test_the_outputs_are_kept_and_small() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert "error" not in kinds and kinds.count("display_data") == 1
    assert NOTEBOOK.stat().st_size < 100_000
    page = (NOTEBOOK.parents[1] / "docs" / "get_started" / "quickstart.md").read_text()
    (seed_0,) = re.findall(r"^\| 0 \| (.*)$", page, re.MULTILINE)
    shown = accuracies(printed(notebook))
    assert len(shown) == 4 and all(f"{value} %" in seed_0 for value in shown.values()), "not the figures of the script"


@pytest.mark.slow
def test_the_notebook_runs_and_the_model_learns_to_reason() -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    found = accuracies(printed(notebook))
    assert found["greedy before"] < 20 and found["samples before"] < 45
    assert found["greedy after"] > 95 and found["samples after"] > 90
    assert "Recommended: " in printed(notebook)
