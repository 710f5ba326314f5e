# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Pushes to a Hub on this machine: what lands there loads and generates, and a push that fails loses nothing."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

from cli_worker import Outcome, Run, run_all
from gsm8k_run import GSM8K_ROWS, arguments, last_state, write_rows
from hub_server import TOKEN, Hub, serve
from tiny import byte_level_tokenizer, save_model
from trl_latro import LaTROConfig
from trl_latro.cli.train import make_parser
from trl_latro.prompting import read_prompting


FAILURES = {"fails-500": 500, "fails-401": 401, "fails-lost": "connection lost"}
SCRIPT = str(Path(__file__).with_name("plain_python.py"))
TRACKERS = ["wandb", "trackio"]


class Pushed(NamedTuple):
    hub: Hub
    folder: Path
    outcomes: dict[str, Outcome]

    def output_dir(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Runs of two steps, each pushed to the repository of its name."""
    folder = tmp_path_factory.mktemp("pushes")
    model = save_model(byte_level_tokenizer(num_merges=60, chat=True), folder / "model")
    write_rows(folder, GSM8K_ROWS)

    def run(name: str, *more: str, **env: str) -> Run:
        # The last of two values of an option counts
        args = arguments(folder, model, "--output_dir", str(folder / name), "--push_to_hub", *more)
        return Run(["train", "--task", "gsm8k", *args], env)

    def python(name: str, calls: list[str], env: dict[str, str] | None = None, **settings: Any) -> Run:
        settings = {"output_dir": str(folder / name), "push_to_hub": True, **settings}
        return Run([model, json.dumps(settings), json.dumps([[call, {}] for call in calls])], env or {}, SCRIPT)

    runs = {
        "full": run("full", "--hub_private_repo", "true", "--answer_template", "So: {answer}"),
        "evaluated": Run(
            [
                *("evaluate", "--model_name_or_path", "ann/full", "--task", "gsm8k", "--dataset_path", str(folder)),
                *("--split", "train", "--max_completion_length", "8", "--num_samples", "0", "--validation_size", "0"),
                *("--output_dir", str(folder / "evaluated")),
            ]
        ),
        "adapter": run("adapter", "--hub_strategy", "end", "--use_peft", "--lora_r", "2"),
        "no-access": run("no-access", HF_TOKEN="hf_ofNobody"),
        **{name: run(name) for name in FAILURES},
        "python-full": python(
            "python-full",
            ["evaluate", "train", "evaluate", "push_to_hub"],
            hub_private_repo=True,
            token_from_a_file=True,
            report_to=TRACKERS,
        ),
        "python-adapter": python("python-adapter", ["train", "push_to_hub"], hub_strategy="end", adapter=True),
        "python-no-access": python("python-no-access", [], {"HF_TOKEN": "hf_ofNobody"}),
        "python-pushed-late": python(
            "python-pushed-late",
            ["train", "push_to_hub"],
            {"HF_TOKEN": "hf_ofNobody"},
            push_to_hub=False,
            save_strategy="no",
            hub_private_repo=True,
        ),
        **{f"python-{name}": python(f"python-{name}", ["train", "evaluate", "push_to_hub"]) for name in FAILURES},
        **{
            strategy: python(strategy, ["train"], hub_strategy=strategy, hub_always_push=True, steps_per_generation=4)
            for strategy in ("checkpoint", "all_checkpoints")
        },
    }
    with serve(folder / "hub") as hub:
        failing = {**FAILURES, **{f"python-{name}": failure for name, failure in FAILURES.items()}}
        hub.failures = {f"ann/{name}": failure for name, failure in failing.items()}
        env = hub.environment(folder / "home") | {"WANDB_DIR": str(folder), "TRACKIO_DIR": str(folder / "trackio")}
        yield Pushed(hub, folder, run_all(runs, folder, env))


def written(model: torch.nn.Module, folder: Path) -> str:
    """What a model writes after a prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("What is 1 + 2?", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert ids.size(1) > prompt["input_ids"].size(1)
    return tokenizer.decode(ids[0])


@pytest.mark.slow
def test_a_model_pushed_at_every_save_to_a_private_repository_loads_and_generates(pushed: Pushed) -> None:
    status, output = pushed.outcomes["full"]
    assert status == 0, output
    assert pushed.hub.private["ann/full"]
    *checkpoints, last = pushed.hub.commits["ann/full"]
    assert checkpoints[0] == "Training in progress, step 1"  # the second is left out while the first is under way
    assert last == "End of training" and "Model save" not in checkpoints

    there, here = pushed.hub.files("ann/full"), pushed.output_dir("full")
    assert written(AutoModelForCausalLM.from_pretrained(there), there)
    trained, start = (load_file(path / "model.safetensors") for path in (there, pushed.folder / "model"))
    assert any(not torch.equal(trained[name], start[name]) for name in start)
    assert (there / "model.safetensors").read_bytes() == (here / "model.safetensors").read_bytes()
    assert not list(there.glob("checkpoint-*"))
    card = (there / "README.md").read_text()
    assert "LaTRO" in card and "ann/full" in card
    assert (there / "eval_results.json").is_file()


@pytest.mark.slow
def test_a_model_on_the_hub_is_evaluated_as_it_was_prompted_in_its_training(pushed: Pushed) -> None:
    status, output = pushed.outcomes["evaluated"]
    assert status == 0, output
    assert "Prompted as in the model's training, by its latro_prompting.json." in output
    settings = json.loads((pushed.output_dir("evaluated") / "settings.json").read_text())
    assert settings["answer_template"] == "So: {answer}"


@pytest.mark.slow
def test_an_adapter_pushed_at_the_end_loads_and_generates(pushed: Pushed) -> None:
    status, output = pushed.outcomes["adapter"]
    assert status == 0, output
    assert not pushed.hub.private["ann/adapter"]
    assert pushed.hub.commits["ann/adapter"] == ["End of training"]
    there = pushed.hub.files("ann/adapter")
    assert not (there / "model.safetensors").exists()
    assert written(AutoPeftModelForCausalLM.from_pretrained(there), there)
    adapter = load_file(there / "adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_a_push_that_fails_loses_nothing_and_says_how_to_push_again(pushed: Pushed, name: str) -> None:
    status, output = pushed.outcomes[name]
    repo_id, here = f"ann/{name}", pushed.output_dir(name)
    assert status == 1
    assert "Traceback" not in output
    assert f"A checkpoint could not be pushed to {repo_id}: " in output
    assert pushed.hub.commits[repo_id] == []

    # Trained, saved and evaluated all the same
    assert last_state(here).global_step == 2
    assert (here / "checkpoint-1" / "model.safetensors").is_file()
    assert written(AutoModelForCausalLM.from_pretrained(here), here)
    assert (here / "eval_results.json").is_file()

    *_, sentence, command = output.strip().splitlines()
    assert sentence.startswith(f"The training is done and saved in {here}, but the push to {repo_id} failed: ")
    assert command.startswith(f"hf upload {repo_id} ")
    failure = pushed.hub.failures.pop(repo_id)
    assert isinstance(failure, str) or f"{failure} " in sentence
    push_again(pushed, repo_id, here, command)


def push_again(pushed: Pushed, repo_id: str, here: Path, command: str) -> None:
    """The command that a failed push has named makes up for it, when the Hub works again."""
    hf = [str(Path(sys.executable).with_name("hf")), *shlex.split(command)[1:]]
    env = {**os.environ, **pushed.hub.environment(pushed.folder / "home")}
    again = subprocess.run(hf, env=env, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    there = pushed.hub.files(repo_id)
    kept = {path.name for path in here.iterdir() if not path.name.startswith(("_", "checkpoint-"))}
    assert {path.name for path in there.iterdir()} == kept
    assert written(AutoModelForCausalLM.from_pretrained(there), there)


@pytest.mark.slow
def test_a_hub_that_refuses_the_token_is_said_before_the_training(pushed: Pushed) -> None:
    status, output = pushed.outcomes["no-access"]
    assert status == 1
    assert "Traceback" not in output
    assert (
        "trl-latro train: push_to_hub: the repository 'no-access' could not be made or found: Client error '401"
        in output
    )
    assert "HF_TOKEN" in output.strip().splitlines()[-1]
    assert not pushed.output_dir("no-access").exists()


@pytest.mark.slow
def test_in_python_a_model_lands_in_a_private_repository_and_generates(pushed: Pushed) -> None:
    status, output = pushed.outcomes["python-full"]
    assert status == 0, output
    assert pushed.hub.private["ann/python-full"]
    *checkpoints, last = pushed.hub.commits["ann/python-full"]
    assert checkpoints[0] == "Training in progress, step 1" and last == "End of training"
    there, here = pushed.hub.files("ann/python-full"), pushed.output_dir("python-full")
    assert written(AutoModelForCausalLM.from_pretrained(there), there)
    trained, start = (load_file(path / "model.safetensors") for path in (there, pushed.folder / "model"))
    assert any(not torch.equal(trained[name], start[name]) for name in start)
    assert (there / "model.safetensors").read_bytes() == (here / "model.safetensors").read_bytes()
    assert not list(there.glob("checkpoint-*")) and not list(there.glob("_*"))
    card = (there / "README.md").read_text()
    assert "LaTRO" in card and "ann/python-full" in card


@pytest.mark.slow
def test_in_python_an_adapter_lands_at_the_end_and_generates(pushed: Pushed) -> None:
    status, output = pushed.outcomes["python-adapter"]
    assert status == 0, output
    assert not pushed.hub.private["ann/python-adapter"]
    assert pushed.hub.commits["ann/python-adapter"] == ["End of training"]
    there = pushed.hub.files("ann/python-adapter")
    assert written(AutoPeftModelForCausalLM.from_pretrained(there), there)
    adapter = load_file(there / "adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_in_python_a_push_that_fails_loses_nothing_and_says_how_to_push_again(pushed: Pushed, name: str) -> None:
    status, output = pushed.outcomes[f"python-{name}"]
    repo_id, here = f"ann/python-{name}", pushed.output_dir(f"python-{name}")
    assert status == 1
    assert f"A checkpoint could not be pushed to {repo_id}: " in output
    assert "evaluate {'eval_" in output  # the training went on to its end
    assert pushed.hub.commits[repo_id] == []
    assert last_state(here).global_step == 2
    assert written(AutoModelForCausalLM.from_pretrained(here), here)

    *_, sentence, command = output.strip().splitlines()
    assert sentence.startswith(
        f"trl_latro.durability.hub.PushError: What was saved in {here} is still there, but the push to {repo_id} failed: "
    )
    assert "The above exception was the direct cause of the following exception" in output
    failure = pushed.hub.failures.pop(repo_id)
    assert isinstance(failure, str) or f"{failure} " in sentence
    push_again(pushed, repo_id, here, command)


@pytest.mark.slow
def test_in_python_a_push_that_was_not_announced_fails_after_the_model_is_saved(pushed: Pushed) -> None:
    status, output = pushed.outcomes["python-pushed-late"]
    assert status == 1
    *_, sentence, command = output.strip().splitlines()
    assert "the push to python-pushed-late failed: Client error '401" in sentence
    push_again(pushed, "ann/python-pushed-late", pushed.output_dir("python-pushed-late"), command)
    assert pushed.hub.private["ann/python-pushed-late"]


@pytest.mark.slow
def test_in_python_a_hub_that_refuses_the_token_is_said_before_the_model_is_loaded(pushed: Pushed) -> None:
    status, output = pushed.outcomes["python-no-access"]
    assert status == 1
    assert (
        output.strip()
        .splitlines()[-1]
        .startswith(
            "ValueError: push_to_hub: the repository 'python-no-access' could not be made or found: Client error '401"
        )
    )
    assert "Loading weights" not in output
    assert not pushed.output_dir("python-no-access").exists()


@pytest.mark.slow
def test_the_last_or_every_checkpoint_is_pushed_with_what_a_resumed_training_needs(pushed: Pushed) -> None:
    def names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    for strategy in ("checkpoint", "all_checkpoints"):
        status, output = pushed.outcomes[strategy]
        assert status == 0, output
        there, here = pushed.hub.files(f"ann/{strategy}"), pushed.output_dir(strategy)
        checkpoints = {path.name for path in there.iterdir() if path.is_dir()}
        assert checkpoints == ({"last-checkpoint"} if strategy == "checkpoint" else {"checkpoint-1", "checkpoint-2"})
        for checkpoint in checkpoints:
            copy = here / ("checkpoint-2" if checkpoint == "last-checkpoint" else checkpoint)
            assert names(there / checkpoint) == names(copy) >= {"optimizer.pt", "process_state_0.pth"}
            assert TrainerState.load_from_json(there / checkpoint / "trainer_state.json").global_step == int(
                copy.name.split("-")[1]
            )
        # The samples for the steps to come, as token ids: on the Hub they are in the checkpoints alone
        state = torch.load(there / sorted(checkpoints)[0] / "process_state_0.pth", weights_only=True)
        assert sum(len(batch["input_ids"]) for batch in state["buffered_inputs"]) == 16
        assert {path.parent.name for path in there.rglob("process_state_*")} == checkpoints
        assert written(AutoModelForCausalLM.from_pretrained(there), there)
        # Pushed while the training goes on
        assert read_prompting(there) == read_prompting(here / "checkpoint-2") is not None


@pytest.mark.slow
def test_the_token_is_nowhere_in_what_was_logged_saved_and_pushed(pushed: Pushed) -> None:
    files = [path for path in pushed.folder.rglob("*") if path.is_file()]
    assert {"training_args.bin", "full.log", "README.md"} <= {path.name for path in files}
    # In Python it was an argument, for which a placeholder stands in what was printed and in what trackers record
    assert "hub_token=<HUB_TOKEN>" in pushed.outcomes["python-full"].output
    recorded = [path for path in files if b"<HUB_TOKEN>" in path.read_bytes()]
    assert {".wandb", ".db"} <= {path.suffix for path in recorded}
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_token_among_the_arguments_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hub_token would be written to training_args\.bin.*HF_TOKEN") as error:
        make_parser().parse_args_and_config(["--output_dir", str(tmp_path), "--hub_token", TOKEN])
    assert TOKEN not in str(error.value)


def test_a_token_read_from_a_file_is_not_shown(tmp_path: Path) -> None:
    @dataclass
    class MyConfig(LaTROConfig):
        pass

    for kind in (LaTROConfig, MyConfig):
        # With the end of a line it would be no header, and the HTTP client would repeat it in its error
        args = kind(output_dir=str(tmp_path), hub_token="hf_ofSomeone\n", bf16=False, use_cpu=True)
        assert args.hub_token == "hf_ofSomeone"
        assert "hf_ofSomeone" not in str(args) + repr(args)
