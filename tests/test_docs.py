# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What `make docs` does not check: links of the pages outside the site, and docstrings as the site renders them."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
from trl import RLOOConfig

from trl_latro import LaTROConfig


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_of_the_repository_lead_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!\w+:|#)([^)#]+)", text)
    assert len(links) >= 3
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_own_data_is_the_same_in_the_readme_and_on_its_page() -> None:
    def commands(path: str, heading: str) -> str:
        section = (ROOT / path).read_text().partition(heading)[2]
        return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]

    page = commands("docs/get_started/own_data.md", "# Your own data")
    assert commands("README.md", "## Your own data") == page


@pytest.fixture(scope="module")
def package():
    griffe = pytest.importorskip("griffe", reason="griffe, which reads docstrings for the docs, is not installed")
    spec = importlib.util.spec_from_file_location("trl_docstrings", ROOT / "docs" / "tools" / "trl_docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    extensions = griffe.load_extensions(module.TRLDocstrings)
    return griffe.load("trl_latro", search_paths=[ROOT], extensions=extensions, docstring_parser="google")


def documented(parent):
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from documented(member)


def test_every_parameter_of_the_config_is_rendered_with_its_type(package) -> None:
    sections = package["latro_config.LaTROConfig"].docstring.parsed
    groups = [section for section in sections if section.kind.value == "parameters"]
    assert [group.title for group in groups] == [
        f"Parameters that control the {what}" for what in ("rationale and the answer", "objective", "computation")
    ]
    rendered = {parameter.name: str(parameter.annotation) for group in groups for parameter in group.value}
    assert rendered.keys() >= {field.name for field in fields(LaTROConfig)} - {
        field.name for field in fields(RLOOConfig)
    }
    assert rendered["rationale_stop_strings"] == "list[str]" and rendered["answer_coef"] == "float"


def test_no_markup_of_trl_is_left(package) -> None:
    found = [member for member in documented(package) if member.docstring is not None]
    assert len(found) > 300
    for member in found:
        text = member.docstring.value
        assert not re.search(r"\*optional\*|\[`~?\w|^\s*> Parameters", text, re.MULTILINE), (member.path, text)


def test_what_a_function_returns_and_raises_is_rendered_as_such(package) -> None:
    sections = package["durability.checkpoints.resolve_checkpoint"].docstring.parse(returns_named_value=False)
    outcomes = {
        section.kind.value: section.value[0] for section in sections if section.kind.value in ("returns", "raises")
    }
    assert str(outcomes["returns"].annotation) == "str | None"
    assert str(outcomes["raises"].annotation) == "ValueError"
    assert "there is no whole checkpoint" in outcomes["raises"].description
