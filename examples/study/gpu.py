# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What one GPU would add to the study, with greedy and sampled completions of all test questions.

    python examples/study/gpu.py                      # SmolLM2-135M-Instruct on GSM8K
    python examples/study/gpu.py --task mixed_math    # Qwen3-0.6B, which thinks, on GSM8K and MATH

SmolLM2, from PyPI, is fine-tuned on half of the training rationales; LaTRO, RLVR and SFT go on with the other half. Qwen3
is trained as it is, with the data, samples and steps of a public run; only by methods whose rationales it samples itself,
because SFT's rows have no block of thinking. Data are the Hub's, or those in `--dataset_path`. Each run leaves a file in
the output folder and is not made again. Not run yet, but for two steps of tiny models on a CPU.
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
from study.mixed_math_task import MixedMathTask
from study.pool import make_runs
from study.report import task_table
from study.run import Run, make_run, show
from study.task import StudyTask
from trl_latro.cli.common import saying_what_is_wrong
from trl_latro.loading import check_weights


MAIN = ("base", "sft_answer", "sft_gold", "rejection", "rlvr", "logprob", "jepo", "prob", "permuted")
METHODS_OF = {
    "gsm8k": list(METHODS),
    "mixed_math": [name for name, method in METHODS.items() if name == "base" or method.objective is not None],
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(METHODS_OF), default="gsm8k")
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parents[2] / "docs" / "study" / "gpu")
    parser.add_argument(
        "--dataset_path",
        help="folder with GSM8K's train.jsonl and test.jsonl; of mixed_math one with such folders gsm8k and math",
    )
    parser.add_argument(
        "--model_name_or_path", default=MixedMathTask.model_name_or_path, help="of mixed_math: a folder or the Hub's"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--test_questions", type=int, help="fewer for a quick look")
    parser.add_argument("--warm_start_steps", type=int, default=GSM8KTask.warm_start_steps, help="of gsm8k")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; --device cpu is slow.")
    of_both = {"device": args.device, "dataset_path": args.dataset_path}
    task: StudyTask
    if args.task == "gsm8k":
        task = GSM8KTask(**of_both, warm_start_steps=args.warm_start_steps)
    else:
        task = MixedMathTask(**of_both, model_name_or_path=args.model_name_or_path)
    steps = task.steps if args.steps is None else args.steps
    questions = task.test_questions if args.test_questions is None else args.test_questions
    if min(steps, args.warm_start_steps) < 1 or not 1 <= questions <= task.test_questions:
        parser.error(
            f"--steps ({steps}) and --warm_start_steps ({args.warm_start_steps}) must be at least 1, and "
            f"--test_questions ({questions}) from 1 to {task.test_questions}."
        )
    possible = METHODS_OF[args.task]
    methods = args.methods or [method for method in MAIN if method in possible]
    if not set(methods) <= set(possible):
        parser.error(f"--methods {' '.join(methods)}: those of {args.task} are {' '.join(possible)}.")
    if args.task == "mixed_math":
        check_weights(args.model_name_or_path)

    runs = [Run(args.task, method, seed, steps, questions) for seed in args.seeds for method in methods]
    make_runs(runs, args.output_dir, 1, partial(make_run, task), show)
    print("\n".join(task_table(runs_of(args.task, args.output_dir))))


if __name__ == "__main__":
    with saying_what_is_wrong("gpu.py"):
        main()
