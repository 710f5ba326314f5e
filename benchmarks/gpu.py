# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
All that a GPU has to say, in one command, the most telling first, with the tables of docs/speed.md at the end:

    python benchmarks/gpu.py

What has a result is not measured again, so a run that was stopped continues. To try the list without a GPU, on tiny
shapes: `--device cpu --output FOLDER --docs FOLDER`.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


# Before `run` takes this process off the Hub, from which GSM8K may come
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1"}

import torch  # noqa: E402
from trl.import_utils import is_vllm_available  # noqa: E402

import report  # noqa: E402
import run  # noqa: E402
from machine import name_of_device  # noqa: E402


HERE = Path(__file__).parent
# Where `make smollm2` puts it
CACHE = Path(os.environ.get("TRL_LATRO_CACHE", Path.home() / ".cache" / "trl_latro"))
SMOLLM2 = CACHE / "SmolLM2-135M-Instruct"
LLAMA, QWEN = "llama-3.1-8b --lora", "qwen2.5-0.5b"
# What runs on a CPU in place of them, and how little of it
TINY_LORA, TINY = "tiny --lora", "tiny"
BRIEF = "--contenders ours floor_shared --generations 2 --micro-batch 2 --rounds 1 --steps 1 --prompt-tokens 8"
BRIEF_GSM8K = "--steps 2 --prompts 2 --generations 2 --rationale-tokens 8 --questions 4"


@dataclass(frozen=True)
class Item:
    """
    One measurement.

    Args:
        result (`Path`): The file that it writes when it is complete.
        command (`list[str]`): What this Python is given.
        seconds (`float`): Limit, after which it is ended.
        missing (`str`, *optional*): Why it cannot be run here.
    """

    result: Path
    command: list[str]
    seconds: float
    missing: str | None = None


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="for all of it: %(default)s")
    parser.add_argument("--smollm2", type=Path, default=SMOLLM2, help="folder of SmolLM2-135M-Instruct: %(default)s")
    parser.add_argument(
        "--dataset-path", help="folder with GSM8K's train.jsonl and test.jsonl; the Hub's if not given"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="%(default)s")
    parser.add_argument("--output", type=Path, default=run.RESULTS, help="folder of the results: %(default)s")
    parser.add_argument("--docs", type=Path, default=report.ROOT / "docs", help="folder of speed.md: %(default)s")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU that PyTorch can use: `make benchmark` measures what a CPU can say.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what is running, as Ctrl-C does
    items = make_items(args)
    try:
        left = run_items(items, args.minutes * 60)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        left = [item for item in items if item.missing is None and not item.result.exists()]
    if any(args.output.glob("*.json")):
        report.main(args.output, args.docs)
    if left:
        sys.exit(f"{len(left)} of {len(items)} have no result yet; the same command goes on with them.")


def make_items(args: argparse.Namespace) -> list[Item]:
    """By value. The limits are some times what is expected: the whole time is what bounds the list."""
    on_gpu = args.device == "cuda"
    llama, qwen = (LLAMA, QWEN) if on_gpu else (TINY_LORA, TINY)
    patience = 1 if on_gpu else 10  # the limits are a GPU's
    no_vllm = None if is_vllm_available() else "vLLM is not installed (pip install '.[vllm]')"

    def mode(shape_and_mode: str, seconds: float, missing: str | None = None) -> Item:
        options = ["--shape", *shape_and_mode.split(), "--device", args.device, *([] if on_gpu else BRIEF.split())]
        parser = run.make_parser()
        result = args.output / f"{run.name_of(parser.parse_args(options), parser)}.json"
        return Item(
            result, [str(HERE / "run.py"), *options, "--output", str(args.output)], patience * seconds, missing
        )

    return [
        mode(f"{llama} --mode training", 240),
        mode(f"{llama} --mode rollout", 300),
        mode(f"{qwen} --mode training", 120),
        gsm8k(args, patience * 420),
        mode(f"{llama} --mode colocate --rationale-tokens 256", 300, no_vllm),
        mode(f"{llama} --mode memory", 150),
        mode(f"{qwen} --mode memory", 120),
        mode(f"{llama} --mode profile", 90),
        mode(f"{qwen} --mode rollout", 180),
        mode(f"{llama} --mode training --rationale-tokens 512", 240),
        mode(f"{qwen} --lora --mode training", 120),
        mode(f"{qwen} --mode colocate --rationale-tokens 256", 240, no_vllm),
        mode(f"{qwen} --lora --mode memory", 120),
        mode(f"{qwen} --mode profile", 60),
    ]


def gsm8k(args: argparse.Namespace, seconds: float) -> Item:
    result = args.output / f"smollm2-gsm8k-{name_of_device(args.device)}.json"
    command = [str(HERE / "gsm8k.py"), "--model", str(args.smollm2), "--output", str(result), "--device", args.device]
    if args.dataset_path is not None:
        command += ["--dataset-path", args.dataset_path]
    if args.device == "cpu":
        command += BRIEF_GSM8K.split()
    no_model = f"there is no {args.smollm2}: make it with `make smollm2`, or say where it is with --smollm2"
    missing = None if args.smollm2.exists() else no_model
    return Item(result, command, seconds, missing)


def run_items(items: list[Item], seconds: float) -> list[Item]:
    """Run what has no result, one after the other. Returns what could have been run and has none in the end."""
    end = time.monotonic() + seconds
    left = []
    for item in items:
        name = item.result.stem
        if item.result.exists():
            print(f"{name}: there already, {item.result}", flush=True)
        elif item.missing is not None:
            print(f"{name}: left out, {item.missing}", flush=True)
        else:
            print(f"{name}: ", end="", flush=True)
            print(run_item(item, end - time.monotonic()), flush=True)
            if not item.result.exists():
                left.append(item)
    return left


def run_item(item: Item, seconds_left: float) -> str:
    """What became of it. Its output goes to a file beside the result."""
    limit = min(item.seconds, seconds_left)
    if limit <= 0:
        return "not started, the time is up"
    log = item.result.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w") as output:
        # In a session of its own, to be ended with all processes that it has started
        process = subprocess.Popen(
            [sys.executable, *item.command],
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"ended after its {limit:.0f} s, see {log}"
        finally:
            end_session(process)
    if status != 0:
        return f"failed with status {status}, see {log}: {last_line(log)}"
    return f"{time.monotonic() - began:.0f} s"


def end_session(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # results, checkpoints and evaluations are whole at any time
    except ProcessLookupError:
        pass  # nothing of it is left
    process.wait()


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    main()
