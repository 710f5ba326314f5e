# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A short training of a real model on GSM8K, evaluated before and after, by `trl-latro train` and `evaluate`. Its evaluations
and checkpoints are in a folder beside the result, where a stopped run continues:

    python benchmarks/gsm8k.py --model SmolLM2-135M-Instruct --output smollm2-gsm8k.json
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from machine import describe, write_result
from trl_latro.durability.checkpoints import STATE_FILE, is_whole, list_checkpoints
from trl_latro.evaluation.comparison import compare


MICRO_BATCH = 64
SETTINGS = ("steps", "prompts", "generations", "rationale_tokens", "questions", "learning_rate")
LOGGED = ("step", "reward", "completions/mean_length", "step_time")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model, or its name on the Hub")
    parser.add_argument(
        "--dataset-path", help="folder with GSM8K's train.jsonl and test.jsonl; the Hub's if not given"
    )
    parser.add_argument("--output", type=Path, required=True, help="file of the result")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="%(default)s")
    parser.add_argument("--steps", type=int, default=40, help="of the training: %(default)s")
    parser.add_argument("--prompts", type=int, default=16, help="per step: %(default)s")
    parser.add_argument("--generations", type=int, default=8, help="samples per prompt: %(default)s")
    parser.add_argument("--rationale-tokens", type=int, default=200, help="longest rationale: %(default)s")
    parser.add_argument("--questions", type=int, default=300, help="of the evaluations: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=2e-6, help="%(default)s")
    return parser


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    samples = args.prompts * args.generations
    if samples < 1 or samples % min(MICRO_BATCH, samples) != 0:
        parser.error(
            f"--prompts x --generations, {samples}, must be a multiple of {MICRO_BATCH}, or 1 to {MICRO_BATCH}."
        )
    folder = args.output.with_suffix("")
    trained = folder / "training" / f"checkpoint-{args.steps}"
    evaluate(args, args.model, folder / "before")
    if not is_whole(trained):
        train(args, trained.parent)
    evaluate(args, str(trained), folder / "after")
    history = json.loads((trained / STATE_FILE).read_text())["log_history"]
    result = {
        "shape": Path(args.model).name,
        "mode": "gsm8k",
        "device": args.device,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "settings": {name: getattr(args, name) for name in SETTINGS},
        **describe(torch.device(args.device)),
        "differences": {
            name: {"before": before, "after": after, "change": change._asdict()}
            for name, (before, after, change) in compare(folder / "before", folder / "after").items()
        },
        "log": [{name: entry[name] for name in LOGGED} for entry in history if "reward" in entry],
    }
    write_result(args.output, result)


def evaluate(args: argparse.Namespace, model: str, folder: Path) -> None:
    run(
        args,
        "evaluate",
        {
            "model_name_or_path": model,
            "output_dir": folder,
            "max_questions": args.questions,
            "max_completion_length": args.rationale_tokens,
            "num_samples": 2,
            "batch_size": 512,
        },
    )


def train(args: argparse.Namespace, folder: Path) -> None:
    samples = args.prompts * args.generations
    micro_batch = min(MICRO_BATCH, samples)
    settings = {
        "model_name_or_path": args.model,
        "output_dir": folder,
        "dtype": "float32",  # masters for the autocast in bfloat16
        "num_generations": args.generations,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": samples // micro_batch,
        "max_completion_length": args.rationale_tokens,
        "learning_rate": args.learning_rate,
        "max_steps": args.steps,
        "validation_size": 0,
        "logging_steps": 1,
        "save_steps": 10,
        "save_total_limit": 1,
        "report_to": "none",
    }
    if list_checkpoints(folder):
        settings["resume_from_checkpoint"] = "last"
    run(args, "train", settings)


def run(args: argparse.Namespace, command: str, settings: dict[str, Any]) -> None:
    settings = {"task": "gsm8k", **settings}
    if args.dataset_path is not None:
        settings["dataset_path"] = args.dataset_path
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if args.device == "cpu" else {})
    done = subprocess.run([sys.executable, "-m", "trl_latro", command, *options], env=environment)
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why


if __name__ == "__main__":
    main()
