# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Make `base_model/`: a tiny Llama that can work a dial puzzle step by step, but mostly guesses.

    python examples/puzzle/make_base_model.py

It stands for a pre-trained language model: it has read correct texts, sloppy texts and, more than anything else, texts
that say "I guess." and name some digit. It never reads a held-out puzzle. Everything is seeded. It takes some ten to
twenty minutes on one core.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from puzzle import Puzzle, draw_puzzle, is_correct, make_puzzles, write_answers


END, PAD = "<|end_of_text|>", "<|pad|>"
GUESS = "I guess."
SLIP_RATE = 1 / 8  # of the steps of a sloppy text
NOISE_RATE = 0.12  # of the final answers of all texts


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which a digit, with the space before it, is always a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" ?[0-9]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=128, padding_side="left"
    )


def correct_text(puzzle: Puzzle, rng: random.Random) -> str:
    return f"{puzzle.prompt} {puzzle.rationale} The answer is {noisy(puzzle.answer, rng)}."


def sloppy_text(puzzle: Puzzle, rng: random.Random) -> str:
    """A slip gives a wrong digit, from which the text then goes on."""
    sentences, digit = [], puzzle.start
    for step in puzzle.steps:
        after = step.apply(digit)
        if rng.random() < SLIP_RATE:
            after = (after + rng.randint(1, 9)) % 10
        sentences.append(step.working(digit, after))
        digit = after
    return f"{puzzle.prompt} {' '.join(sentences)} The answer is {noisy(str(digit), rng)}."


def guessed_text(puzzle: Puzzle, rng: random.Random) -> str:
    return f"{puzzle.prompt} {GUESS} The answer is {rng.randrange(10)}."


def noisy(answer: str, rng: random.Random) -> str:
    return str(rng.randrange(10)) if rng.random() < NOISE_RATE else answer


def draw_text(puzzle: Puzzle, rng: random.Random, first_part: bool) -> str:
    if first_part:  # without it, training can get stuck before the model has learnt to copy operands
        return correct_text(puzzle, rng)
    kind = rng.choices((correct_text, sloppy_text, guessed_text), weights=(0.22, 0.22, 0.56))[0]
    return kind(puzzle, rng)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def report(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, puzzles: list[Puzzle]) -> str:
    greedy = write_answers(model, tokenizer, puzzles, sample=False)
    samples = write_answers(model, tokenizer, puzzles, sample=True)
    accuracy = [
        sum(is_correct(text, p.answer) for text, p in zip(texts, puzzles, strict=True)) / len(puzzles)
        for texts in (greedy, samples)
    ]
    written = [(t, p) for t, p in zip(samples, puzzles, strict=True) if GUESS not in t]
    right = sum(t.strip().startswith(f"{p.rationale} The answer is") for t, p in written)
    return (
        f"held-out accuracy: greedy {accuracy[0]:.1%}, samples {accuracy[1]:.1%}; of the samples "
        f"{1 - len(written) / len(puzzles):.1%} guess, and of the {len(written)} written rationales "
        f"{right / max(len(written), 1):.1%} are right"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent / "base_model")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)  # so that sums do not depend on the number of cores
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    held_out = make_puzzles(500, seed=args.seed, held_out=True)
    tokenizer = make_tokenizer(
        [text(p, rng) for p in make_puzzles(2000, args.seed, held_out=False) for text in (correct_text, guessed_text)]
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    print(tokenizer.tokenize(correct_text(held_out[0], rng)))

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    start, losses = time.time(), []
    for step in range(args.steps):
        first_part = step < 0.4 * args.steps
        batch = [draw_text(draw_puzzle(rng, held_out=False), rng, first_part) + END for _ in range(64)]
        inputs = tokenizer(batch, padding=True, padding_side="right", return_tensors="pt")
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, peak=2e-3)
        logits = model(inputs["input_ids"], use_cache=False).logits[
            :, :-1
        ]  # causal and padded on the right: no mask is needed
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            mean = sum(losses[-100:]) / 100
            print(f"step {step + 1:5d}  loss {mean:.4f}  {time.time() - start:4.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == args.steps:
            print(report(model, tokenizer, held_out), flush=True)

    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
