# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Tokenizers of every kind, and what a model may sample with them, for property tests."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import tiny


TOKENIZERS = {
    "bytes": tiny.byte_level_tokenizer(chat=True),
    "byte-level": tiny.byte_level_tokenizer(num_merges=80, chat=True),
    "byte-level, prefix space": tiny.byte_level_tokenizer(num_merges=80, add_prefix_space=True, chat=True),
    "byte-level, pad is eos": tiny.byte_level_tokenizer(num_merges=80, pad_is_eos=True, chat=True),
    "llama-2": tiny.sentencepiece_tokenizer("normalizer", chat=True),
    "mistral": tiny.sentencepiece_tokenizer("metaspace", pad_is_eos=True, chat=True),
    "wordpiece": tiny.wordpiece_tokenizer(chat=True),
    "wordpiece, lower case": tiny.wordpiece_tokenizer(lowercase=True, chat=True),
}
# Without limits on time, which say more about the machine than about the code.
property_test = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())

# Ends inside a token, begins inside a character's bytes, ends in one, begins with a space, contains another one.
STOP_STRINGS = ["The answer is", "the answer", " é", "日本", "\n\n", "answ", "12", "😀"]

pieces = st.lists(
    st.sampled_from(
        [
            *STOP_STRINGS,
            "The",
            " The ans",
            "wer is",
            " ",
            "  ",
            "\n",
            "\t",
            "日",
            "é",
            "e\u0301",
            "1",
            "<|end|>",
            "<|eos|>",
        ]
    )
    | st.text(max_size=4)
).map("".join)


def random_ids(tokenizer: PreTrainedTokenizerFast) -> st.SearchStrategy[list[int]]:
    """What a model may sample: text, any tokens (often invalid UTF-8), and both in turn."""
    tokens = st.lists(st.integers(0, len(tokenizer) - 1), max_size=4)
    text = pieces.map(lambda piece: tokenizer.encode(piece, add_special_tokens=False))
    return st.lists(tokens | text, max_size=5).map(lambda parts: [token for part in parts for token in part])


def end_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(tiny.END_OF_TURN)]


def text_in_row(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text that tokens add to a row behind its prompt."""
    prompt = tokenizer.encode("Question", add_special_tokens=False)
    return tokenizer.decode(prompt + ids)[len(tokenizer.decode(prompt)) :]


def ids_of(tokenizer: PreTrainedTokenizerFast, tokens: list[str]) -> list[int]:
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert None not in ids, f"the vocabulary lacks one of {tokens}"
    return ids
