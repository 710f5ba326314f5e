# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The layout that CONTRIBUTING.md draws is the real one."""

import re
from pathlib import Path


ROOT = Path(__file__).parents[1]
LAYOUT = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layout")[2].partition("\n## ")[0]


def test_every_file_of_the_package_has_its_sentence() -> None:
    named = set(re.findall(r"`(?:[\w/]*/)?(\w+\.py)`", LAYOUT))
    files = {path.name for path in (ROOT / "trl_latro").rglob("*.py") if not path.name.startswith("__")}
    assert files <= named, f"CONTRIBUTING.md does not say what {sorted(files - named)} hold"


def test_every_path_that_is_named_exists() -> None:
    paths = re.findall(r"`((?:trl_latro|tests|examples|benchmarks)/[\w./]*)`", LAYOUT)
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []
