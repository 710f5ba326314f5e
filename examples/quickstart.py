# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

# /// script
# requires-python = ">=3.11"
# dependencies = ["trl_latro[quickstart]"]
#
# [tool.uv.sources]
# trl_latro = { path = "..", editable = true }
# ///

"""Watch a tiny model learn to reason, on a laptop, without network or GPU.

    python examples/quickstart.py

`puzzles/dial_base_model` can work a digit puzzle step by step, but mostly it guesses. Two copies of it are trained for as
many optimizer steps: one on answers alone (supervised fine-tuning), one with LaTRO. Neither ever sees a rationale.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it need not look for a GPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other programs, threads that spin slow each other down

import matplotlib
import torch
import transformers
from datasets import Dataset
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from puzzles.common import is_correct, make_puzzles, write_answers
from puzzles.dial import DialPuzzle
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.cli.common import saying_what_is_wrong
from trl_latro.cli.noise import show_own_lines
from trl_latro.durability.checkpoints import check_writable


matplotlib.use("Agg")
from matplotlib import pyplot as plt


BASE_MODEL = Path(__file__).parent / "puzzles" / "dial_base_model"
PROMPTS, SAMPLES = 16, 16  # per step of the optimizer
TEST_PUZZLES = 500
CURVE_PUZZLES, CURVE_EVERY = 100, 5  # the curves look at fewer puzzles, every so many steps


QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "gradient_checkpointing": False,  # memory is not short here
}


def accuracy(texts: list[str], puzzles: list[DialPuzzle]) -> float:
    return sum(is_correct(text, puzzle.answer) for text, puzzle in zip(texts, puzzles, strict=True)) / len(puzzles)


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, puzzles: list[DialPuzzle]
) -> tuple[dict[str, float], list[str]]:
    """Accuracy of greedy texts and of samples at temperature 1, and the greedy texts."""
    greedy = write_answers(model, tokenizer, puzzles, sample=False)
    with torch.random.fork_rng(devices=[]):  # looking at the model must not change how it is trained
        samples = write_answers(model, tokenizer, puzzles, sample=True)
    return {"greedy": accuracy(greedy, puzzles), "samples": accuracy(samples, puzzles)}, greedy


class Watch(TrainerCallback):
    """Moves the progress bar and keeps the curves."""

    def __init__(self, progress: Progress, name: str, steps: int, puzzles: list[DialPuzzle]) -> None:
        self.progress, self.puzzles = progress, puzzles
        self.task = progress.add_task(name, total=steps, state="")
        self.logs: list[dict[str, float]] = []
        self.accuracies: list[dict[str, float]] = []

    def look(self, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.accuracies.append({"step": step, **evaluate(model, tokenizer, self.puzzles)[0]})
        self.progress.update(self.task, state=f"held-out greedy {self.accuracies[-1]['greedy']:.0%}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(0, kwargs["model"], kwargs["processing_class"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.update(self.task, completed=state.global_step)
        if state.global_step % CURVE_EVERY == 0 or state.global_step == state.max_steps:
            self.look(state.global_step, kwargs["model"], kwargs["processing_class"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:  # not the summary at the end
            self.logs.append({"step": state.global_step, **logs})


def train(trainer: Trainer, watch: Watch) -> float:
    """Train quietly under the eyes of `watch`; the seconds it took, looks at held-out puzzles included."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def latro_trainer(output_dir: Path, seed: int, steps: int) -> LaTROTrainer:
    puzzles = make_puzzles(DialPuzzle, PROMPTS * steps, seed=seed, held_out=False)
    return LaTROTrainer(
        model=AutoModelForCausalLM.from_pretrained(BASE_MODEL),
        args=LaTROConfig(
            output_dir=str(output_dir),
            num_generations=SAMPLES,
            per_device_train_batch_size=PROMPTS * SAMPLES,
            gradient_accumulation_steps=1,
            max_steps=steps,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            beta=0.02,
            max_completion_length=34,  # four steps and the three tokens of "The answer is"
            seed=seed,
            **QUIET,
        ),
        train_dataset=Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in puzzles]),
        processing_class=AutoTokenizer.from_pretrained(BASE_MODEL),
    )


def sft_trainer(output_dir: Path, seed: int, steps: int) -> SFTTrainer:
    """The comparison sees as many rows per step, each a puzzle of its own, with the answer text that LaTRO scores."""
    puzzles = make_puzzles(DialPuzzle, PROMPTS * SAMPLES * steps, seed=seed, held_out=False)
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(BASE_MODEL),
        args=SFTConfig(
            output_dir=str(output_dir),
            per_device_train_batch_size=PROMPTS * SAMPLES,
            max_steps=steps,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            seed=seed,
            **QUIET,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": p.prompt, "completion": f" The answer is {p.answer}."} for p in puzzles]
        ),
        processing_class=AutoTokenizer.from_pretrained(BASE_MODEL),
    )


def draw_curves(path: Path, latro: Watch, sft: Watch) -> None:
    plt.rcParams.update(
        {
            "font.size": 13,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 2,
            "axes.titlesize": 13,
        }
    )
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", width_ratios=(1.5, 1, 1))

    looked_at = [point["step"] for point in latro.accuracies]
    for watch, colour, name in ((latro, "C0", "LaTRO"), (sft, "C1", "answer-only SFT")):
        for kind, line in (("greedy", "-"), ("samples", "--")):
            values = [100 * point[kind] for point in watch.accuracies]
            left.plot(looked_at, values, line, color=colour, label=f"{name}, {kind}", clip_on=False)
    left.axhline(10, color="grey", linewidth=1, linestyle=":", label="chance")
    left.set(title="Held-out accuracy (%)", ylim=(0, 101))
    left.legend(fontsize=11, frameon=False, loc="center right", bbox_to_anchor=(1, 0.42))

    steps = [log["step"] for log in latro.logs]
    middle.plot(steps, [log["latro/answer_logp"] for log in latro.logs], color="C0")
    middle.set(title="LaTRO: log p(answer | rationale)", ylim=(None, 0))
    right.plot(steps, [log["completions/mean_length"] for log in latro.logs], color="C0")
    right.set(title="LaTRO: tokens per rationale")
    for axes in (left, middle, right):
        axes.set_xlabel("optimizer step")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output_dir", type=Path, default=Path("quickstart_output"), help="picture, metrics and models"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the training puzzles and the sampling")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of LaTRO, and of the comparison")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, not {args.steps}")

    check_writable(args.output_dir)
    start = time.perf_counter()
    show_own_lines()
    torch.set_num_threads(min(2, torch.get_num_threads()))  # more threads only slow a model of this size down
    transformers.set_seed(args.seed)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    puzzles = make_puzzles(DialPuzzle, TEST_PUZZLES, seed=0, held_out=True)  # the same ones for every seed
    # For `trl-latro evaluate`, with the models
    lines = [json.dumps({"question": p.prompt, "answer": p.answer, "rationale": f" {p.rationale}"}) for p in puzzles]
    (args.output_dir / "held_out.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    base = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    console.print(
        f"A Llama with {base.num_parameters():,} parameters and puzzles like this one:\n{puzzles[0].prompt}\n"
    )

    accuracies, texts = {}, {}
    accuracies["base"], texts["base"] = evaluate(base, tokenizer, puzzles)
    watches, seconds = {}, {}
    columns = (TextColumn("{task.description:15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[state]}"), console=console) as progress:
        for name, make in (("answer-only SFT", sft_trainer), ("LaTRO", latro_trainer)):
            transformers.set_seed(args.seed)
            trainer = make(args.output_dir, args.seed, args.steps)
            watches[name] = Watch(progress, name, args.steps, puzzles[:CURVE_PUZZLES])
            seconds[name] = train(trainer, watches[name])
            accuracies[name], texts[name] = evaluate(trainer.model, tokenizer, puzzles)
            trainer.save_model(str(args.output_dir / name.split()[-1].lower()))

    table = Table(
        "", "greedy", "samples, T=1", "optimizer steps", title=f"Accuracy on {len(puzzles)} held-out puzzles"
    )
    for name, of_model in accuracies.items():
        steps = str(args.steps) if name in seconds else "-"
        table.add_row(name, f"{of_model['greedy']:.1%}", f"{of_model['samples']:.1%}", steps)
    console.print(table)

    shown = [next(i for i, p in enumerate(puzzles) if len(p.steps) == count) for count in (2, 3, 4)]
    for i in shown:
        console.print(f"\n[bold]{puzzles[i].prompt}[/bold]", soft_wrap=True)
        for name in accuracies:
            mark = "[green]right[/green]" if is_correct(texts[name][i], puzzles[i].answer) else "[red]wrong[/red]"
            console.print(f"  {name:15}  {mark}  [i]{escape(texts[name][i].strip())}[/i]", soft_wrap=True)

    draw_curves(args.output_dir / "quickstart.png", watches["LaTRO"], watches["answer-only SFT"])
    results = {
        "seed": args.seed,
        "steps": args.steps,
        "held_out_puzzles": len(puzzles),
        "accuracy": accuracies,
        "training_seconds": seconds,
        "seconds": time.perf_counter() - start,
        "texts": [{"prompt": puzzles[i].prompt, **{name: texts[name][i] for name in accuracies}} for i in shown],
        "accuracy_curves": {name: watch.accuracies for name, watch in watches.items()},
        "latro_logs": watches["LaTRO"].logs,
    }
    (args.output_dir / "quickstart.json").write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"\n{results['seconds']:.0f} s. Curves, metrics and models are in {escape(str(args.output_dir))}/")


if __name__ == "__main__":
    with saying_what_is_wrong("quickstart.py"):
        main()
