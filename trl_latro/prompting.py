# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
How a model was prompted in its training: a file beside the weights, which evaluation and resuming go by.

A model that was trained to write "#### 7" is no worse for being asked for "The answer is 7.", it is only asked for something
else. So the settings that decide what it is asked, and what it is expected to write, travel with it.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .answer_template import AnswerTemplate
from .loading import read_json_object, reading_model


logger = logging.getLogger(__name__)

PROMPTING_FILE = "latro_prompting.json"

# Settings by their names in the config and on the command line, with the types of their values
_OF_TRAINER: dict[str, Any] = {
    "answer_template": str,
    "answer_separator": str,
    "rationale_stop_strings": list | None,
    "chat_template_kwargs": dict | None,
    "thinking_tags": list | None,
}
# The command line knows them. A trainer in Python gets the prompts as they are
_OF_QUESTIONS: dict[str, Any] = {"prompt_template": str, "num_shots": int}
_TYPES = _OF_TRAINER | _OF_QUESTIONS

# What holds where a setting is unset
_UNSET = {
    "rationale_stop_strings": "the answer template's beginning",
    "chat_template_kwargs": "unset",
    "thinking_tags": "what the chat template says",
}


def find_prompting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    What of a trainer's or an evaluation's settings says how the model is prompted.

    Args:
        settings (`Mapping[str, Any]`):
            Settings by their names, and any others. `answer_template` and `answer_separator` are there; what is not is unset.

    Returns:
        `dict[str, Any]`: those of the model, in one form: stop strings that follow from the answer template are unset, so
        that they follow from another template too.

    Raises:
        `ValueError`: keyword arguments for the chat template that a JSON file cannot hold.
    """
    prompting = {name: settings.get(name) for name in _OF_TRAINER}
    if prompting["rationale_stop_strings"] == AnswerTemplate(settings["answer_template"]).stop_strings:
        prompting["rationale_stop_strings"] = None
    prompting["chat_template_kwargs"] = prompting["chat_template_kwargs"] or None
    try:
        return dict(json.loads(json.dumps(prompting)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`chat_template_kwargs` is {prompting['chat_template_kwargs']!r}, but must be something that a JSON file can hold "
            f"({error}): it is saved beside the weights. Functions for the chat template can be given as JSON schemas."
        ) from error


def write_prompting(folder: str | Path, prompting: dict[str, Any]) -> None:
    """Write the file into the folder of a model, which is made if need be."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(prompting, indent=2, ensure_ascii=False)
    (Path(folder) / PROMPTING_FILE).write_text(f"{text}\n", encoding="utf-8")


def read_prompting(folder: str | Path) -> dict[str, Any] | None:
    """
    How the model, adapter or checkpoint in a folder was prompted.

    Args:
        folder (`str` or `Path`):
            The folder.

    Returns:
        `dict[str, Any]`, *optional*: settings by their names; `None` where there is no such file, as with a model that was
        not trained here.

    Raises:
        `ValueError`: the file is broken.
    """
    path = Path(folder) / PROMPTING_FILE
    if not path.is_file():
        return None
    content = read_json_object(path)
    for name, value in content.items():
        if name not in _TYPES:
            raise ValueError(
                f"{path} has {name!r}, which this version of trl_latro does not know: the model was trained with another "
                "version. Install that one."
            )
        if not isinstance(value, _TYPES[name]):
            raise ValueError(
                f"{path} says that {name} is {value!r}, which cannot be: copy the file once more, or remove it and set the "
                "options yourself."
            )
    return content


def read_model_prompting(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """
    How a model or adapter was prompted, in a folder or on the Hub; see [`read_prompting`].

    Args:
        name (`str`):
            Folder, or name on the Hub.
        revision (`str`, *optional*):
            Revision on the Hub.

    Raises:
        `ValueError`: no such model, or the file is broken.
    """
    if os.path.isdir(name):
        return read_prompting(name)
    with reading_model(name, "the model"):
        try:
            path = hf_hub_download(name, PROMPTING_FILE, revision=revision)
        except LocalEntryNotFoundError:
            known = try_to_load_from_cache(name, PROMPTING_FILE, revision=revision) is _CACHED_NO_EXIST
            if not known and os.environ.get("RANK", "0") == "0":
                logger.warning(
                    "%s: whether it has a %s, which says how it was prompted in its training, is not known: the Hugging Face "
                    "Hub is not reached, and its cache has none.",
                    name,
                    PROMPTING_FILE,
                )
            return None
        except EntryNotFoundError:
            return None
    return read_prompting(Path(path).parent)


def in_words(prompting: Mapping[str, Any]) -> dict[str, str]:
    """Each setting's value, as JSON or what holds where it is unset."""
    return {
        name: _UNSET[name] if value is None else json.dumps(value, ensure_ascii=False)
        for name, value in prompting.items()
    }


def find_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Settings in which two differ, of those that both have: name, value of the one, value of the other, in words."""
    differing = [name for name in _TYPES if name in one and name in other and one[name] != other[name]]
    first, second = (in_words({name: settings[name] for name in differing}) for settings in (one, other))
    return [(name, first[name], second[name]) for name in differing]
