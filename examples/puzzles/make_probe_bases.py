# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Make the two bases of docs/probe.md that are not in the repository, from those that are, in some minutes:

    python examples/puzzles/make_probe_bases.py --base weak_dial --output_dir weak_dial

The weak dial writes more wrong rationales than the dial, the wordy house never guesses and is mostly wrong.
"""

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from puzzles.common import make_puzzles
from puzzles.make_base_model import EOS, TASKS, make_optimizer, report, train_step


BASES = {
    "weak_dial": replace(TASKS["dial"], slip_rate=0.40, mix=(0.10, 0.35, 0.55)),
    "wordy_house": replace(TASKS["house"], slip_rate=0.45, mix=(0.20, 0.80, 0.0)),
}
STEPS, LEARNING_RATE, WARMUP = 250, 1e-3, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=list(BASES), required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    texts = BASES[args.base]
    start = Path(__file__).parent / texts.folder

    torch.set_num_threads(1)  # so that sums do not depend on the number of cores
    torch.manual_seed(0)
    rng = random.Random(0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(start), AutoTokenizer.from_pretrained(start)
    optimizer = make_optimizer(model)
    for step in range(STEPS):
        batch = [texts.draw_text(rng, first_part=False) + EOS for _ in range(64)]
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (1 - step / STEPS) + LEARNING_RATE / 100
        train_step(model, tokenizer, optimizer, batch, rate)
    print(report(model, tokenizer, make_puzzles(texts.kind, 300, 0, held_out=True)))
    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
