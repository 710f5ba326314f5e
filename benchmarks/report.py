# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Write the tables of docs/speed.md, between their marks, and docs/speed.png from the result files."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib


matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes


ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- tables: written by benchmarks/report.py -->", "<!-- end of tables -->"
NAMES = {
    "released": "(a) released formulation",
    "rloo": "(b) `RLOOTrainer` + reward + answer term",
    "ours_unshared": "(c) with `share_prompts=False`",
    "ours": "(c) `LaTROTrainer`",
    "floor_unshared": "(d) floor, a prompt per row",
    "floor_shared": "(d) floor, a prompt per group",
}
EVALUATION_NAMES = {"plain": "`generate` per batch, padded forwards", "ours": "`trl-latro evaluate`"}
COLOURS = {
    "released": "#b8b8b8",
    "rloo": "#8c8c8c",
    "ours_unshared": "#9dbdd6",
    "ours": "#2f6f9f",
    "floor_unshared": "#d9c89a",
    "floor_shared": "#c2a552",
}
GIB = 2**30
OUT_OF_MEMORY = "out of memory"

Result = dict[str, Any]


def read(folder: Path) -> dict[str, list[Result]]:
    """Results by mode."""
    results: dict[str, list[Result]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem):
        result = json.loads(path.read_text()) | {"name": path.stem}
        results.setdefault(result["mode"], []).append(result)
    return results


def main(results: Path = ROOT / "benchmarks" / "results", docs: Path = ROOT / "docs") -> None:
    of_mode = read(results)
    if not of_mode:
        raise SystemExit(f"{results} holds no result: run `make benchmark`, or benchmarks/run.py, first.")
    page = docs / "speed.md"
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{page} should hold the lines {BEGIN!r} and {END!r} once each: the tables go between them.")
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{tables(of_mode)}\n\n{END}{rest.partition(END)[2]}")
    draw(of_mode, docs / "speed.png")
    print(f"{page}, {docs / 'speed.png'}")


# ---- tables ----


def tables(of_mode: dict[str, list[Result]]) -> str:
    parts = ["![Seconds, memory and growth of the contenders](speed.png)"]
    sections = {
        "training": ("Scoring and training", training_table),
        "memory": ("Peak memory", memory_table),
        "scaling": ("Growth with samples and lengths", scaling_table),
        "rollout": ("Rollout", rollout_table),
        "colocate": ("Sampled by vLLM on the same GPU", colocate_table),
        "evaluation": ("Evaluation", evaluation_table),
        "profile": ("Where the time of `LaTROTrainer` goes", profile_table),
        "gsm8k": ("A short training on GSM8K", gsm8k_table),
    }
    for mode, (title, make_table) in sections.items():
        for index, result in enumerate(of_mode.get(mode, [])):
            parts += [f"### {title}"] if index == 0 else []
            parts += [(describe_training if mode == "gsm8k" else describe)(result), make_table(result)]
    devices = {result["device"] for results in of_mode.values() for result in results}
    if "cuda" not in devices:
        parts.append("Not run on a GPU.")
    return "\n\n".join(parts)


def describe(result: Result) -> str:
    settings = result["settings"]
    lengths = ", ".join(
        f"{what} {'of ' + str(n) + ' tokens' if (n := settings[key]) else 'as long as in GSM8K'}"
        for what, key in (("prompts", "prompt_tokens"), ("rationales", "rationale_tokens"))
    )
    if result["mode"] == "evaluation":
        work = (
            f"{settings['prompts']} questions, one greedy completion and {settings['generations']} samples of each, batches of "
            f"{settings['micro_batch']}, {lengths}"
        )
    else:
        work = (
            f"prompts x samples per step: {settings['prompts']} x {settings['generations']}, "
            f"samples per forward: {settings['micro_batch']}, {lengths}, beta {settings['beta']:g}"
        )
    return (
        f"**{result['shape']}** (body {settings['body_to_head']:.1f} times the LM head, {settings['dtype']}"
        f"{', LoRA' if settings['lora'] else ''}"
        f"{', gradient checkpointing' if settings['gradient_checkpointing'] else ''}), "
        f"{work}. {where_and_when(result)}"
    )


def describe_training(result: Result) -> str:
    settings = result["settings"]
    return (
        f"**{result['shape']}**, all weights, {settings['steps']} steps of {settings['prompts']} x {settings['generations']} "
        f"samples, at most {settings['rationale_tokens']} tokens of a rationale, learning rate {settings['learning_rate']:g}; "
        f"the first {settings['questions']} test questions, shares from 0 to 1. {where_and_when(result)}"
    )


def where_and_when(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    where = machine.get("gpu") or f"{machine['processor']}, {machine['threads']} threads"
    return (
        f"{where}; torch {versions['torch']}, transformers {versions['transformers']}, trl {versions['trl']}; "
        f"{result['date']}."
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio(value: float | None, to: float | None) -> str:
    return "-" if value is None or to is None else f"{value / to:.2f}"


def out_of_memory_rows(result: Result, columns: int) -> list[list[str]]:
    return [[NAMES[name], OUT_OF_MEMORY] + ["-"] * (columns - 2) for name in result.get("out_of_memory", [])]


def total_of(result: Result, name: str) -> float | None:
    contender = result["contenders"].get(name)
    return None if contender is None else contender["median"]["total"]


def training_table(result: Result) -> str:
    on_gpu = result["device"] == "cuda"
    head = ["Medians per step", "Scoring, s", "Training, s", "Both, s", "Tokens / s", "x floor", "x (c)"]
    head += ["Steps / h", "Peak, GiB", "MFU, %"] if on_gpu else []
    rows = []
    for name, contender in result["contenders"].items():
        medians = contender["median"]
        row = [NAMES[name], *(f"{medians[key]:.2f}" for key in ("scoring", "training", "total"))]
        row += [f"{medians['tokens_per_second']:,.0f}"]
        row += [ratio(medians["total"], total_of(result, other)) for other in ("floor_shared", "ours")]
        if on_gpu:
            mfu = medians.get("mfu_percent")
            row += [f"{medians['steps_per_hour']:.0f}", f"{medians['peak_bytes'] / GIB:.1f}"]
            row += ["-" if mfu is None else f"{mfu:.0f}"]
        rows.append(row)
    rows += out_of_memory_rows(result, len(head))
    counts = result["counts"]
    steps = max((len(contender["steps"]) for contender in result["contenders"].values()), default=0)
    return table(head, rows) + (
        f"\n\nSteps measured: {steps} of each. A step has {counts['row_tokens']:,} tokens, {counts['shared_tokens']:,} with each "
        f"prompt once, of which {counts['scored_tokens']:,} are scored."
    )


def memory_table(result: Result) -> str:
    rows = []
    released = result["contenders"].get("released", {}).get("median", {})
    for name, contender in result["contenders"].items():
        medians = contender["median"]
        added = medians["peak_bytes"] - medians["held_bytes"]
        released_added = released["peak_bytes"] - released["held_bytes"] if released else None
        rows.append(
            [
                NAMES[name],
                f"{medians['held_bytes'] / GIB:.2f}",
                f"{medians['peak_bytes'] / GIB:.2f}",
                f"{added / GIB:.2f}",
                ratio(medians["peak_bytes"], released.get("peak_bytes")),
                ratio(added, released_added),
            ]
        )
    head = ["Medians per step", "Held before, GiB", "Peak, GiB", "Added, GiB", "Peak / (a)", "Added / (a)"]
    rows += out_of_memory_rows(result, len(head))
    of_samples = table(
        ["(c), samples per step", "Samples per forward", "Added in scoring, GiB", "Added in training, GiB"],
        (
            [str(point["samples"]), str(point["micro_batch"])]
            + [f"{(point['peak'][phase] - point['held']) / GIB:.2f}" for phase in ("scoring", "training")]
            for point in result.get("samples", [])
        ),
    )
    note = "All rows of one length. Between the forwards of a step the gradients are held as well."
    return f"{table(head, rows)}\n\nMemory: {result['method']}.\n\n{of_samples}\n\n{note}"


def scaling_table(result: Result) -> str:
    first = result["points"][0]
    base = next(p for p in result["points"] if p["num_generations"] == 16 and p["stretch"] == 1)
    rows = []
    for point in result["points"]:
        start = first if point["stretch"] == 1 else base
        ours, floor = growth(point, start, "ours"), growth(point, start, "floor_shared")
        seconds = [total_of(point, name) for name in ("ours", "floor_shared")]
        rows.append(
            [
                str(point["num_generations"]),
                f"x{point['stretch']}",
                *(OUT_OF_MEMORY if value is None else f"{value:.2f}" for value in seconds),
                f"{point['counts']['samples'] / start['counts']['samples']:.0f}",
                ratio(point["counts"]["shared_tokens"], start["counts"]["shared_tokens"]),
                ratio(ours, 1),
                ratio(floor, 1),
                ratio(ours, floor),
            ]
        )
    head = ["K", "Rationales", "(c), s", "Floor, s", "Samples", "Tokens", "(c)", "Floor", "(c) / floor"]
    return table(head, rows) + (
        "\n\nFrom the fifth column on: growth, from the first row; with longer rationales from the row of the same K. "
        "Tokens are counted with each prompt once."
    )


def growth(point: Result, start: Result, name: str) -> float | None:
    now, before = total_of(point, name), total_of(start, name)
    return None if now is None or before is None else now / before


def rollout_table(result: Result) -> str:
    rows = [
        [
            NAMES[name].removesuffix(" + reward + answer term"),
            f"{medians['decoded_per_kept']:.2f}",
            f"{medians['seconds']:.2f}",
            f"{medians['decoded_per_second']:,.0f}",
            f"{medians['kept_per_second']:,.0f}",
        ]
        for name, medians in ((name, contender["median"]) for name, contender in result["contenders"].items())
    ]
    head = ["Medians per rollout", "Decoded / kept", "Seconds", "Decoded / s", "Kept / s"]
    return table(head, rows + out_of_memory_rows(result, len(head)))


def colocate_table(result: Result) -> str:
    rows = []
    for name, engine in result["engines"].items():
        medians = engine["median"]
        rows.append(
            [
                name,
                f"{medians['rollout']:.2f}",
                f"{medians['sync']:.2f}" if "sync" in medians else "-",
                f"{medians['scoring'] + medians['training']:.2f}",
                f"{medians['decoded_per_second']:,.0f}",
            ]
        )
    rows += [[name, OUT_OF_MEMORY, "-", "-", "-"] for name in result["out_of_memory"]]
    head = [
        "Medians per step",
        "Rollout, s",
        "Weights to vLLM, s",
        "Scoring and training, s",
        "Decoded / s in rollout",
    ]
    return table(head, rows)


def gsm8k_table(result: Result) -> str:
    rows = []
    for name, metric in result["differences"].items():
        value, low, high = (metric["change"][key] for key in ("value", "low", "high"))
        numbers = [f"{metric['before']:.3f}", f"{metric['after']:.3f}", f"{value:+.3f}", f"[{low:+.3f}, {high:+.3f}]"]
        rows.append([name.replace("_", " "), *numbers])
    seconds = median(entry["step_time"] for entry in result["log"])
    head = ["", "Before", "After", "Change", "95 % interval"]
    return table(head, rows) + f"\n\nA step took {seconds:.1f} s (median), sampling included."


def evaluation_table(result: Result) -> str:
    def per_token(name: str, key: str) -> float:
        return result["contenders"][name]["median"][key] / result["contenders"][name]["median"]["kept"]

    measures = ["generation", "scoring", "seconds", "processor_seconds"]
    rows = [
        [
            EVALUATION_NAMES[name],
            *(f"{contender['median'][key]:.1f}" for key in measures),
            f"{contender['median']['decoded_per_kept']:.2f}",
            *(ratio(per_token("plain", key), per_token(name, key)) for key in measures[2:]),
        ]
        for name, contender in result["contenders"].items()
    ]
    head = ["Medians", "Generation, s", "Answers' log-probs, s", "In all, s", "Processor time, s", "Decoded / kept"]
    return table(head + ["Speed", "Speed by processor time"], rows) + (
        f"\n\nEvaluations measured: {len(result['contenders']['ours']['steps'])} of each, in turns. Speeds compare the time per token "
        f"kept. {result['same_greedy_completions']} of {result['questions']} greedy completions are the same."
    )


def profile_table(result: Result) -> str:
    rows = (
        [f"`{operation['name'][:80]}`", f"{operation['seconds']:.3f}", f"{100 * operation['share']:.1f} %"]
        for operation in result["operations"]
    )
    return table(["Operation", "Seconds by itself", "Share"], rows)


# ---- picture ----


def draw(of_mode: dict[str, list[Result]], path: Path) -> None:
    panels = [
        (draw_panel, of_mode[mode])
        for mode, draw_panel in (("training", draw_training), ("memory", draw_memory), ("scaling", draw_scaling))
        if mode in of_mode
    ]
    if not panels:
        return
    widths = [max(4.6, 1.5 * len(results)) for _, results in panels]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(sum(widths), 3.6), width_ratios=widths, layout="constrained", squeeze=False
    )
    for axis, (draw_panel, results) in zip(axes[0], panels, strict=True):
        draw_panel(axis, results)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    names = [name.replace("`", "") for name in NAMES.values()]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_bars(axis: Axes, results: list[Result], value: Any) -> None:
    for group, result in enumerate(results):
        width = 0.8 / max(1, len(result["contenders"]))
        for index, name in enumerate(result["contenders"]):
            x = group - 0.4 + width * (index + 0.5)
            bar = axis.bar(x, value(result, name), 0.92 * width, color=COLOURS[name])
            axis.bar_label(bar, fmt="%.2g", fontsize=7, color="#555555")
    axis.set_xticks(range(len(results)), [label(result) for result in results], fontsize=8)


def label(result: Result) -> str:
    settings = result["settings"]
    parts = [result["shape"] + (", LoRA" if settings["lora"] else ""), "GPU" if result["device"] == "cuda" else "CPU"]
    parts += [f"{settings['micro_batch']} per forward"] if settings["micro_batch"] < settings["generations"] else []
    parts += [f"prompts of {settings['prompt_tokens']}"] if settings["prompt_tokens"] else []
    parts += [f"rationales of {settings['rationale_tokens']}"] if settings["rationale_tokens"] else []
    return "\n".join(parts)


def draw_training(axis: Axes, results: list[Result]) -> None:
    def over_floor(result: Result, name: str) -> float:
        return total_of(result, name) / total_of(result, "floor_shared")

    draw_bars(axis, [result for result in results if total_of(result, "floor_shared") is not None], over_floor)
    axis.axhline(1, color="#c2a552", linewidth=0.8, zorder=0)
    axis.set_title("Scoring and training, times the shared floor", fontsize=10)


def draw_memory(axis: Axes, results: list[Result]) -> None:
    draw_bars(axis, results, lambda result, name: result["contenders"][name]["median"]["peak_bytes"] / GIB)
    axis.set_title("Peak memory of a training step, GiB", fontsize=10)


def draw_scaling(axis: Axes, results: list[Result]) -> None:
    first = results[0]
    same = [
        r for r in results if r["shape"] == first["shape"] and r["machine"].get("gpu") == first["machine"].get("gpu")
    ]
    for result, style in zip(same, ("o-", "s--", "^:"), strict=False):
        points = [point for point in result["points"] if point["stretch"] == 1]
        samples = [point["counts"]["samples"] for point in points]
        for name in ("ours", "floor_shared"):
            seconds = [total_of(point, name) for point in points]
            axis.plot(samples, seconds, style, color=COLOURS[name], markersize=4, linewidth=1.2)
        axis.plot(
            [], [], style, color="#555555", markersize=4, label=f"{result['settings']['micro_batch']} per forward"
        )
    axis.legend(frameon=False, fontsize=8)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(samples, [str(number) for number in samples])
    axis.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.set_xlabel("samples per step", fontsize=9)
    axis.set_title(f"Seconds per step, {first['shape']}", fontsize=10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    main()
