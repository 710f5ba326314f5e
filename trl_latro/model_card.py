# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The model card: the paper that it cites, how the model was prompted, and names in TRL's template."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from .prompting import PROMPTING_FILE, in_words


PAPER = {
    "title": "Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding",
    "id": "2411.04282",
    # docstyle-ignore
    "citation": textwrap.dedent("""\
        @article{chen2024language,
            title        = {{Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding}},
            author       = {Haolin Chen and Yihao Feng and Zuxin Liu and Weiran Yao and Akshara Prabhakar and Shelby Heinecke and Ricky Ho and Phil Mui and Silvio Savarese and Caiming Xiong and Huan Wang},
            year         = 2024,
            journal      = {arXiv preprint arXiv:2411.04282}
        }"""),
}


def plain_name(name: str | None) -> str | None:
    """A name as Markdown shows it letter by letter, in one line."""
    return None if name is None else re.sub(r"([\\`*_{}\[\]()<>#|!$])", r"\\\1", " ".join(name.split()))


def name_local_models(card: Path, output_dir: str) -> None:
    """In place of the "None" of TRL's template: a base model that is not on the Hub, and the folder of one not pushed."""
    text = card.read_text(encoding="utf-8")
    folder = json.dumps(Path(output_dir).absolute().name, ensure_ascii=False)
    text = text.replace("[None](https://huggingface.co/None)", "a model that is not on the Hub")
    card.write_text(text.replace('model="None"', f"model={folder}"), encoding="utf-8")


def add_prompting(card: Path, prompting: dict[str, Any]) -> None:
    """A section on how the model was prompted, before that of the versions or, in another template, at the end."""
    before, heading, after = card.read_text(encoding="utf-8").partition("### Framework versions")
    settings = "\n".join(f"{name}: {value}" for name, value in in_words(prompting).items())
    section = (
        f"### How it was prompted\n\nThese settings are in `{PROMPTING_FILE}`, and `trl-latro evaluate` goes by them.\n\n"
        f"```\n{settings}\n```\n\n"
    )
    card.write_text(before + section + heading + after, encoding="utf-8")
