# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Measure one mode and write its result file:

    python benchmarks/run.py --shape tiny --mode training
    python benchmarks/run.py --shape llama-3.1-8b --mode training --lora --rationale-tokens 512
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any


# Before torch and transformers are imported: nothing here needs the Hub, and TRL's trainers refuse a second visible GPU
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import torch
from trl.import_utils import is_vllm_available

from contenders import CONTENDERS
from machine import describe, name_of_device, quiet, write_result
from modes import MODES, Settings
from rows import Lengths
from shapes import SHAPES, body_to_head


RESULTS = Path(__file__).parent / "results"
# Not in the name of a result
UNNAMED = ("shape", "mode", "device", "rounds", "steps", "output")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, required=True, help="model; its weights are random")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s"
    )
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="all of them")
    parser.add_argument("--prompts", type=int, help="per step: 1, and 4 in rollout and colocate; 60 in evaluation")
    parser.add_argument("--generations", type=int, default=16, help="K, samples per prompt: %(default)s")
    parser.add_argument("--micro-batch", type=int, default=16, help="samples per forward: %(default)s")
    parser.add_argument("--prompt-tokens", type=int, help="length of every prompt; as in GSM8K if not given")
    parser.add_argument("--rationale-tokens", type=int, help="length of every rationale; as in GSM8K if not given")
    parser.add_argument("--beta", type=float, default=0.05, help="weight of the KL: %(default)s")
    parser.add_argument("--lora", action="store_true", help="train an adapter of rank 16 instead of all weights")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender: %(default)s")
    parser.add_argument("--steps", type=int, default=2, help="counted per turn, after one warm-up: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result file")
    return parser


def main(arguments: list[str] | None = None) -> Path:
    parser = make_parser()
    args = parser.parse_args(arguments)
    for name in ("prompts", "generations", "micro_batch", "prompt_tokens", "rationale_tokens", "rounds", "steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
    if args.mode in ("rollout", "evaluation") and args.rationale_tokens is not None:
        parser.error(
            f"--rationale-tokens does not go with --mode {args.mode}, where the model draws the lengths itself."
        )
    if args.mode == "colocate" and not is_vllm_available():
        parser.error("--mode colocate needs vLLM, which is not installed: `pip install '.[vllm]'`.")
    quiet()
    shape, device = SHAPES[args.shape], torch.device(args.device)
    lengths = Lengths(args.prompt_tokens, args.rationale_tokens)
    if args.mode == "scaling":
        lengths = lengths.all_the_same()  # or more samples would also be longer ones
    settings = Settings(
        shape=shape,
        device=device,
        contenders=tuple(args.contenders),
        prompts=args.prompts or {"rollout": 4, "colocate": 4, "evaluation": 60}.get(args.mode, 1),
        num_generations=args.generations,
        micro_batch=args.micro_batch,
        lengths=lengths,
        beta=args.beta,
        lora=args.lora,
        rounds=args.rounds,
        steps=args.steps,
    )
    began = time.time()
    metrics = MODES[args.mode](settings)
    result = {
        "shape": args.shape,
        "mode": args.mode,
        "device": args.device,
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "seconds_in_all": time.time() - began,
        "settings": {
            "dtype": str(shape.dtype).removeprefix("torch."),
            "gradient_checkpointing": shape.gradient_checkpointing,
            "body_to_head": body_to_head(shape),
            "prompts": settings.prompts,
            "generations": settings.num_generations,
            "micro_batch": settings.micro_batch,
            "prompt_tokens": lengths.prompt_tokens,
            "rationale_tokens": lengths.rationale_tokens,
            "beta": settings.beta,
            "lora": settings.lora,
        },
        **describe(device),
        **metrics,
    }
    path = args.output / f"{name_of(args, parser)}.json"
    write_result(path, result)
    print(f"{path}: {result['seconds_in_all']:.0f} s")
    show(metrics)
    return path


def name_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Shape, mode and device, and every option that is not at its default."""
    parts = [args.shape, args.mode, name_of_device(args.device)]
    for name, value in vars(args).items():
        if name not in UNNAMED and value != parser.get_default(name):
            parts.append(name if value is True else f"{name}{'+'.join(value) if isinstance(value, list) else value}")
    return "-".join(parts)


def show(metrics: dict[str, Any]) -> None:
    for point in metrics.get("points", [metrics]):
        where = " ".join(f"{name} {point[name]}" for name in ("num_generations", "stretch") if name in point)
        for name, contender in (point.get("contenders", {}) | point.get("engines", {})).items():
            medians = "  ".join(f"{key} {value:,.4g}" for key, value in contender["median"].items())
            print(f"{where}  {name:15}{medians}")
        for name in point.get("out_of_memory", []):
            print(f"{where}  {name:15}out of memory")
    for operation in metrics.get("operations", []):
        print(f"{operation['share']:6.1%}  {operation['name']}")


if __name__ == "__main__":
    main()
