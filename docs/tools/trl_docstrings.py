# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A griffe extension: docstrings in TRL's form, as Google's, which mkdocstrings renders.

    args ([`LaTROConfig`], *optional*, defaults to `None`):    ->    args (LaTROConfig):
    > Parameters that control the objective                    ->    Parameters: Parameters that control the objective
    `ValueError`: no such reward                               ->    ValueError: no such reward
    see [`~trl_latro.prompting.read_prompting`]                ->    a link, where the site has a page for it

What is optional, and its default, mkdocstrings reads from the signature.
"""

import re

from griffe import Class, Extension, Function, GriffeLoader, Module


FIELDS = ("Args", "Parameters", "Attributes")
OUTCOMES = ("Returns", "Raises", "Yields")
SECTION = re.compile(r"(\w+):$")
FIELD = re.compile(r"( {4}\w+) \((.+)\):( .*)?$")
OUTCOME = re.compile(r"( {4})((?:[`\[][^:]*?)+)(: .*)$")
GROUP = re.compile(r" {4}> (.+)$")
REFERENCE = re.compile(r"\[`~?([\w.]+)`\]")


def plain_type(text: str) -> str:
    """The type of a field without TRL's markup: ``[`~peft.PeftModel`], *optional*`` is `PeftModel`."""
    text = re.sub(r", \*optional\*.*$", "", text)
    return REFERENCE.sub(lambda match: match[1].rpartition(".")[2], text).replace("`", "")


def as_google(text: str, paths: dict[str, str]) -> str:
    """
    A docstring in TRL's form as one in Google's.

    Args:
        text (`str`):
            The docstring.
        paths (`dict[str, str]`):
            Full path of every class and function of the package, by its name.
    """
    section, lines = "", []
    for line in text.splitlines():
        if not line and lines and lines[-1].startswith(f"{section}: "):
            continue  # a heading's fields follow it at once
        if found := SECTION.match(line):
            section = found[1]
        elif section in FIELDS and (found := GROUP.match(line)):
            line = f"{section}: {found[1]}"
            if lines[-1] == f"{section}:":  # the first group takes the section's own heading
                lines.pop()
        elif section in FIELDS and (found := FIELD.match(line)):
            line = f"{found[1]} ({plain_type(found[2])}):{found[3] or ''}"
        elif section in OUTCOMES and (found := OUTCOME.match(line)):
            line = found[1] + plain_type(found[2]) + found[3]
        elif section in OUTCOMES and line.startswith(" "):
            line = "    " + line  # goes on with the outcome above
        lines.append(line)
    text = "\n".join(lines).replace("> [!NOTE]", "> **Note**")
    text = re.sub(
        r"^(> .+:)\n(?=> - )", r"\1\n>\n", text, flags=re.MULTILINE
    )  # Markdown's lists begin after an empty line
    return REFERENCE.sub(lambda match: _link(match[1], paths), text)


def _link(path: str, paths: dict[str, str]) -> str:
    name = path.rpartition(".")[2]
    return f'<autoref optional identifier="{paths.get(name, path)}"><code>{name}</code></autoref>'


class TRLDocstrings(Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        documented = list(_walk(pkg))
        paths = {member.name: member.path for member in documented if isinstance(member, Class | Function)}
        for member in documented:
            if member.docstring is not None:
                member.docstring.value = as_google(member.docstring.value, paths)


def _walk(parent):
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _walk(member)
