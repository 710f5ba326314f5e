# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Tiny tokenizers, models and datasets for the tests: built in memory in milliseconds, without a network."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)


EOS, PAD, UNK = "<|eos|>", "<|pad|>", "<|unk|>"
USER, ASSISTANT, END_OF_TURN = "<|user|>", "<|assistant|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TEXT = [
    "Let's think step by step. There are 12 apples, and she eats 3 of them. 12 - 3 = 9. The answer is 9.",
    "First, double it: 2 * 7 = 14. Then add 5.\nThe answer is 19.",
    "So the answer is not known yet.\n\nThe answer is: 4. I guess.",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0 1 2 3 4 5 6 7 8 9 . , : ; ! ? ' \" ( ) + - * / =",
]


def byte_level_tokenizer(
    num_merges: int = 0, add_prefix_space: bool = False, pad_is_eos: bool = False, chat: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE (GPT-2, Llama-3, Qwen). `num_merges=0` makes every byte one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + num_merges, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return _wrap(tokenizer, pad_is_eos=pad_is_eos, chat=chat)


def sentencepiece_tokenizer(
    prepend: Literal["normalizer", "metaspace"] = "normalizer", pad_is_eos: bool = False, chat: bool = False
) -> PreTrainedTokenizerFast:
    """
    BPE over "▁" for spaces with byte tokens for what is not in the vocabulary. It puts a space before every text:
    by a normaliser, even if there is one already (Llama-2), or by its pre-tokenizer, unless there is one (Mistral).
    Its decoder takes one space off the start.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    # Without line breaks, which in Llama-2 and Mistral are byte tokens.
    texts = [text.replace("\n", " ") for text in TEXT]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=160, show_progress=False, min_frequency=1))
    # The byte tokens are ordinary tokens: made after the training, because the trainer would make them special.
    vocab = {UNK: 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}}
    for token in sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__):
        vocab[token] = len(vocab)
    merges = _merges(tokenizer)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token=UNK, fuse_unk=True))
    if prepend == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrap(tokenizer, pad_is_eos=pad_is_eos, chat=chat)


def wordpiece_tokenizer(
    lowercase: bool = False, pad_is_eos: bool = False, chat: bool = False
) -> PreTrainedTokenizerFast:
    """Words and "##" pieces (BERT): white space is lost, and with `lowercase` the case is too."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNK))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    letters = "".join(sorted({character for text in TEXT for character in text if not character.isspace()}))
    trainer = trainers.WordPieceTrainer(
        vocab_size=260, special_tokens=[UNK], initial_alphabet=list(letters), show_progress=False, min_frequency=1
    )
    # The last word makes every letter and digit a following piece too, so that any word over them can be written.
    last = "z" + "".join(letter for letter in reversed(letters) if letter.isalnum())
    tokenizer.train_from_iterator([*TEXT, " ".join(letters), last], trainer)
    return _wrap(tokenizer, pad_is_eos=pad_is_eos, chat=chat)


def tiny_model(
    tokenizer: PreTrainedTokenizerFast,
    kind: Literal["qwen2", "qwen3", "llama", "mistral", "phi3", "gemma3", "gpt2"] = "qwen2",
    seed: int = 0,
    **overrides: Any,
) -> PreTrainedModel:
    """
    A float32 model with 16 hidden units and 2 layers, the same for the same `seed`. Its weights are large enough for
    distributions that are far from uniform. `overrides` go to the config.
    """
    end_tokens = [tokenizer.eos_token_id]
    if tokenizer.chat_template is not None:
        end_tokens.append(tokenizer.convert_tokens_to_ids(END_OF_TURN))
    common = {
        "vocab_size": len(tokenizer),
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": end_tokens if len(end_tokens) > 1 else end_tokens[0],
        "pad_token_id": tokenizer.pad_token_id,
    }
    rotary = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
    }
    gemma = {
        "head_dim": 8,
        "query_pre_attn_scalar": 4,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": True,
    }
    absolute = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}
    config_class, model_class, sizes = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM, rotary),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM, rotary | {"head_dim": 8}),
        "llama": (LlamaConfig, LlamaForCausalLM, rotary),
        "mistral": (MistralConfig, MistralForCausalLM, rotary),
        "phi3": (Phi3Config, Phi3ForCausalLM, rotary),
        "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, rotary | gemma),
        "gpt2": (GPT2Config, GPT2LMHeadModel, absolute),
    }[kind]
    config = config_class(**{**common, **sizes, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config).float()
    return model.eval()


def save_model(
    tokenizer: PreTrainedTokenizerFast,
    path: str | Path,
    kind: Literal["llama", "mistral", "phi3", "gpt2"] = "llama",
    seed: int = 0,
    **overrides: Any,
) -> str:
    """
    Writes a tiny model and its tokenizer to `path`, and returns the path as text. Not for "qwen2": `AutoTokenizer`
    gives every model of that type Qwen's own splitting of words, and so other tokens than `tokenizer` does.
    """
    tiny_model(tokenizer, kind=kind, seed=seed, **overrides).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file of a model or tokenizer, without the version of transformers that wrote it."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "transformers_version"}


def tiny_dataset(num_rows: int = 8, conversational: bool = False, several_answers: bool = False) -> Dataset:
    """
    Additions with prompts and answers of mixed lengths, the same at every call; with `several_answers` of one to three
    each.
    """
    rows = []
    for index in range(num_rows):
        left, right = 7 * index + 1, (37 * index) % 101
        question = f"What is {left} + {right}?" + " Think." * (index % 3)
        prompt = [{"role": "user", "content": question}] if conversational else f"{question}\n"
        answer = str(left + right) if index % 2 == 0 else f"{left + right} ({left} and {right})"
        answers = [answer, f"{left} + {right}", "not known"][: 1 + index % 3]
        rows.append({"prompt": prompt, "answer": answers if several_answers else answer})
    return Dataset.from_list(rows)


def _wrap(tokenizer: Tokenizer, pad_is_eos: bool, chat: bool) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS if pad_is_eos else PAD,
        clean_up_tokenization_spaces=False,
    )
    if chat:
        wrapped.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT, END_OF_TURN]})
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
