# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a training shows and leaves: lines, metrics.jsonl, the table, curves and the command at its end."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import is_rich_available

from tiny import CHAT_TEMPLATE, byte_level_tokenizer, save_model
from trl_latro.cli import main as cli
from trl_latro.cli.console import COLUMNS, choose_columns, header, row, write_number
from trl_latro.cli.summary import draw_curves, evaluation_command, first_and_last
from trl_latro.cli.train import main as train_main
from trl_latro.cli.train import make_parser, train
from trl_latro.durability.metrics_file import METRICS_FILE, MetricsFile


def data(folder: Path) -> list[str]:
    """A file of one's own, with other columns than the usual ones."""
    rows = [{"ask": f"Who is number {n}?", "reply": "x" * (1 + n % 3)} for n in range(8)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--question_column", "ask", "--answer_column", "reply", "--prompt_template", "Q: {question}"]
    return ["--task", str(folder / "mine.jsonl"), *columns, "--validation_size", "2"]


def arguments(folder: Path, *more: str) -> list[str]:
    if not (folder / "model").exists():
        save_model(byte_level_tokenizer(num_merges=60), folder / "model")
    args = {
        "model_name_or_path": folder / "model",
        "output_dir": folder / "run",
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 8,
        "max_steps": 4,
        "save_steps": 2,
        "report_to": "none",
    }
    return [*data(folder), *(text for name, value in args.items() for text in (f"--{name}", str(value))), *more]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / METRICS_FILE).read_text().splitlines()]


def steps_of(metric: str, entries: list[dict[str, Any]]) -> list[int]:
    return [entry["step"] for entry in entries if metric in entry]


def rows_of(output: str) -> list[str]:
    return [line for line in output.splitlines() if re.match(r" *(eval )?\d+ +-?\d+\.\d", line)]


# ---- lines ----


def test_numbers_stand_under_their_titles() -> None:
    columns = choose_columns(None, label_width=8)
    title = header(columns, 8)
    training = {"reward": -1.4826, "latro/answer_prob": 0.4391, "kl": -0.00001, "completions/mean_length": 10.67}
    evaluation = {"eval_reward": None, "eval_latro/answer_prob": 0.5, "eval_runtime": 12.34, "eval_accuracy": 0.875}
    evaluation |= {"eval_completions/mean_length": 3.0}
    for line, left in (
        (row(columns, "     117", training | {"step_time": 2.04, "latro/finished_ratio": 1.0}, "1:02:03"), True),
        (row(columns, "eval 117", evaluation, ""), False),
    ):
        assert len(line) == (len(title) if left else title.index("accuracy") + len("accuracy"))
        ends = {match.end() for match in re.finditer(r"\S+", title)}
        assert {match.end() for match in re.finditer(r"\d+$|[\d.:-]+(?= |$)|nan", line)} <= ends
    assert row(columns, "     117", training, "00:05").split() == ["117", "-1.483", "0.439", "0.0000", "10.7", "00:05"]
    assert row(columns, "eval 117", evaluation, "").split() == ["eval", "117", "nan", "0.500", "3.0", "12.3", "0.875"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.4826, "-1.483"), (-1234.5678, "-1234.57"), (-1234567.8, "-1234568"), (-1e9, "-1e+09"), (float("nan"), "nan")],
)
def test_a_number_has_as_many_decimals_as_there_is_room_for(value: float, text: str) -> None:
    (reward,) = (column for column in COLUMNS if column.title == "reward")
    assert write_number(value, reward) == text


def test_a_narrow_terminal_has_the_columns_that_fit() -> None:
    assert len(header(choose_columns(80, len("eval 10000")), len("eval 10000"))) <= 80
    assert choose_columns(80, len("eval 10000")) == list(COLUMNS)
    for width in (75, 60, 50, 40):
        assert len(header(choose_columns(width, 8), 8)) <= width
    assert [column.title for column in choose_columns(20, 8)] == ["reward", "accuracy"]


def test_a_line_for_each_log_a_file_with_all_metrics_and_a_command_that_works(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = arguments(tmp_path, "--eval_strategy", "steps", "--eval_steps", "2")
    capfd.readouterr()
    train_main(typed)
    output, errors = capfd.readouterr()
    rows = rows_of(output)
    assert [line.split(".")[0].rpartition(" ")[0].strip() for line in rows] == [
        "1",
        "2",
        "eval 2",
        "3",
        "4",
        "eval 4",
        "eval 4",
    ]
    assert output.count("  step   reward answer_prob      kl tokens finished seconds accuracy    left\n") == 1
    assert "{'loss'" not in output
    assert not re.search(r"[\r\x1b]|it/s|is deprecated|Setting accelerator", output + errors)

    entries = read_metrics(tmp_path)
    assert steps_of("loss", entries) == [1, 2, 3, 4] and steps_of("eval_accuracy", entries) == [2, 4, 4]
    assert all({"kl", "latro/template_logp", "grad_norm"} <= entry.keys() for entry in entries if "loss" in entry)
    assert f"Model saved to {tmp_path / 'run'}." in output
    assert re.search(r"^ +step 1 +step 4\nreward .*\n", output, re.MULTILINE)
    assert "accuracy (evaluations of steps 2 and 4)" in output

    (command,) = (line for line in output.splitlines() if line.startswith("trl-latro evaluate"))
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), "--num_samples", "2"])
    cli.main()
    assert "Prompted as in the model's training" in capfd.readouterr().out
    settings = json.loads((tmp_path / "run-evaluation" / "settings.json").read_text())
    assert (settings["prompt_template"], settings["max_completion_length"]) == ("Q: {question}", 8)
    results = json.loads((tmp_path / "run-evaluation" / "results.json").read_text())
    assert results["questions"] == 2, "those of the file that were not trained on"


def test_curves_are_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    train_main(arguments(tmp_path, "--max_steps", "2", "--eval_on_start", "--beta", "0"))
    assert (tmp_path / "run" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert f"Curves: {tmp_path / 'run' / 'training.png'}." in capsys.readouterr().out
    panels = draw_curves(read_metrics(tmp_path)).axes
    assert [axes.get_title() for axes in panels] == [
        "Reward",
        "Probability of the answer",
        "Tokens of a rationale",
        "Accuracy",
    ]
    assert [list(line.get_xdata()) for line in panels[0].lines] == [[1, 2], [0, 2]]
    assert [list(line.get_xdata()) for line in panels[3].lines] == [[0, 2]]


def test_the_table_at_the_end_leaves_out_what_was_not_logged() -> None:
    history = [
        {"step": 0, "eval_accuracy": 0.25, "eval_reward": -2.0},
        {"step": 1, "reward": -2.0, "step_time": 1.0},
        {"step": 2, "reward": None, "step_time": 1.0},
        {"step": 3, "reward": -0.5, "step_time": 2.0},
        {"step": 3, "train_runtime": 9.0},
        {"step": 3, "eval_accuracy": float("nan")},
    ]
    assert [line.split() for line in first_and_last(history).splitlines()] == [
        ["step", "1", "step", "3"],
        ["reward", "-2.000", "-0.500"],
        ["seconds", "1.0", "2.0"],
        ["accuracy", "(evaluation", "of", "step", "0)", "0.250"],
    ]


def test_verbose_brings_the_dictionary_back_and_steps_without_a_log_of_their_own_are_in_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--max_steps", "3", "--logging_steps", "2", "--validation_size", "0")
    train_main(arguments(tmp_path, *more, "--verbose"))
    verbose = capsys.readouterr().out
    assert verbose.count("{'loss'") == 1 and "'latro/template_logp'" in verbose and not rows_of(verbose)
    assert steps_of("reward", read_metrics(tmp_path)) == [2, 3]
    train_main(arguments(tmp_path, *more, "--overwrite_output_dir", "--disable_tqdm", "true", "--log_completions"))
    lines = capsys.readouterr().out
    assert [line.split()[0] for line in rows_of(lines)] == ["2", "3"] and "{'loss'" not in lines
    assert "╭" in lines or not is_rich_available(), "TRL's table of completions is there if it is asked for"
    assert steps_of("reward", read_metrics(tmp_path)) == [2, 3]


def test_on_a_narrow_terminal_bars_are_gone_and_lines_fit(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 60))
    command = [sys.executable, "-m", "trl_latro", "train", *arguments(tmp_path, "--max_steps", "2")]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(command, stdout=its, stderr=its, stdin=subprocess.DEVNULL, env=environment)
    os.close(its)
    written = b""
    while True:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=60) == 0
    # What stays on the screen of each line: what was written over it last
    lines = [re.split(r"\r(?=.)", line)[-1].strip("\r") for line in written.decode().split("\n")]
    shown = [line for line in lines if line.strip()]
    assert b"/2 [" in written, "there is a bar"
    assert not [line for line in shown if "/2 [" in line], "which is gone at the end"
    rows = [line for line in shown if re.match(r" *(eval )?\d+ +-\d", line)]
    assert [line.split()[0] for line in rows] == ["1", "2", "eval"]
    assert max(map(len, rows)) <= 60
    assert not [line for line in shown if "deprecated" in line or "Setting accelerator" in line]


# ---- metrics.jsonl ----


class Lines(TrainerCallback):
    """Counts the lines of metrics.jsonl whenever something is logged."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        text = (Path(args.output_dir) / METRICS_FILE).read_text()
        assert text.endswith("\n")
        self.counts.append((len(text.splitlines()), len(state.log_history)))


def test_each_log_is_in_the_file_at_once(tmp_path: Path) -> None:
    lines = Lines()
    train(*make_parser().parse_args_and_config(arguments(tmp_path)), callbacks=[lines])
    assert lines.counts == [(n, n) for n in range(1, 7)]  # 4 steps, the summary, the evaluation


def test_a_resumed_training_goes_on_after_its_checkpoint(tmp_path: Path) -> None:
    train_main(arguments(tmp_path))
    whole = read_metrics(tmp_path)
    run = tmp_path / "run"
    # As if it had been killed in step 4, in the middle of a line
    shutil.rmtree(run / "checkpoint-4")
    with (run / METRICS_FILE).open("a") as file:
        file.write('{"step": 4, "loss": 0.')
    train_main(arguments(tmp_path, "--resume_from_checkpoint", "last"))
    resumed = read_metrics(tmp_path)
    assert steps_of("loss", resumed) == [1, 2, 3, 4] and len(resumed) == len(whole)
    assert [entry["loss"] for entry in resumed if "loss" in entry] == [
        entry["loss"] for entry in whole if "loss" in entry
    ]
    train_main(arguments(tmp_path, "--overwrite_output_dir", "--max_steps", "1"))
    assert steps_of("loss", read_metrics(tmp_path)) == [1], "a new training begins a new file"


def test_what_json_has_no_number_for_is_null_and_other_processes_write_nothing(tmp_path: Path) -> None:
    args, control = TrainingArguments(str(tmp_path / "run"), use_cpu=True), TrainerControl()
    (tmp_path / "run").mkdir()
    for is_main in (True, False):
        state = TrainerState(is_world_process_zero=is_main, log_history=[{"loss": 1.0, "step": 1}])
        MetricsFile().on_train_begin(args, state, control)
        state.log_history.append({"loss": float("nan"), "grad_norm": float("inf"), "reward": None, "step": 2})
        MetricsFile().on_log(args, state, control)
    assert (tmp_path / "run" / METRICS_FILE).read_text().splitlines() == [
        '{"step": 1, "loss": 1.0}',
        '{"step": 2, "loss": null, "grad_norm": null, "reward": null}',
    ]


# ---- the command that evaluates the model ----


def command_of(*args: str) -> list[str]:
    task_args, training_args, _ = make_parser().parse_args_and_config([*args, "--output_dir", "a run"])
    command = shlex.split(evaluation_command(task_args, training_args, "a run"))
    assert command[:4] == ["trl-latro", "evaluate", "--model_name_or_path", "a run"]
    assert command[-2:] == ["--output_dir", "a run-evaluation"]
    length = command.index("--max_completion_length")
    assert command[length + 1] == str(training_args.max_completion_length)
    return command[4:length] + command[length + 2 : -2]


def test_the_command_has_the_options_that_say_where_the_questions_are(tmp_path: Path) -> None:
    mine = data(tmp_path)
    task = mine[:6]
    assert command_of(*mine) == [*task, "--validation_size", "2", "--split", "validation"]
    assert command_of(*mine, "--validation_size", "0", "--skip_bad_rows") == [*task, "--skip_bad_rows", "True"]
    drawn = ("--validation_size", "3", "--validation_seed", "7")
    assert command_of(*mine, *drawn, "--trust_remote_code") == [
        *(*task, *drawn),
        *("--split", "validation", "--trust_remote_code", "True"),
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tmp_path / "mine.jsonl", folder / "train.jsonl")
    gsm8k = ("--task", "gsm8k", "--dataset_path", str(folder))
    assert command_of(*gsm8k) == [*gsm8k, "--split", "validation"]
    assert command_of(*gsm8k, "--validation_size", "0") == [*gsm8k, "--validation_size", "0", "--split", "train"]
    shutil.copy(tmp_path / "mine.jsonl", folder / "test.jsonl")
    assert command_of(*gsm8k, "--num_shots", "2", "--validation_seed", "3") == list(gsm8k)


def test_the_command_evaluates_an_adapter_of_a_model_that_thinks_as_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_level_tokenizer(num_merges=60, chat=True)
    tokenizer.chat_template = CHAT_TEMPLATE + "{% if loud %}!{% endif %}"
    save_model(tokenizer, tmp_path / "model")
    unusual = ["--answer_template", "So: {answer}", "--chat_template_kwargs", '{"loud": true}']
    unusual += ["--thinking_tags", "<t>", "</t>", "--use_peft", "--max_steps", "1", "--save_strategy", "no"]
    train_main(arguments(tmp_path, *unusual))
    (command,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("trl-latro evaluate"))
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), "--num_samples", "2"])
    cli.main()
    printed = capsys.readouterr().out
    assert "Prompted as in the model's training, by its latro_prompting.json." in printed
    settings = json.loads((tmp_path / "run-evaluation" / "settings.json").read_text())
    assert settings["answer_template"] == "So: {answer}" and settings["thinking_tags"] == ["<t>", "</t>"]
    assert settings["chat_template_kwargs"] == {"loud": True}
