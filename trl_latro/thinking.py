# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Models that think in a block of their own before they answer: `<think> ... </think>` and its like.

The rule: a rationale is what is thought. A stop string inside an open block does not end it, the end of the block does; the
text that is scored closes the block before the answer; and a block that is never closed leaves the rationale unfinished.
"""

import functools
import logging
import os
import re
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

# Tags that chat templates write, by what the models with them call them
_KNOWN_TAGS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1, SmolLM3, Phi-4-reasoning
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
)
# What else shows that a chat template belongs to a model that thinks
_SIGN_OF_THINKING = re.compile(r"enable_thinking|reasoning_content|reasoning_effort|\.thinking\b|\bthinking is ")

_QUESTION, _REASONING, _ANSWER = "latro question", "latro reasoning", "latro answer"


@dataclass(frozen=True)
class Thinking:
    """
    How a block of thinking is written.

    Args:
        opening (`str`, *optional*, defaults to `"<think>"`):
            Tag that opens it.
        closing (`str`, *optional*, defaults to `"</think>"`):
            Tag that closes it.
        after_opening (`str`, *optional*, defaults to `"\\n"`):
            White space behind the opening tag.
        before_closing (`str`, *optional*, defaults to `"\\n"`):
            White space before the closing tag.
        after_closing (`str`, *optional*, defaults to `"\\n\\n"`):
            White space between the closing tag and the answer.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    after_opening: str = "\n"
    before_closing: str = "\n"
    after_closing: str = "\n\n"

    def open(self, is_open: bool) -> str:
        """What has to come before a rationale: the beginning of a block, unless one is open."""
        return "" if is_open else self.opening + self.after_opening

    def close(self, rationale: str) -> str:
        """What has to come between a rationale in an open block and the answer."""
        before = "" if rationale.endswith(self.before_closing) else self.before_closing
        return before + self.closing + self.after_closing

    def is_open_after(self, prompt_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
        """
        Whether a completion of the prompt begins inside a block: the chat template has opened one, or a message of the
        assistant that is to be continued. What stands before the last special token is another message.
        """
        tags = tokenizer.encode(self.opening + self.closing, add_special_tokens=False)
        special = set(tokenizer.all_special_ids) - set(tags)
        start = next((i + 1 for i in reversed(range(len(prompt_ids))) if prompt_ids[i] in special), 0)
        text = str(tokenizer.decode(prompt_ids[start:], skip_special_tokens=False))
        return text.rfind(self.opening) > text.rfind(self.closing)


def find_thinking(
    tokenizer: PreTrainedTokenizerBase,
    conversational: bool,
    chat_template_kwargs: dict[str, Any],
    thinking_tags: list[str] | None,
) -> Thinking | None:
    """
    How the model of a tokenizer writes its thinking.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer, with or without a chat template.
        conversational (`bool`):
            Whether prompts are messages, so that they go through the chat template.
        chat_template_kwargs (`dict[str, Any]`):
            Keyword arguments for the chat template.
        thinking_tags (`list[str]`, *optional*):
            The two tags; an empty list for a model that does not think. If `None`, what the chat template says.

    Returns:
        [`Thinking`], *optional*: `None` for a model that does not think, and where the chat template closes the block at
        once, so that thinking is off.

    Raises:
        `ValueError`: the chat template belongs to a model that thinks, but does not say between which tags.
    """
    if not conversational or tokenizer.chat_template is None:
        return Thinking(*thinking_tags) if thinking_tags else None
    tags = _tags_of_template(tokenizer) if thinking_tags is None else tuple(thinking_tags)
    if not tags:
        return None
    thinking = _with_white_space(Thinking(*tags), tokenizer, chat_template_kwargs)
    begun = _render(tokenizer, [], chat_template_kwargs, add_generation_prompt=True).rpartition(_QUESTION)[2]
    if 0 <= begun.rfind(thinking.opening) < begun.rfind(thinking.closing):
        _say_once(
            f"Thinking is off: the chat template closes {' '.join(tags)} at once. The rationale is the visible text."
        )
        return None
    _say_once(
        f"The model thinks between {' and '.join(tags)}: that is the rationale, and the answer comes behind it. Where that "
        "is wrong, set `thinking_tags`, to an empty list for a model that does not think."
    )
    return thinking


@functools.cache
def _say_once(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message)


def check_thinking_tags(thinking_tags: Any) -> None:
    """
    Raises:
        `ValueError`: neither `None`, nor an empty list, nor two different texts.
    """
    if thinking_tags is None or thinking_tags == []:
        return
    if (
        not isinstance(thinking_tags, list | tuple)
        or len(thinking_tags) != 2
        or not all(isinstance(tag, str) and tag.strip() for tag in thinking_tags)
        or thinking_tags[0] == thinking_tags[1]
    ):
        raise ValueError(
            f"`thinking_tags` is {thinking_tags!r}, but must be two different texts, as in ['<think>', '</think>'], or an "
            "empty list for a model that does not think."
        )


def _tags_of_template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    template = tokenizer.get_chat_template()
    found = [tags for tags in _KNOWN_TAGS if tags[1] in template]
    if len(found) == 1:
        return found[0]
    if not found and not _SIGN_OF_THINKING.search(template):
        return ()
    seen = f"has {' and '.join(map(repr, found))}" if found else f"has {_SIGN_OF_THINKING.search(template)[0]!r}"  # type: ignore[index]
    raise ValueError(
        f"The chat template {seen}, so the model may think before it answers, but not between which tags: set "
        "`thinking_tags` to the two, as in ['<think>', '</think>'], or to an empty list for a model that does not think."
    )


def _with_white_space(
    thinking: Thinking, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict[str, Any]
) -> Thinking:
    """With the white space that the chat template writes around the tags, where it writes a message with a block at all."""
    opening, closing = thinking.opening, thinking.closing
    for message in (
        {"content": _ANSWER, "reasoning_content": _REASONING},
        {"content": f"{thinking.open(False)}{_REASONING}{thinking.close(_REASONING)}{_ANSWER}"},
    ):
        text = _render(tokenizer, [{"role": "assistant", **message}], chat_template_kwargs)
        block = re.search(
            rf"{re.escape(opening)}(\s*){_REASONING}(\s*){re.escape(closing)}(\s*){_ANSWER}",
            text.rpartition(_QUESTION)[2],
        )
        if block is not None:
            return Thinking(opening, closing, *block.groups())
    return thinking


def _render(
    tokenizer: PreTrainedTokenizerBase,
    answer: list[dict[str, str]],
    chat_template_kwargs: dict[str, Any],
    **kwargs: bool,
) -> str:
    messages = [{"role": "user", "content": _QUESTION}, *answer]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **kwargs, **chat_template_kwargs))
