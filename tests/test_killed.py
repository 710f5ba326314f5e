# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A rank of a training is killed, the disk gets full, or a checkpoint is damaged: the resumed training is the one that was
not stopped.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from backends import skip_without_deepspeed
from disks import mounted
from tiny import byte_level_tokenizer, save_model
from trl_latro.durability.checkpoints import is_whole
from trl_latro.durability.lock import locked


WORKER = Path(__file__).parent / "killed_worker.py"
ZERO3 = Path(__file__).parents[1] / "examples" / "deepspeed" / "zero3.json"
BIN = Path(sys.executable).parent
UPDATES = 10
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port={port}"]
DEEPSPEED = [sys.executable, str(BIN / "deepspeed"), "--num_accelerators", "2", "--master_port", "{port}"]


def settings(folder: Path) -> list[str]:
    """A generation batch lasts for four updates, so that every other checkpoint falls inside one."""
    rows = [{"ask": f"Who is number {n}?", "reply": "x" * (1 + n % 3)} for n in range(12)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = {
        "model_name_or_path": save_model(byte_level_tokenizer(num_merges=60), folder / "model"),
        "task": folder / "mine.jsonl",
        "question_column": "ask",
        "answer_column": "reply",
        "output_dir": "run",
        "validation_size": 2,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "max_completion_length": 8,
        "max_steps": UPDATES,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "save_total_limit": 2,
        "metric_for_best_model": "reward",
        "load_best_model_at_end": True,
        "learning_rate": 3e-3,
        "disable_tqdm": True,
        "verbose": True,  # a dictionary for every step
        "report_to": "none",
    }
    return [text for name, value in args.items() for text in (f"--{name}", str(value))]


def start(
    launcher: list[str], args: list[str], folder: Path, kill: str = "", cwd: Path | None = None
) -> subprocess.Popen:
    """Start two ranks in `cwd` or `folder`, their output in `folder/log`; see `killed_worker.py` about `kill`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {"KILL": kill, "PYTHONUNBUFFERED": "1"}
    env |= {"ACCELERATE_USE_CPU": "1"} if launcher == TORCHRUN else {"DS_ACCELERATOR": "cpu"}
    env["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # DeepSpeed looks for ninja
    with open(folder / "log", "w") as log:
        command = [part.format(port=port) for part in launcher]
        return subprocess.Popen(
            [*command, str(WORKER), "train", *args],
            cwd=cwd or folder,
            env={**os.environ, **env},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(process: subprocess.Popen, folder: Path, killed: bool) -> str:
    """The output of a run, once the launcher has seen to the ranks that are left and has ended."""
    status = process.wait(timeout=240)
    output = (folder / "log").read_text()
    assert (status != 0) == killed, output
    return output


def signal_rank_1(process: subprocess.Popen, folder: Path, update: int, number: signal.Signals) -> None:
    """Wait for an update's line of the log, and send the rank a signal somewhere in the next one."""
    while (folder / "log").read_text().count("{'loss'") < update:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
    ranks = psutil.Process(process.pid).children(recursive=True)
    (rank,) = [child for child in ranks if child.environ().get("RANK") == "1"]
    rank.send_signal(number)


def outcome(run: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The last state without times, the parameters of the last update and of the best one, and the random states."""
    state = json.loads((run / f"checkpoint-{UPDATES}" / "trainer_state.json").read_text())
    for entry in state["log_history"]:
        for name in [name for name in entry if "time" in name or "per_second" in name]:
            del entry[name]
    tensors = {}
    for folder in (run, run / f"checkpoint-{UPDATES}"):
        tensors |= {f"{folder.name} {name}": value for name, value in load_file(folder / "model.safetensors").items()}
    for rank in range(2):
        random_states = torch.load(run / f"checkpoint-{UPDATES}" / f"rng_state_{rank}.pth", weights_only=False)
        tensors |= {f"random state {rank}": random_states["cpu"]}
    return state, tensors


def check_killed_is_unkilled(
    launcher: list[str], more: list[str], tmp_path: Path, kills: list[str], random_kill: bool
) -> None:
    args = [*settings(tmp_path), *more]
    unkilled, killed = tmp_path / "unkilled", tmp_path / "killed"
    unkilled.mkdir()
    killed.mkdir()
    finish(start(launcher, args, unkilled), unkilled, killed=False)
    state, tensors = outcome(unkilled / "run")
    assert len(state["log_history"]) == UPDATES + UPDATES // 2
    assert state["best_model_checkpoint"] in {f"run/checkpoint-{step}" for step in range(2, UPDATES + 1, 2)}

    resume: list[str] = []
    if random_kill:
        update = random.randint(3, 5)  # there is a checkpoint by then
        print(f"rank 1 is killed after update {update}")
        process = start(launcher, args, killed)
        signal_rank_1(process, killed, update, signal.SIGKILL)
        finish(process, killed, killed=True)
        resume = ["--resume_from_checkpoint", "last"]
    cut_short = None
    for kill in [*kills, ""]:
        output = finish(start(launcher, [*args, *resume], killed, kill), killed, killed=kill != "")
        said = f"{cut_short} was cut short while it was written. It is passed over."
        assert cut_short is None or said in output, output
        resume = ["--resume_from_checkpoint", "last"]
        if kill:
            cut_short = Path("run") / kill.removeprefix("0:").removeprefix("1:").split("/")[0]
            assert (killed / cut_short).is_dir() and not is_whole(killed / cut_short)

    check_outcome(killed / "run", state, tensors)


def check_outcome(run: Path, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    killed_state, killed_tensors = outcome(run)
    assert killed_state == state
    assert killed_tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(killed_tensors[name], tensor, rtol=0, atol=0)


@pytest.mark.slow
def test_two_ddp_ranks_killed(tmp_path: Path) -> None:
    kills = [
        "1:checkpoint-6/process_state_1.pth",
        "0:checkpoint-8/trainer_state.json",
        "0:checkpoint-10/manifest.json",
    ]
    check_killed_is_unkilled(TORCHRUN, [], tmp_path, kills, random_kill=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [3, 2])
def test_two_deepspeed_ranks_killed(tmp_path: Path, stage: int) -> None:
    skip_without_deepspeed()
    config = json.loads(ZERO3.read_text())
    zero = config["zero_optimization"]
    config["zero_optimization"] = zero | {"stage": stage}
    (tmp_path / "zero.json").write_text(json.dumps(config))
    kills = ["1:checkpoint-6/global_step6/zero_pp_rank_1_mp_rank_00_optim_states.pt"]
    more = ["--deepspeed", str(tmp_path / "zero.json")]
    check_killed_is_unkilled(DEEPSPEED, more, tmp_path, kills, random_kill=stage == 3)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_sigterm_to_one_of_two_ranks_ends_both_after_the_same_update(tmp_path: Path, launcher: list[str]) -> None:
    more = []
    if launcher == DEEPSPEED:
        skip_without_deepspeed()
        more = ["--deepspeed", str(ZERO3)]
    args = [*settings(tmp_path), *more]
    unstopped, stopped = tmp_path / "unstopped", tmp_path / "stopped"
    unstopped.mkdir()
    stopped.mkdir()
    finish(start(launcher, args, unstopped), unstopped, killed=False)

    process = start(launcher, args, stopped)
    signal_rank_1(process, stopped, 5, signal.SIGTERM)
    output = finish(process, stopped, killed=False)
    (update,) = set(re.findall(r"SIGTERM after step (\d+)", output))
    assert 5 < int(update) < UPDATES
    assert is_whole(stopped / "run" / f"checkpoint-{update}")
    finish(start(launcher, [*args, "--resume_from_checkpoint", "last"], stopped), stopped, killed=False)
    check_outcome(stopped / "run", *outcome(unstopped / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_two_ranks_agree_on_a_damaged_checkpoint_and_on_a_folder_in_use(tmp_path: Path, launcher: list[str]) -> None:
    args, lost = settings(tmp_path), "process_state_1.pth"
    if launcher == DEEPSPEED:
        skip_without_deepspeed()
        args += ["--deepspeed", str(ZERO3)]
        lost = f"global_step{UPDATES}/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    finish(start(launcher, args, tmp_path), tmp_path, killed=False)
    run = tmp_path / "run"
    state, tensors = outcome(run)
    args += ["--resume_from_checkpoint", "last"]

    with locked(run):
        output = finish(start(launcher, args, tmp_path), tmp_path, killed=True)
    assert f"output_dir 'run' is in use by another training (process {os.getpid()} on " in output, output

    (run / f"checkpoint-{UPDATES}" / lost).unlink()
    output = finish(start(launcher, args, tmp_path), tmp_path, killed=False)
    said = f"run/checkpoint-{UPDATES} is damaged: {lost} is missing. It is passed over."
    assert output.count(said) == 1, output
    check_outcome(run, state, tensors)


@pytest.mark.slow
def test_a_full_disk_ends_two_ranks_with_one_sentence(tmp_path: Path) -> None:
    args = settings(tmp_path)
    with mounted(tmp_path / "disk", "size=2m") as disk:
        (disk / "filler").write_bytes(b"0" * 1_300_000)  # leaves room for two checkpoints of 300 KB
        output = finish(start(TORCHRUN, args, disk.parent, cwd=disk), disk.parent, killed=True)
        said = (
            r"^trl-latro train: run/checkpoint-6 could not be written to its end, with 0 MiB free on its disk: .*\. "
        )
        said += r"The earlier checkpoints are whole: once the cause is gone, continue from the last with "
        assert re.search(said + r"resume_from_checkpoint='run/checkpoint-4'\.$", output, re.MULTILINE), output
        assert [is_whole(disk / "run" / f"checkpoint-{step}") for step in (2, 4, 6)] == [True, True, False]
        (disk / "filler").unlink()
        args += ["--resume_from_checkpoint", "last"]
        finish(start(TORCHRUN, args, disk.parent, cwd=disk), disk.parent, killed=False)
        state, _ = outcome(disk / "run")
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == list(range(1, UPDATES + 1))
