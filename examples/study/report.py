# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The study's tables, from the files of its runs, between marks of the pages."""

from itertools import chain
from pathlib import Path
from typing import Any

from trl_latro.evaluation.intervals import Metric

from .measures import (
    MEASURES,
    Paired,
    Runs,
    chosen,
    collapsed,
    mean_of,
    num_samples,
    over_seeds,
    paired,
    question_mean,
    question_values,
    read_runs,
    runs_of,
    tokens_of,
    with_seeds_of,
)
from .methods import ALL_METHODS, METHODS, OTHER_BETAS
from .picture import draw
from .settings import TASKS


ACCURACIES = ("greedy", "samples", "maj@k", "pass@k")
# Those of the README
MAIN = ("base", "sft_answer", "rejection", "rlvr", "logprob", "prob", "power", "jepo", "permuted", "sft_gold")
# Folders beside the runs, of word problems with another number of steps or another warm start
MORE_STEPS, LONG_WARM_START = "more_steps", "long_warm_start"
RIVALS = {
    "base": "the base model",
    "rlvr": "RLVR",
    "sft_answer": "SFT on answers",
    "sft_gold": "SFT on gold rationales",
    "rejection": "rejection sampling",
}


def write_report(output_dir: Path) -> tuple[Path, Path]:
    """Write `results.md` and `results_per_seed.md` beside `output_dir`, between their marks, and `results.png`."""
    runs = read_runs(output_dir)
    page, seeds_page = output_dir.parent / "results.md", output_dir.parent / "results_per_seed.md"
    write_sections(page, page_sections(output_dir, runs))
    write_sections(seeds_page, {"details": "\n".join(details(runs))})
    picture = output_dir.parent / "results.png"
    draw(runs, picture)
    return page, picture


def page_sections(output_dir: Path, runs: dict[str, Runs]) -> dict[str, str]:
    """The generated parts of `results.md` by name."""
    sections = {"verdicts": verdicts(runs)}
    sections |= {name: "\n".join(task_table(runs[name])) if name in runs else "No runs." for name in TASKS}
    sections |= {name: other_settings(output_dir, name, runs) for name in (MORE_STEPS, LONG_WARM_START)}
    return sections | {"control": control_table(output_dir)}


def write_other_pages(output_dir: Path, root: Path) -> None:
    """Write the results that other pages of the repository show."""
    for page, sections in other_pages(output_dir, root).items():
        write_sections(page, sections)


def other_pages(output_dir: Path, root: Path) -> dict[Path, dict[str, str]]:
    """The generated parts of the README and of `collapse.md` by name."""
    runs = read_runs(output_dir)
    return {
        root / "README.md": {"results": "\n".join(overview(runs, output_dir / MORE_STEPS))},
        root / "docs" / "collapse.md": {"hedging": "\n".join(hedging_table(runs.get("word_problems", {})))},
    }


def write_sections(page: Path, sections: dict[str, str], writer: str = "examples/study") -> None:
    """Write each section between its two marks of a page, which is made where there is none."""
    marks = {name: (f"<!-- {name}: written by {writer} -->", f"<!-- end of {name} -->") for name in sections}
    if not page.exists():
        page.write_text("\n".join(f"{begin}\n{end}\n" for begin, end in marks.values()))
    for name, text in sections.items():
        put_between(page, *marks[name], text)


def put_between(page: Path, begin: str, end: str, tables: str) -> None:
    """Write tables between two marks of a page."""
    text = page.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} should hold the lines {begin!r} and {end!r} once each: the tables go between them.")
    before, _, rest = text.partition(begin)
    page.write_text(f"{before}{begin}\n\n{tables}\n{end}{rest.partition(end)[2]}")


# ---- what came out ----


def verdicts(runs: dict[str, Runs]) -> str:
    """Above RLVR, level with it or below; beside the base model, SFT on answers and rejection sampling; collapsed seeds."""
    lines = table_head("Method", *(TASKS[name].title for name in runs))
    for method in METHODS:
        if method not in ("base", "rlvr") and any(method in of_task for of_task in runs.values()):
            cells = [verdict(method, of_task) if method in of_task else "-" for of_task in runs.values()]
            lines.append(table_row(METHODS[method].title, *cells))
    return "\n".join(lines)


def verdict(method: str, runs: Runs) -> str:
    """As far as there are runs to compare it with."""
    found = [beside(to_rlvr)] if (to_rlvr := difference(method, "rlvr", runs)) else []
    if is_latro(method) and is_clear(method, runs):
        found.append("clear")
    to_base = difference(method, "base", runs)
    if to_base and beside(to_base) != "above":
        found.append("below base" if beside(to_base) == "below" else "level with base")
    if "base" in runs and (count := count_collapsed(method, runs)):
        found.append(f"{count} of {len(runs[method])} collapsed")
    return ", ".join(found) or "-"


def is_latro(method: str) -> bool:
    return METHODS[method].title.startswith("LaTRO") and not METHODS[method].is_control


def is_clear(method: str, runs: Runs) -> bool:
    """Whether its interval is above those of SFT on answers and of rejection sampling."""
    rivals = [over_seeds(runs[name], "samples").high for name in ("sft_answer", "rejection") if name in runs]
    return len(rivals) == 2 and over_seeds(runs[method], "samples").low > max(rivals)


def count_collapsed(method: str, runs: Runs) -> int:
    return sum(collapsed(run, runs["base"]) for run in runs[method])


def beside(of: Paired) -> str:
    """Above or below if the interval over questions does not contain 0."""
    if of.over_questions.low > 0:
        return "above"
    return "below" if of.over_questions.high < 0 else "level"


def difference(method: str, rival: str, runs: Runs) -> Paired | None:
    """Samples at T=1 of two methods, paired; `None` of one and the same, and where no seed is common."""
    return None if method == rival else paired(runs.get(method, []), runs.get(rival, []), "samples")


def difference_cells(of: Paired | None) -> tuple[str, str]:
    """Over questions and over seeds, "-" where there is none."""
    if of is None:
        return "-", "-"
    return signed(of.over_questions), "-" if of.over_seeds is None else signed(of.over_seeds)


# ---- tables ----


def task_table(runs: Runs) -> list[str]:
    """Each method over its seeds."""
    k = num_samples(next(iter(runs.values()))[0])
    columns = ["greedy", "samples, T=1", f"maj@{k}", f"pass@{k}"]
    header = ["Method", "It sees", "Seeds", *columns, "Minus base", "Minus RLVR", "Tokens", "Collapsed"]
    lines = table_head(*header)
    for method, seeds in runs.items():
        cells = [percent(over_seeds(seeds, name)) for name in ACCURACIES]
        differences = [difference_cells(difference(method, rival, runs))[0] for rival in ("base", "rlvr")]
        tokens = sum(map(tokens_of, seeds)) / len(seeds)
        is_judged = "base" in runs and method != "base"
        count = f"{count_collapsed(method, runs)} of {len(seeds)}" if is_judged else "-"
        of_method = METHODS[method]
        lines.append(
            table_row(of_method.title, of_method.sees, str(len(seeds)), *cells, *differences, f"{tokens:.1f}", count)
        )
    return lines


def other_settings(output_dir: Path, name: str, runs: dict[str, Runs]) -> str:
    """Word problems' runs of a folder, beside the base model of the same seeds."""
    others = runs_of("word_problems", output_dir / name)
    if not others:
        return "No runs."
    base = with_seeds_of(list(chain.from_iterable(others.values())), runs.get("word_problems", {}).get("base", []))
    return "\n".join(task_table(({"base": base} if base else {}) | others))


def control_table(output_dir: Path) -> str:
    """
    Where `prob` and its control end with the task's coefficient of the KL and with larger ones: accuracy of samples (%) on the
    tasks that have such runs, and how far it is from the base model's.
    """
    # With the right answers first
    methods = sorted(("prob", "permuted", *OTHER_BETAS), key=lambda method: ALL_METHODS[method].is_control)
    found = {name: runs_of(name, output_dir, ("base", *methods)) for name in TASKS}
    found = {name: of_task for name, of_task in found.items() if not OTHER_BETAS.keys().isdisjoint(of_task)}
    lines = table_head("It sees", "`beta`", *(TASKS[name].title for name in found))
    for method in methods:
        seeds = next((of_task[method] for of_task in found.values() if method in of_task), None)
        if seeds:
            cells = [control_cell(method, of_task) if method in of_task else "-" for of_task in found.values()]
            lines.append(table_row(ALL_METHODS[method].sees, f"{seeds[0]['settings']['beta']:g}", *cells))
    return "\n".join(lines) if found else "No runs."


def control_cell(method: str, runs: Runs) -> str:
    accuracy, to_base = over_seeds(runs[method], "samples").value, difference(method, "base", runs)
    return f"{100 * accuracy:.1f}, {difference_cells(to_base)[0]}"


def overview(runs: dict[str, Runs], more_steps: Path) -> list[str]:
    """
    Accuracy of samples (%) on each task that RLVR was run on, over the seeds, and on word problems the paired difference
    to the base model and the number of seeds. `more_steps` is a folder with runs of word problems that had more steps.
    """
    runs = {name: of_task for name, of_task in runs.items() if "rlvr" in of_task}
    words = runs.get("word_problems", {})
    header = ["", "It sees", *(TASKS[name].title for name in runs), *(["minus base", "seeds"] if words else [])]
    lines = table_head(*header)
    for method in MAIN:
        of_method = METHODS[method]
        seeds = [of_task.get(method) for of_task in runs.values()]
        if any(seeds):
            cells = [plain_percent(over_seeds(one, "samples")) if one else "-" for one in seeds]
            if words:
                cells.append(difference_cells(difference(method, "base", words))[0])
                cells.append(str(len(words.get(method, [])) or "-"))
            lines.append(table_row(of_method.title, of_method.sees, *cells))
    if not words:
        return lines
    for method, longer in runs_of("word_problems", more_steps).items():
        title, cells = f"{METHODS[method].title}, {longer[0]['steps']} steps", ["-"] * (len(runs) - 1)  # the last task
        gain = difference_cells(paired(longer, words.get("base", []), "samples"))[0]
        accuracy = plain_percent(over_seeds(longer, "samples"))
        lines.append(table_row(title, METHODS[method].sees, *cells, accuracy, gain, str(len(longer))))
    return lines


def hedging_table(runs: Runs) -> list[str]:
    """What rewards did to accuracy and to the answer's log-prob: means over the seeds, before with the same seeds."""
    lines = table_head(
        "Reward",
        "Seeds",
        "Samples right before (%)",
        "after (%)",
        "Answer's log-prob, own rationale",
        "after the solution",
    )
    for method in ("logprob", "jepo", "power", "prob"):
        if not (after := runs.get(method, [])) or not (before := with_seeds_of(after, runs.get("base", []))):
            continue
        changes = [
            f"{mean_logp(before, rationale):.{digits}f} -> {mean_logp(after, rationale):.{digits}f}"
            for rationale, digits in (("sample", 1), ("gold", 2))
        ]
        accuracies = [plain_percent(over_seeds(of, "samples")) for of in (before, after)]
        title = METHODS[method].title.removeprefix("LaTRO, ")
        lines.append(table_row(title, str(len(after)), *accuracies, *changes))
    return lines


def mean_logp(runs: list[dict[str, Any]], rationale: str) -> float:
    return sum(run["metrics"][f"answer_logp_{rationale}_rationale"][0] for run in runs) / len(runs)


def details(runs: dict[str, Runs]) -> list[str]:
    lines = []
    for name, of_task in runs.items():
        title = TASKS[name].title
        lines += [f"## {title}\n", "Samples at T=1, minus those of another method:\n", *differences_table(of_task)]
        lines += ["\nWhat else was measured, means over seeds:\n", *measures_table(of_task)]
        lines += ["\nEach seed:\n", *each_seed_table(of_task), ""]
    return lines


def differences_table(runs: Runs) -> list[str]:
    """Paired differences, each with its interval over questions and over seeds."""
    rivals = [method for method in RIVALS if method in runs]
    header = ["Method", *(f"minus {RIVALS[method]}, {over}" for method in rivals for over in ("questions", "seeds"))]
    lines = table_head(*header)
    for method in runs:
        cells: list[str] = []
        for rival in rivals:
            cells += difference_cells(difference(method, rival, runs))
        lines.append(table_row(METHODS[method].title, *cells))
    return lines


def measures_table(runs: Runs) -> list[str]:
    lines = table_head("Method", *MEASURES)
    for method, seeds in runs.items():
        values = [mean_of(seeds, name) for name in MEASURES]
        lines.append(table_row(METHODS[method].title, *("-" if value is None else short(value) for value in values)))
    return lines


def each_seed_table(runs: Runs) -> list[str]:
    """The last checkpoint, and beside it the one that the validation questions choose."""
    k = num_samples(next(iter(runs.values()))[0])
    header = ["Method", "Seed", "greedy", "samples, T=1", f"maj@{k}", f"pass@{k}", "Training, s"]
    header += ["Chosen step", "its samples, T=1", "Monitor warned at"]
    lines = table_head(*header)
    for method, seeds in runs.items():
        for run in seeds:
            metrics = [percent(question_mean(question_values(run, name))) for name in ACCURACIES]
            lines.append(
                table_row(
                    METHODS[method].title,
                    str(run["seed"]),
                    *metrics,
                    f"{run['training_seconds']:.0f}",
                    *choice(run),
                    warning(run),
                )
            )
    return lines


def choice(run: dict[str, Any]) -> tuple[str, str]:
    of_chosen = chosen(run)
    if of_chosen is None or run["method"] == "base":
        return "-", "-"
    return str(run["best"]["step"]), percent(question_mean(question_values(of_chosen, "samples")))


def warning(run: dict[str, Any]) -> str:
    """The step at which the monitor warned. RLVR and other trainers have none, and old files do not say."""
    objective = METHODS[run["method"]].objective
    if objective is None or objective.get("self_reward_weight") == 0 or "warned_at" not in run:
        return "-"
    return "never" if run["warned_at"] is None else f"step {run['warned_at']}"


def table_head(*cells: str) -> list[str]:
    """The first two lines of a table."""
    return [table_row(*cells), table_row(*["---"] * len(cells))]


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def percent(metric: Metric) -> str:
    return f"{metric.value:.1%} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def plain_percent(metric: Metric) -> str:
    """For a table whose title says that it is in percent."""
    return f"{100 * metric.value:.1f} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def signed(metric: Metric) -> str:
    """A difference in percentage points."""
    return f"{100 * metric.value:+.1f} ({100 * metric.low:+.1f} to {100 * metric.high:+.1f})"


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
