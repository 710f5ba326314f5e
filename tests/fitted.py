# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""A tiny model that has learnt to write additions: rationales that end, in few words, with answers that are often wrong."""

from pathlib import Path

import torch
from datasets import Dataset
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast

from tiny import byte_level_tokenizer, tiny_model


ROWS = [
    {
        "prompt": f"What is {a} + {b}?",
        "answer": str(a + b),
        "rationale": f"{a} plus {b} makes {a + b}." + " Yes." * (a - 1),
    }
    for a in range(1, 4)
    for b in range(1, 4)
]
QUESTIONS = Dataset.from_list(ROWS)

# Head size and widths that the kernels of vLLM on CPU and of bitsandbytes take
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "initializer_range": 0.05,
}


def save_fitted_model(path: Path) -> PreTrainedTokenizerFast:
    """Fit the model in a second and save it with its tokenizer and with settings that no evaluation may follow."""
    tokenizer = byte_level_tokenizer(num_merges=120)
    model = tiny_model(tokenizer, "llama", **SIZES)
    rows = [
        tokenizer(f"{row['prompt']}\n{row['rationale']} The answer is {row['answer']}.")["input_ids"]
        + [tokenizer.eos_token_id]
        for row in ROWS
    ]
    width = max(map(len, rows))
    input_ids = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in rows])  # (B, T)
    labels = input_ids.masked_fill(torch.arange(width) >= torch.tensor([[len(ids)] for ids in rows]), -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(input_ids=input_ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.1, top_k=2, repetition_penalty=3.0, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return tokenizer


@torch.no_grad()
def policy_logps(model: nn.Module, prompt: list[int], rationale: list[int]) -> list[float]:
    """Log-prob of each token of a rationale, by a forward of its own."""
    logps = model(torch.tensor([prompt + rationale])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logps.gather(1, torch.tensor(rationale, dtype=torch.long)[:, None])[:, 0].tolist()
