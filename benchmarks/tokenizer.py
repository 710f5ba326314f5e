# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A byte-level tokenizer that fills a vocabulary of any size, built in memory."""

import json
import random
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trl_latro.answer_template import AnswerTemplate


# Letters that the stop string does not have: in a text of these, every letter is one token.
LETTERS = "bcdfgjklmopquvxyz"
ANSWER_TEMPLATE = "The answer is {answer}."
STOP = " The answer is"


def build_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """
    The bytes, " The", " answer" and " is" as one token each (so that an answer has about as many tokens as with a real
    tokenizer), an EOS and a padding token, and fillers "~0", "~1", ... up to `vocab_size`. Fillers can be decoded but no
    text is encoded to them: rationales are made of them.
    """
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    learned.train_from_iterator([STOP], trainer)
    model: dict[str, Any] = json.loads(learned.to_str())["model"]
    vocab = dict(model["vocab"])
    for filler in range(vocab_size - len(vocab) - 2):  # two for the special tokens
        vocab[f"~{filler}"] = len(vocab)
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = learned.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|eos|>", pad_token="<|pad|>", clean_up_tokenization_spaces=False
    )


def filler_ids(tokenizer: PreTrainedTokenizerFast) -> range:
    first = tokenizer.convert_tokens_to_ids("~0")
    return range(first, len(tokenizer) - 2)


def stop_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return tokenizer(STOP, add_special_tokens=False)["input_ids"]


def answer_text(answer: str) -> str:
    """What follows a rationale."""
    return " " + AnswerTemplate(ANSWER_TEMPLATE).fill(answer)


def random_text(generator: random.Random, tokens: int) -> str:
    return "".join(generator.choices(LETTERS, k=tokens))
