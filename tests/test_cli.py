# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The commands as a user types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trl import ModelConfig

import trl_latro
from tiny import byte_level_tokenizer, save_model
from trl_latro.cli import main as cli
from trl_latro.cli.evaluate import EvaluationArguments
from trl_latro.cli.option_groups import OPTION_GROUPS
from trl_latro.cli.parser import CommandParser
from trl_latro.cli.plan import PlanConfig
from trl_latro.cli.probe import ProbeArguments
from trl_latro.cli.reward_arguments import RewardArguments
from trl_latro.cli.train import ScriptConfig, make_parser
from trl_latro.latro_trainer import LaTROTrainer


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "trl-latro"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def own_data(folder: Path) -> tuple[str, ...]:
    """Questions of one's own and a tiny run on them."""
    rows = [{"ask": f"Who is number {n}?", "reply": "x" * (1 + n % 3)} for n in range(8)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = {
        "model_name_or_path": save_model(byte_level_tokenizer(num_merges=60), folder / "model"),
        "task": str(folder / "mine.jsonl"),
        "question_column": "ask",
        "answer_column": "reply",
        "output_dir": str(folder / "run"),
        "validation_size": 2,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 8,
        "max_steps": 1,
        "eval_strategy": "steps",
        "save_strategy": "no",
        "report_to": "none",
    }
    return tuple(text for name, value in args.items() for text in (f"--{name}", str(value)))


def test_train_on_a_file_of_ones_own(tmp_path: Path) -> None:
    done = run("train", *own_data(tmp_path))
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) <= {"No GPU found: running with use_cpu=True and bf16=False."}, "no noise"
    assert "Setting accelerator" not in done.stdout
    assert f"Model saved to {tmp_path / 'run'}." in done.stdout
    assert "2 prompts x 2 samples per step, 1 steps, 0.33 of an epoch (6 questions)" in done.stdout
    metrics = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    assert {"eval_accuracy", "eval_maj@2", "eval_no_answer"} <= metrics.keys()


def test_renamed_functions_that_other_packages_call_are_not_shown(tmp_path: Path) -> None:
    calls = f"""
import sys, torch, torch.distributed as dist
from trl_latro.cli.noise import reduce_noise
if sys.argv[1:] == ["reduced"]:
    reduce_noise()
dist.init_process_group("gloo", init_method="file://{tmp_path}/" + sys.argv[-1], rank=0, world_size=1)
dist.all_gather_into_tensor(torch.zeros(1), torch.ones(1))
"""
    shown = {
        how: subprocess.run([sys.executable, "-c", calls, how], capture_output=True, text=True, check=True).stderr
        for how in ("reduced", "not")
    }
    assert not shown["reduced"]
    if "is deprecated" not in shown["not"]:
        pytest.skip("this version of torch has not renamed it")


@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint_and_status_0(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "trl-latro"), "train", *own_data(tmp_path), "--eval_strategy", "no"]
    started = subprocess.Popen([*command, "--max_steps", "100000"], stdout=subprocess.PIPE, text=True)
    assert next(line for line in started.stdout if line.split()[:1] == ["1"]), "a line of the console"
    started.terminate()
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 0
    assert "with a checkpoint. Continue with --resume_from_checkpoint last." in output
    assert not (tmp_path / "run" / "model.safetensors").exists(), "the model is not done"
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    steps = int(checkpoint.name.split("-")[1]) + 1
    done = run("train", *own_data(tmp_path), "--max_steps", str(steps), "--resume_from_checkpoint", "last")
    assert done.returncode == 0, done.stderr
    assert f"Model saved to {tmp_path / 'run'}." in done.stdout


def test_a_mistake_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    done = run("train", *own_data(tmp_path), "--answer_column", "solution")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("line 1: the columns ['solution'] are missing; the columns present are ['ask', 'reply'].")
    )


def test_the_template_is_the_tasks_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.jsonl").write_text('{"problem": "1?", "solution": "It is $\\\\boxed{1}$."}\n' * 4)
    arguments = [*own_data(tmp_path)[:2], *own_data(tmp_path)[8:], "--task", "math", "--dataset_path", str(tmp_path)]
    for more, expected in (([], "\\boxed{{answer}}"), (["--answer_template", "So: {answer}"], "So: {answer}")):
        monkeypatch.setattr(sys, "argv", ["trl-latro", "train", *arguments, *more, "--eval_strategy", "no"])
        cli.main()
        saved = torch.load(tmp_path / "run" / "training_args.bin", weights_only=False)
        assert saved.answer_template == expected


def test_help_and_unknown_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trl-latro"])
    cli.main()
    usage = capsys.readouterr().out
    assert "usage: trl-latro {train,evaluate,plan,probe}" in usage and "trl-latro compare A B" in usage
    monkeypatch.setattr(sys, "argv", ["trl-latro", "serve"])
    with pytest.raises(SystemExit, match="there is no command 'serve', only"):
        cli.main()
    for command in ("train", "evaluate", "plan", "probe"):
        monkeypatch.setattr(sys, "argv", ["trl-latro", command, "--help"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == [f"usage: trl-latro {command} [--config FILE] [--OPTION VALUE ...]", ""]
        titles = [line.removesuffix(":") for line in lines if re.fullmatch(r"[a-z][\w, ]*:", line)]
        others = ["options of trl", "options of transformers"] if command in ("train", "plan") else []
        groups = [title for title in ["options", *OPTION_GROUPS] if title in titles]
        assert titles == [*groups, *others] and groups[:3] == ["options", "questions", "model"]
        for option in ("--question_column", "--answer_template", "--model_name_or_path", "--help"):
            assert sum(re.match(rf"  (-h, )?{option}\b", line) is not None for line in lines) == 1
        assert lines[2:4] == ["options:", "  -h, --help            show this help message and exit"]


def test_every_option_that_a_command_declares_is_in_one_group() -> None:
    planned = CommandParser([RewardArguments, PlanConfig, ModelConfig])
    parsers = [make_parser(), planned, CommandParser([EvaluationArguments]), CommandParser([ProbeArguments])]
    own = {name for parser in parsers for name, package in parser.packages.items() if package == "trl_latro"}
    assert sorted(name for names in OPTION_GROUPS.values() for name in names) == sorted(own)


@pytest.mark.parametrize("of_type", [ScriptConfig, EvaluationArguments])
def test_an_empty_list_is_typed_as_an_option_without_values(of_type: type, capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser([of_type])
    for name in ("thinking_tags", "rationale_stop_strings"):
        (arguments,) = parser.parse_args_and_config([f"--{name}", "--output_dir", "run"])
        assert getattr(arguments, name) == []
        (arguments,) = parser.parse_args_and_config([f"--{name}", "[A]", "[/A]", "--output_dir", "run"])
        assert getattr(arguments, name) == ["[A]", "[/A]"]
    (arguments,) = parser.parse_args_and_config(["--output_dir", "run"])
    assert arguments.thinking_tags is None
    with pytest.raises(SystemExit):
        CommandParser([RewardArguments]).parse_args_and_config(["--reward_funcs"])
    assert "--reward_funcs/--reward-funcs: expected at least one argument" in capsys.readouterr().err


def test_compare_prints_its_help_and_a_failed_comparison_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["trl-latro", "compare", "--help"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "usage: trl-latro compare A B" in capsys.readouterr().out
    for arguments, message in (
        ([], "Two folders of evaluations are compared .*, got 0"),
        (["a", "b", "c"], r"Two folders of evaluations are compared .*, got 3: \['a', 'b', 'c'\]"),
        (["a", "b", "--seed", "1"], "There is no option '--seed', only two folders of evaluations"),
        ([str(tmp_path), "b"], "is no folder of an evaluation: it has no settings.json"),
    ):
        monkeypatch.setattr(sys, "argv", ["trl-latro", "compare", *arguments])
        with pytest.raises(SystemExit, match=f"^trl-latro compare: .*{message}"):
            cli.main()
    monkeypatch.setattr(sys, "argv", ["trl-latro", "evaluate", "--compare", "a", "b"])
    with pytest.raises(SystemExit, match="^trl-latro evaluate: .*--compare"):
        cli.main()


def test_a_command_loads_what_it_needs_and_the_library_no_command() -> None:
    packages = ("cli", "evaluation", "planning")
    loaded = f"[name for name in {packages} if f'trl_latro.{{name}}' in sys.modules]"
    program = f"""
import json, sys
import trl_latro
found = {{"library": {loaded}}}
import trl_latro.cli.train
found["train"] = {loaded}
import trl_latro.cli.evaluate, trl_latro.cli.compare
found["evaluate"] = {loaded}
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "library": [],
        "train": ["cli"],
        "evaluate": ["cli", "evaluation"],
    }


def test_the_list_of_commands_loads_no_library() -> None:
    program = """
import sys
from trl_latro.cli.main import main
sys.argv = ["trl-latro", "--help"]
main()
print([name for name in ("torch", "transformers", "datasets", "trl", "deepspeed", "wandb") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("usage: trl-latro ") and done.stdout.splitlines()[-1] == "[]"


def test_the_package_gives_its_classes_when_they_are_asked_for() -> None:
    names: dict[str, object] = {}
    exec("from trl_latro import *", names)
    assert {"LaTROConfig", "LaTROTrainer"} <= names.keys() and {"LaTROConfig", "LaTROTrainer"} <= set(dir(trl_latro))
    assert names["LaTROTrainer"] is LaTROTrainer
    with pytest.raises(AttributeError, match="module 'trl_latro' has no attribute 'LatroTrainer'"):
        trl_latro.LatroTrainer  # noqa: B018
