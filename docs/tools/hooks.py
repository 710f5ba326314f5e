# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
What MkDocs does not do by itself: links from a page to files of the repository, and formulas without the network.
"""

import re
from html import unescape
from importlib.util import find_spec
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


ROOT = Path(__file__).parents[2]
FONT = "assets/STIXTwoMath-Regular.ttf"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
FUNCTION = re.compile(r"\\(log|exp)\s*(?=\\?[a-zA-Z])(?!\\(?:big|left|frac|sum))")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the font of the formulas, which comes with ziamath."""
    path = Path(find_spec("ziamath").origin).parent / "fonts" / Path(FONT).name
    files.append(File.generated(config, FONT, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A link to a file of the repository that is no page becomes its path: there is no public address to link to."""

    def name_path(link: re.Match[str]) -> str:
        target = (Path(page.file.abs_src_path).parent / link[2]).resolve()
        if target.suffix == ".md" and target.is_relative_to(config.docs_dir):
            return link[0]  # a page: MkDocs checks it
        if not target.exists() or not target.is_relative_to(ROOT):
            raise PluginError(f"{page.file.src_path}: there is no {link[2]}, to which [{link[1]}] links.")
        path = f"`{target.relative_to(ROOT)}`"
        return path if link[1].strip("`").split("/")[-1] == target.name else f"{link[1]} ({path})"

    return LINK.sub(name_path, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """LaTeX becomes MathML, which browsers render by themselves."""

    def as_mathml(formula: re.Match[str]) -> str:
        latex = FUNCTION.sub(r"\\\1\\,", unescape(formula[2]).strip())  # latex2mathml writes `log x` without a space
        mathml = convert(latex, display="block" if formula[1] == "div" else "inline")
        if "\\" in mathml:
            raise PluginError(f"{page.file.src_path}: latex2mathml does not know a command of {latex}.")
        return f'<{formula[1]} class="formula">{mathml}</{formula[1]}>'

    html = FORMULA.sub(as_mathml, html)
    if left := re.search(r"\$[^$<]*\\\w+", re.sub(r"<code.*?</code>", "", html, flags=re.DOTALL)):
        raise PluginError(f"{page.file.src_path}: {left[0]} is no formula. In a table write \\mid, not |.")
    return html
