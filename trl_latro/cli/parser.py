# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""The parser of the commands: TRL's, which says what is wrong with a `--config` file before it takes anything from it."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from inspect import get_annotations
from pathlib import Path
from typing import Any

import yaml
from transformers.hf_argparser import string_to_bool
from trl import TrlParser

from ..loading import one_line
from ..tasks.sources import find_repeated
from .option_groups import OPTION_GROUPS


# Lists that mean something else when they are empty than when they are not set
_MAY_BE_EMPTY = ("rationale_stop_strings", "thinking_tags")


class CommandParser(TrlParser):
    """
    [`~trl.TrlParser`] whose `--config` files are held to what the command line is held to, and whose help lists the
    package's own options by use.

    A file is refused that cannot be read, is no YAML mapping, names a setting twice, or gives a setting a value that the
    command line would not take. (TRL's parser passes values of a file on as they are.)
    """

    def __init__(self, dataclass_types: Sequence[type], **kwargs: Any):
        # Of several hundred options, argparse's own usage would fill a screen, at every error too
        super().__init__(dataclass_types, usage="%(prog)s [--config FILE] [--OPTION VALUE ...]", **kwargs)
        for action in self._actions:
            if action.dest in _MAY_BE_EMPTY:
                action.nargs = "*"

    @property
    def packages(self) -> dict[str, str]:
        """The package that declares each option, or declares it anew: ours, TRL's, transformers'."""
        return {
            field.name: _declaring_class(of_type, field.name).__module__.split(".")[0]
            for of_type in self.dataclass_types
            for field in fields(of_type)
        }

    def format_help(self) -> str:
        """Our options by use, see [`OPTION_GROUPS`], then the others by the package that declares them."""
        groups = {"options": ["help"], **OPTION_GROUPS, "options of trl": [], "options of transformers": []}
        grouped = {name for names in groups.values() for name in names}
        for name, package in self.packages.items():
            if name not in grouped:
                groups.setdefault(f"options of {package}", []).append(name)
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        for title, names in groups.items():
            actions = [action for name in names for action in self._actions if action.dest == name]
            if actions:
                formatter.start_section(title)
                formatter.add_arguments(actions)
                formatter.end_section()
        return formatter.format_help()

    def parse_args_and_config(
        self, args: Iterable[str] | None = None, return_remaining_strings: bool = False, **kwargs: Any
    ) -> tuple[Any, ...]:
        """
        As the parent's; raises `ValueError` for a file that is refused, and for an option that there is not. `--config=FILE` is
        `--config FILE`.
        """
        args = list(sys.argv[1:] if args is None else args)
        args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        if "--config" in args:
            position = args.index("--config") + 1
            if position == len(args) or args[position].startswith("--"):
                raise ValueError("--config needs a file: --config settings.yaml.")
            self._check_config(Path(args[position]))
        *parsed, unknown = super().parse_args_and_config(args, return_remaining_strings=True, **kwargs)
        if return_remaining_strings:
            return (*parsed, unknown)
        if unknown:
            name = unknown[0].split("=")[0]
            options = [f"--{action.dest}" for action in self._actions]
            similar = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), options, 1)
            hint = f"did you mean {similar[0]}?" if similar else "see --help."
            raise ValueError(f"There is no option {name!r}: {hint}")
        return tuple(parsed)

    def _check_config(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"--config {path} cannot be read: {error.strerror} (seen from {Path.cwd()}).") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"--config {path} is not a text in UTF-8: {one_line(error)}.") from error
        try:
            node = yaml.compose(text, yaml.SafeLoader)
            config = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"--config {path} is not YAML: {_describe(error)}.") from error
        if not isinstance(node, yaml.MappingNode):
            raise ValueError(
                f"--config {path} should hold lines like `max_steps: 100`, but holds {type(config).__name__} {config!r}."
            )
        twice = find_repeated([str(key.value) for key, _ in node.value])
        if twice:
            raise ValueError(f"--config {path} names {twice[0]!r} twice: remove one of them.")
        for action in self._actions:
            if config.get(action.dest) is not None:
                self._check_config_value(path, action, config[action.dest])

    def _check_config_value(self, path: Path, action: argparse.Action, value: Any) -> None:
        """Raises `ValueError` for a value that the command line would not take, as text, for this option."""
        if (action.type in (str, None) and action.choices is None) or action.nargs == "+":
            return  # texts, of which some stand for lists and mappings
        if isinstance(value, list | dict) and action.type not in (int, float, string_to_bool):
            return  # an option that may be unset, of any type otherwise
        if value is False and action.choices is not None and "no" in action.choices:
            return  # YAML's reading of `no`
        try:
            # Texts are the only values of a file that the parser converts by itself
            converted = self._get_value(action, str(value))
        except (argparse.ArgumentError, ValueError, TypeError) as error:
            reason = getattr(error, "message", None) or one_line(error)
            raise ValueError(f"--config {path}: {action.dest} is {value!r}: {reason}.") from error
        if action.choices is not None and value not in action.choices and converted not in action.choices:
            raise ValueError(
                f"--config {path}: {action.dest} is {value!r}, but must be one of {list(action.choices)}."
            )


def _declaring_class(of_type: type, field: str) -> type:
    """The class that a dataclass has a field from: itself, or the next of its parents that declares it."""
    return next(parent for parent in of_type.__mro__ if field in get_annotations(parent))


def _describe(error: Exception) -> str:
    """A YAML error with its line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or one_line(error)}"
