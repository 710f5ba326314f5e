# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What is measured: each mode makes the metrics of one result file."""

import gc
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from trl.trainer.utils import compute_flops_per_token, compute_mfu, get_peak_flops

from colocate import ENGINES, SampledSteps
from contenders import CONTENDERS
from contenders.trainers import Borders
from evaluation import EVALUATIONS, MeasuredEvaluation
from machine import quiet
from meter import CudaMemory, Meter, ProcessMemory
from models import Case
from rollout import ROLLOUTS
from rows import Lengths, count_tokens, draw_groups
from shapes import Shape
from tokenizer import build_tokenizer


@dataclass(frozen=True)
class Settings:
    """What the command says, see `run.py`."""

    shape: Shape
    device: torch.device
    contenders: tuple[str, ...]
    prompts: int
    num_generations: int
    micro_batch: int
    lengths: Lengths
    beta: float
    lora: bool
    rounds: int
    steps: int


@contextmanager
def make_case(settings: Settings) -> Iterator[Case]:
    tokenizer = build_tokenizer(settings.shape.vocab_size)
    groups = draw_groups(tokenizer, settings.prompts, settings.num_generations, settings.lengths)
    micro_batch = min(settings.micro_batch, settings.prompts * settings.num_generations)
    with tempfile.TemporaryDirectory() as folder:
        yield Case(
            settings.shape,
            tokenizer,
            groups,
            settings.lengths.longest_rationale,
            micro_batch,
            settings.beta,
            settings.lora,
            settings.device,
            Path(folder),
        )


def fits(work: Callable[[], None]) -> bool:
    """Do the work, and say whether the GPU's memory held it; then free what it leaves there."""
    try:
        work()
        done = True
    except torch.cuda.OutOfMemoryError:
        done = False
    gc.collect()  # trainers hold themselves in circles
    torch.cuda.empty_cache()  # without a GPU it does nothing
    return done


def run_contender(name: str, case: Case, meter: Meter, steps: int) -> list[dict[str, Any]]:
    """The metrics of `steps` training steps after one that is not counted; none where the GPU's memory runs out."""
    return meter.steps[1:] if fits(lambda: CONTENDERS[name](case, meter).run(1 + steps)) else []


def without_result(settings: Settings, results: dict[str, Any]) -> list[str]:
    return [name for name in settings.contenders if name not in results]


def memory_of(device: torch.device) -> CudaMemory | None:
    return CudaMemory() if device.type == "cuda" else None


def training(settings: Settings) -> dict[str, Any]:
    """Seconds of scoring and training of all contenders, in turns, so that a busy minute hits all of them."""
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in settings.contenders}
    with make_case(settings) as case:
        for _ in range(settings.rounds):
            for name in list(steps):
                measured = run_contender(name, case, Meter(case.device, memory_of(case.device)), settings.steps)
                if measured:
                    steps[name] += measured
                else:
                    del steps[name]
        counts = count_tokens(case.groups)
        results = {name: summarize(of_contender, counts) for name, of_contender in steps.items()}
        peak_flops = get_peak_flops(torch.cuda.get_device_name(), "bfloat16") if case.device.type == "cuda" else None
        if peak_flops is not None and settings.shape.dtype == torch.bfloat16:
            config = settings.shape.config(case.tokenizer.eos_token_id, case.tokenizer.pad_token_id)
            flops = compute_flops_per_token(config, round(counts["row_tokens"] / counts["samples"]))
            for result in results.values():
                # Tokens that have to be computed: each prompt once
                tokens_per_second = counts["shared_tokens"] / result["median"]["total"]
                result["median"]["mfu_percent"] = compute_mfu(flops, tokens_per_second, 1, peak_flops)
    return {"counts": counts, "contenders": results, "out_of_memory": without_result(settings, results)}


def summarize(steps: list[dict[str, Any]], counts: dict[str, int]) -> dict[str, Any]:
    """The training steps of a contender, and the medians over them. The total is without rollout."""
    scoring, train = ([step["seconds"][phase] for step in steps] for phase in ("scoring", "training"))
    total = median(map(sum, zip(scoring, train, strict=True)))
    medians = {
        "scoring": median(scoring),
        "training": median(train),
        "total": total,
        "tokens_per_second": counts["row_tokens"] / total,
        "steps_per_hour": 3600 / total,
    }
    if steps[0]["peak"]:
        medians["peak_bytes"] = median(max(step["peak"].values()) for step in steps)
        medians["held_bytes"] = median(step["held"] for step in steps)
    return {"steps": steps, "median": medians}


def scaling(settings: Settings) -> dict[str, Any]:
    """Seconds per step of ours and of the floor, over K and over the length of the rationales."""
    points = []
    lengths = settings.lengths
    for num_generations, stretch in [(4, 1), (8, 1), (16, 1), (32, 1), (64, 1), (16, 2), (16, 4)]:
        at_point = replace(
            settings,
            num_generations=num_generations,
            lengths=replace(lengths, stretch=stretch),
            contenders=("ours", "floor_shared"),
        )
        points.append({"num_generations": num_generations, "stretch": stretch, **training(at_point)})
    return {"points": points}


def memory(settings: Settings) -> dict[str, Any]:
    """Peak memory of scoring and training, of all contenders, and of ours with four times the samples."""
    with make_case(settings) as case:
        result: dict[str, Any] = {"method": (CudaMemory if case.device.type == "cuda" else ProcessMemory).method}
        counts = result["counts"] = count_tokens(case.groups)
    steps = {name: measured for name in settings.contenders if (measured := peaks(name, settings))}
    result["out_of_memory"] = without_result(settings, steps)
    result["contenders"] = {name: summarize(of_contender, counts) for name, of_contender in steps.items()}
    if "ours" in steps:
        result["samples"] = []
        for factor in (1, 4):
            # Of more drawn lengths the longest would be longer
            lengths = settings.lengths.all_the_same()
            at = replace(settings, num_generations=factor * settings.num_generations, lengths=lengths, steps=1)
            samples = at.prompts * at.num_generations
            for step in peaks("ours", at):
                result["samples"].append({"samples": samples, "micro_batch": at.micro_batch, **step})
    return result


def peaks(name: str, settings: Settings) -> list[dict[str, Any]]:
    if settings.device.type == "cuda":
        with make_case(settings) as case:
            return run_contender(name, case, Meter(case.device, CudaMemory()), settings.steps)
    # A process that only this contender has lived in; "spawn", because threads do not survive a fork
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(process_peaks, (name, settings))


def process_peaks(name: str, settings: Settings) -> list[dict[str, Any]]:
    quiet()
    with make_case(settings) as case:
        return run_contender(name, case, Meter(case.device, ProcessMemory()), settings.steps)


def rollout(settings: Settings) -> dict[str, Any]:
    """Decoded and kept tokens, and seconds, of real generation."""
    results = {}
    settings = replace(settings, contenders=tuple(name for name in settings.contenders if name in ROLLOUTS))
    with make_case(settings) as case:
        for name in settings.contenders:
            meter = Meter(case.device)
            contender = ROLLOUTS[name](case, meter)
            if not fits(partial(contender.run, 1 + settings.steps)):
                continue
            steps = [
                {"seconds": step["seconds"]["rollout"], **counts}
                for step, counts in zip(meter.steps[1:], contender.counts[1:], strict=True)
            ]
            results[name] = {
                "steps": steps,
                "median": {
                    "seconds": median(step["seconds"] for step in steps),
                    "decoded_per_kept": median(step["decoded"] / step["kept"] for step in steps),
                    "decoded_per_second": median(step["decoded"] / step["seconds"] for step in steps),
                    "kept_per_second": median(step["kept"] / step["seconds"] for step in steps),
                },
            }
    samples = settings.prompts * settings.num_generations
    return {"samples": samples, "contenders": results, "out_of_memory": without_result(settings, results)}


def colocate(settings: Settings) -> dict[str, Any]:
    """Seconds of whole training steps, sampled by transformers and by vLLM on the same GPU."""
    settings = replace(settings, lengths=settings.lengths.all_the_same())
    steps = {engine: measured for engine in ENGINES if (measured := engine_steps(engine, settings))}
    results = {}
    for engine, of_engine in steps.items():
        medians = {phase: median(step["seconds"][phase] for step in of_engine) for phase in of_engine[0]["seconds"]}
        medians["decoded_per_second"] = median(step["decoded"] / step["seconds"]["rollout"] for step in of_engine)
        results[engine] = {"steps": of_engine, "median": medians}
    samples = settings.prompts * settings.num_generations
    out_of_memory = [engine for engine in ENGINES if engine not in steps]
    return {"samples": samples, "engines": results, "out_of_memory": out_of_memory}


def engine_steps(engine: str, settings: Settings) -> list[dict[str, Any]]:
    """Seconds and sampled tokens of `settings.steps` training steps, after one that is not counted."""
    meter, decoded = Meter(settings.device), []

    def work() -> None:
        with make_case(settings) as case:
            sampled = SampledSteps(engine, case, meter)
            sampled.run(1 + settings.steps)
        decoded.extend(sampled.decoded)

    if not fits(work):
        return []
    pairs = zip(meter.steps[1:], decoded[1:], strict=True)
    return [{"seconds": step["seconds"], "decoded": tokens} for step, tokens in pairs]


def evaluation(settings: Settings) -> dict[str, Any]:
    """Seconds of whole evaluations, in turns: as it is, and plainly."""
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in EVALUATIONS}
    greedy = {}
    with make_case(settings) as case:
        for _ in range(settings.rounds):
            for name in EVALUATIONS:
                measured = MeasuredEvaluation(name, case, settings.lengths, Meter(case.device))
                before = time.process_time()
                greedy[name] = [one.completion for one in measured.run() if one.kind == "greedy"]
                counts = measured.counts | {"processor_seconds": time.process_time() - before}
                steps[name].append(dict(measured.meter.steps[-1]["seconds"]) | counts)
    results = {
        name: {
            "steps": of_way,
            "median": {
                "generation": median(step["generation"] for step in of_way),
                "scoring": median(step["scoring"] for step in of_way),
                "seconds": median(step["generation"] + step["scoring"] + step["training"] for step in of_way),
                "processor_seconds": median(step["processor_seconds"] for step in of_way),
                "kept": median(step["kept"] for step in of_way),
                "decoded_per_kept": median(step["decoded"] / step["kept"] for step in of_way),
            },
        }
        for name, of_way in steps.items()
    }
    same = sum(one == other for one, other in zip(*greedy.values(), strict=True))
    return {"questions": settings.prompts, "same_greedy_completions": same, "contenders": results}


def profile(settings: Settings) -> dict[str, Any]:
    """Where the time of one of our steps goes: the operations that take most of it."""
    with make_case(settings) as case:
        contender = CONTENDERS["ours"](case, Meter(case.device))
        contender.run(1)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if case.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        profiler = torch.profiler.profile(activities=activities)
        contender.trainer.add_callback(Borders(profiler))
        contender.run(1)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        if case.device.type == "cpu" and event.device_type == DeviceType.CPU:
            times[event.key] += event.self_cpu_time_total / 1e6
        # Kernels and copies: what stands for the CPU's side and for marked ranges would count them again
        elif case.device.type == "cuda" and event.device_type == DeviceType.CUDA and not event.is_user_annotation:
            times[event.key] += event.self_device_time_total / 1e6
    total = sum(times.values())
    return {
        "seconds": total,
        "operations": [
            {"name": name, "seconds": seconds, "share": seconds / total} for name, seconds in times.most_common(12)
        ],
    }


MODES = {
    "training": training,
    "scaling": scaling,
    "rollout": rollout,
    "colocate": colocate,
    "evaluation": evaluation,
    "memory": memory,
    "profile": profile,
}
