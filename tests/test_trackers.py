# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""wandb without a network, and trackio: what they are told, in one run for all ranks and for the resumed training."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

import tiny
from given import cpu_config
from gsm8k_run import GSM8K_ROWS, arguments, write_rows
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.durability.trackers import RUN_ID_FILE, TrackerRun


SECRETS = {"WANDB_API_KEY": "0ddba11" * 6, "HF_TOKEN": "hf_secretOfAnn"}
SCRIPT = str(Path(__file__).with_name("plain_python.py"))
TOKENIZER = tiny.byte_level_tokenizer(num_merges=60)


def make_trainer(output_dir: Path, **settings: Any) -> LaTROTrainer:
    args = cpu_config(str(output_dir), **{"beta": 0.0, "report_to": "wandb", **settings})
    return LaTROTrainer(tiny.tiny_model(TOKENIZER), args, tiny.tiny_dataset(4), processing_class=TOKENIZER)


def begin_training(output_dir: Path, resumed: bool, **settings: Any) -> LaTROConfig:
    trainer = make_trainer(output_dir, **settings)
    trainer.tracker_run.begin_training(trainer, resumed)
    return trainer.args


def test_a_resumed_training_has_its_run_again_and_a_new_one_a_new_run(tmp_path: Path, own_wandb: None) -> None:
    wandb.setup()  # as `wandb.login()` does: from here on wandb does not look at the environment
    names = []
    for resumed in (False, True, False):
        args = begin_training(tmp_path / "run", resumed)
        run_id = (tmp_path / "run" / RUN_ID_FILE).read_text()
        assert args.run_name == f"run-{run_id}"
        assert (wandb.run.id, wandb.run.name, wandb.run.project) == (run_id, args.run_name, "huggingface")
        assert "WANDB_RUN_ID" not in os.environ  # this process may train something else
        names.append(args.run_name)
        wandb.finish()
    assert names[0] == names[1] != names[2]


def test_a_checkpoint_from_before_the_trackers_gets_a_run(tmp_path: Path, own_wandb: None) -> None:
    begin_training(tmp_path, resumed=True)
    assert wandb.run.id == (tmp_path / RUN_ID_FILE).read_text()


def test_the_users_own_name_and_id_stay(tmp_path: Path, own_wandb: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    args = begin_training(tmp_path, False, run_name="my run", trackio_static_space_id="ann/logs")
    assert (wandb.run.id, args.run_name, args.trackio_static_space_id) == ("mine", "my run", "ann/logs")


def test_a_run_that_the_user_has_opened_is_that_of_the_training(tmp_path: Path, own_wandb: None) -> None:
    mine = wandb.init(id="opened", project="mine")
    begin_training(tmp_path, False)
    assert wandb.run is mine
    wandb.finish()
    begin_training(tmp_path, True)
    assert wandb.run.id == "opened"
    wandb.finish()

    another = wandb.init(id="another", project="mine")
    trainer = make_trainer(tmp_path)
    trainer.tracker_run.begin_evaluation(trainer)
    trainer.tracker_run.begin_training(trainer, True)
    assert wandb.run is another


def test_without_a_tracker_nothing_is_written(tmp_path: Path, own_wandb: None) -> None:
    args = begin_training(tmp_path, False, report_to="none")
    assert not (tmp_path / RUN_ID_FILE).exists()
    assert wandb.run is None and args.run_name is None


def test_only_the_training_writes_the_id(tmp_path: Path, own_wandb: None) -> None:
    begin_training(tmp_path, False)
    run_id = (tmp_path / RUN_ID_FILE).read_text()
    wandb.finish()
    trainer = make_trainer(tmp_path)
    trainer.tracker_run.begin_evaluation(trainer)
    assert wandb.run.id != run_id == (tmp_path / RUN_ID_FILE).read_text()


def test_a_push_does_not_publish_trackios_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local, in_a_space = cpu_config(str(tmp_path)), cpu_config(str(tmp_path), trackio_space_id="ann/space")
    for args in (local, in_a_space):
        TrackerRun(args)
    assert local.trackio_static_space_id is False
    assert in_a_space.trackio_static_space_id is None  # trackio's own way with the Space that the user asked for
    monkeypatch.setenv("TRACKIO_SPACE_ID", "ann/space")
    args = cpu_config(str(tmp_path))
    TrackerRun(args)
    assert args.trackio_static_space_id is None


def wandb_history(folder: Path) -> list[dict[str, Any]]:
    """What an offline run was told: a log of records in blocks of 32 KiB, each part with its checksum, length and type."""
    from wandb.proto.wandb_internal_pb2 import Record

    def records() -> Iterator[Record]:
        (path,) = folder.glob("*.wandb")
        data, position, whole = path.read_bytes(), 7, b""
        while position + 7 <= len(data):
            if 32768 - position % 32768 < 7:  # no room for a head: the rest of the block is empty
                position += 32768 - position % 32768
                continue
            _, length, kind = struct.unpack_from("<IHB", data, position)
            part = data[position + 7 : position + 7 + length]
            position += 7 + length
            full, first, last = 1, 2, 4
            whole = part if kind in (full, first) else whole + part
            if kind in (full, last):
                yield Record.FromString(whole)

    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records()
        if record.HasField("history")
    ]


def wandb_tables(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of the completions tables, in the order in which they were logged."""
    numbered = {int(path.name.split("_")[1]): path for path in folder.glob("files/media/table/*.json")}
    tables = [json.loads(numbered[number].read_text()) for number in sorted(numbered)]
    return [[dict(zip(table["columns"], row, strict=True)) for row in table["data"]] for table in tables]


def steps_of(metric: str, history: list[dict[str, Any]]) -> list[int]:
    return [entry["train/global_step"] for entry in history if metric in entry]


def trackio_entries(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Id and name of the run, and what was logged."""
    with sqlite3.connect(folder / "trackio" / "huggingface.db") as database:
        entries = database.execute("SELECT run_id, run_name, metrics FROM metrics ORDER BY id").fetchall()
    return [(run_id, name, json.loads(metrics)) for run_id, name, metrics in entries]


def check_tables(rows: list[list[dict[str, Any]]], step: int) -> None:
    """The first table after a step has that step's four samples, those after the evaluation its samples too."""
    assert {row["step"] for table in rows for row in table} == {step}
    assert len(rows[0]) == 4 and {row["correct"] for row in rows[0]} == {""}
    assert {"yes", "no"} & {row["correct"] for row in rows[-1]}
    assert all(row["answer_logp"] < 0 and row["prompt"] and row["answer"] for row in rows[0])


@pytest.mark.slow
def test_two_ranks_and_a_resumed_training_are_one_run_with_scalars_and_tables_by_step(tmp_path: Path) -> None:
    model = tiny.save_model(tiny.byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "model")
    write_rows(tmp_path, GSM8K_ROWS)
    (tmp_path / "trackers.yaml").write_text("report_to: [wandb, trackio]\n")
    args = arguments(tmp_path, model, "--log_completions", "true", "--config", str(tmp_path / "trackers.yaml"))
    none = args.index("--report_to")  # the command line would count before the file
    args[none : none + 2] = ["--per_device_train_batch_size", "1", "--per_device_eval_batch_size", "1"]
    env = {**os.environ, **SECRETS, "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio")}
    env |= {"ACCELERATE_USE_CPU": "1", "COLUMNS": "400"}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "trl_latro",
    ]

    runs: list[Path] = []
    for step, more in ((1, ["--max_steps", "1"]), (2, ["--resume_from_checkpoint", "last"])):
        done = subprocess.run(
            [*launch, "train", "--task", "gsm8k", *args, *more], env=env, capture_output=True, text=True, timeout=600
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert not [name for name, secret in SECRETS.items() if secret in output]

        # wandb: one more folder, whose name ends with the same id
        new = set(tmp_path.glob("wandb/offline-run-*")) - set(runs)
        assert len(new) == 1
        runs += new
        assert runs[-1].name.split("-")[-1] == (tmp_path / "run" / RUN_ID_FILE).read_text()
        history = wandb_history(runs[-1])
        assert steps_of("train/loss", history) == steps_of("train/latro/answer_logp", history) == [step]
        assert steps_of("eval/accuracy", history) == [step]
        check_tables(wandb_tables(runs[-1]), step)

    # trackio: one run, which all of it was told
    entries = trackio_entries(tmp_path)
    assert len({run_id for run_id, _, _ in entries}) == 1
    assert {name for _, name, _ in entries} == {f"run-{(tmp_path / 'run' / RUN_ID_FILE).read_text()}"}
    history = [metrics for _, _, metrics in entries]
    assert steps_of("train/loss", history) == steps_of("eval/accuracy", history) == [1, 2]
    completions = [entry["completions"]["_value"] for entry in history if "completions" in entry]
    for step in (1, 2):
        check_tables([table for table in completions if table[0]["step"] == step], step)

    secrets = [secret.encode() for secret in SECRETS.values()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.slow
def test_in_python_evaluations_before_and_after_a_resumed_training_are_in_runs_by_id(tmp_path: Path) -> None:
    model = tiny.save_model(TOKENIZER, tmp_path / "model")
    settings = {"output_dir": str(tmp_path / "run"), "report_to": ["wandb", "trackio"], "log_completions": True}

    env = {**os.environ, **SECRETS, "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio")}

    # No forks of one process: the first to end would take wandb's folder for tables with it
    for max_steps, resume in ((1, False), (2, True)):
        calls = [["evaluate", {}], ["train", {"resume_from_checkpoint": resume}], ["evaluate", {}]]
        args = [sys.executable, SCRIPT, model, json.dumps(settings | {"max_steps": max_steps}), json.dumps(calls)]
        done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    run_id = (tmp_path / "run" / RUN_ID_FILE).read_text()
    # By name, in which the time stands. The evaluation before the resumed training is of the model at the start, and in
    # a run of its own.
    first, alone, again = sorted(tmp_path.glob("wandb/offline-run-*"))
    ids = [folder.name.split("-")[-1] for folder in (first, alone, again)]
    assert ids[0] == ids[2] == run_id != ids[1]
    expected = {first: ([1], [0, 1]), alone: ([], [0]), again: ([2], [2])}
    for folder, (losses, evaluations) in expected.items():
        history = wandb_history(folder)
        assert steps_of("train/loss", history) == steps_of("train/latro/answer_logp", history) == losses
        assert steps_of("eval/accuracy", history) == evaluations
        logged = sorted({row["step"] for table in wandb_tables(folder) for row in table})
        assert logged == sorted({*losses, *evaluations})

    entries = trackio_entries(tmp_path)
    assert len({trackio_id for trackio_id, _, _ in entries}) == 2
    told = {name: [metrics for _, of, metrics in entries if of == name] for _, name, _ in entries}
    assert told.keys() == {f"run-{run_id}", f"run-{ids[1]}"}
    assert steps_of("train/loss", told[f"run-{run_id}"]) == [1, 2]
    assert steps_of("eval/accuracy", told[f"run-{run_id}"]) == [0, 1, 2]
    assert steps_of("eval/accuracy", told[f"run-{ids[1]}"]) == [0]
    tables = [metrics["completions"]["_value"] for metrics in told[f"run-{run_id}"] if "completions" in metrics]
    assert {row["step"] for table in tables for row in table} == {0, 1, 2}
