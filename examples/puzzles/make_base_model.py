# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Make a base model, such as `dial_base_model/`: a tiny Llama that can work a puzzle step by step, but mostly guesses.

    python examples/puzzles/make_base_model.py --task dial
    python examples/puzzles/make_base_model.py --task house
    python examples/puzzles/make_base_model.py --task weak_house

It stands for a pre-trained language model: it has read correct texts, sloppy texts and, more than anything else, texts
that say "I guess." and name some answer. It never reads a held-out puzzle. Everything is seeded. It takes some ten to
twenty minutes on one core. The weak house has read sloppier texts: most of the rationales that it writes are wrong.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast


sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from puzzles.common import Puzzle, draw_puzzle, is_correct, make_puzzles, write_answers
from puzzles.dial import DialPuzzle
from puzzles.house import ROOMS, HousePuzzle


EOS, PAD = "<|end_of_text|>", "<|pad|>"
GUESS = "I guess."


@dataclass(frozen=True)
class Texts:
    """What the base model of a kind of puzzle reads."""

    folder: str  # where the model goes
    kind: type[Puzzle]
    guess: Callable[[random.Random], str]  # any answer
    slip: Callable[[Any, random.Random], Any]  # a wrong state in place of the right one
    slip_rate: float  # of the steps of a sloppy text
    noise_rate: float  # of the final answers of correct and sloppy texts
    mix: tuple[float, float, float]  # shares of correct, sloppy and guessed texts
    vocab_size: int
    steps: int  # of training

    def correct(self, puzzle: Puzzle, rng: random.Random) -> str:
        return f"{puzzle.prompt} {puzzle.rationale} The answer is {self.noisy(puzzle.answer, rng)}."

    def sloppy(self, puzzle: Puzzle, rng: random.Random) -> str:
        """A slip gives a wrong state, from which the text then goes on."""
        sentences, state = [], puzzle.start
        for step in puzzle.steps:
            after = step.apply(state)
            if rng.random() < self.slip_rate:
                after = self.slip(after, rng)
            sentences.append(step.working(state, after))
            state = after
        return f"{puzzle.prompt} {' '.join(sentences)} The answer is {self.noisy(str(state), rng)}."

    def guessed(self, puzzle: Puzzle, rng: random.Random) -> str:
        return f"{puzzle.prompt} {GUESS} The answer is {self.guess(rng)}."

    def noisy(self, answer: str, rng: random.Random) -> str:
        return self.guess(rng) if rng.random() < self.noise_rate else answer

    def draw_text(self, rng: random.Random, first_part: bool) -> str:
        puzzle = draw_puzzle(self.kind, rng, held_out=False)
        if first_part:  # without it, training can get stuck before the model has learnt to copy operands
            return self.correct(puzzle, rng)
        (make_text,) = rng.choices((self.correct, self.sloppy, self.guessed), weights=self.mix)
        return make_text(puzzle, rng)


TASKS = {
    "dial": Texts(
        folder="dial_base_model",
        kind=DialPuzzle,
        guess=lambda rng: str(rng.randrange(10)),
        slip=lambda digit, rng: (digit + rng.randint(1, 9)) % 10,
        slip_rate=1 / 8,
        noise_rate=0.12,
        mix=(0.22, 0.22, 0.56),
        vocab_size=384,
        steps=2600,
    ),
    "house": Texts(
        folder="house_base_model",
        kind=HousePuzzle,
        guess=lambda rng: rng.choice(ROOMS),
        slip=lambda room, rng: rng.choice([other for other in ROOMS if other != room]),
        slip_rate=1 / 4,
        noise_rate=0.06,
        mix=(0.15, 0.30, 0.55),
        vocab_size=512,  # room for every word of the texts
        steps=2400,
    ),
}
TASKS["weak_house"] = replace(
    TASKS["house"], folder="weak_house_base_model", slip_rate=0.45, mix=(0.10, 0.35, 0.55), steps=2000
)


def make_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
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
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, model_max_length=128, padding_side="left"
    )


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def train_step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    optimizer: torch.optim.Optimizer,
    texts: list[str],
    rate: float,
) -> float:
    """One optimizer step on every token of the texts; their mean loss before it."""
    inputs = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    for group in optimizer.param_groups:
        group["lr"] = rate
    # Causal and padded on the right: no mask is needed
    logits = model(inputs["input_ids"], use_cache=False).logits[:, :-1]
    loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def report(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, puzzles: list[Puzzle]) -> str:
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
    parser.add_argument("--task", choices=list(TASKS), default="dial")
    parser.add_argument("--output_dir", type=Path, help="by default the task's folder beside this script")
    parser.add_argument("--steps", type=int, help="of training; by default those of the task")
    args = parser.parse_args()
    texts = TASKS[args.task]
    output_dir = args.output_dir or Path(__file__).parent / texts.folder
    steps = texts.steps if args.steps is None else args.steps

    torch.set_num_threads(1)  # so that sums do not depend on the number of cores
    torch.manual_seed(0)
    rng = random.Random(0)
    held_out = make_puzzles(texts.kind, 500, seed=0, held_out=True)
    tokenizer = make_tokenizer(
        [
            text(puzzle, rng)
            for puzzle in make_puzzles(texts.kind, 2000, seed=0, held_out=False)
            for text in (texts.correct, texts.guessed)
        ],
        texts.vocab_size,
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
    print(tokenizer.tokenize(texts.correct(held_out[0], rng)))

    optimizer = make_optimizer(model)
    start, losses = time.time(), []
    for step in range(steps):
        first_part = step < 0.4 * steps
        batch = [texts.draw_text(rng, first_part) + EOS for _ in range(64)]
        losses.append(train_step(model, tokenizer, optimizer, batch, learning_rate(step, steps, peak=2e-3)))
        if (step + 1) % 100 == 0:
            mean = sum(losses[-100:]) / 100
            print(f"step {step + 1:5d}  loss {mean:.4f}  {time.time() - start:4.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            print(report(model, tokenizer, held_out), flush=True)

    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


if __name__ == "__main__":
    main()
