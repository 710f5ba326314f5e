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

from test_examples import GSM8K_ROWS, arguments, write_rows
from tiny import byte_level_tokenizer, save_model
from trl_latro.scripts.trackers import RUN_ID_FILE, set_up_trackers
from trl_latro.scripts.train import ScriptConfig


SECRETS = {"WANDB_API_KEY": "0ddba11" * 6, "HF_TOKEN": "hf_secretOfAnn"}


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set for a tracker lasts for the test."""
    for name in ("WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def config(output_dir: Path, **settings: Any) -> ScriptConfig:
    return ScriptConfig(output_dir=str(output_dir), **{"report_to": ["wandb", "trackio"], **settings})


def test_a_resumed_training_has_its_run_again_and_a_new_one_a_new_run(tmp_path: Path, own_environment: None) -> None:
    names = []
    for checkpoint in (None, "checkpoint-1", None):
        os.environ.pop("WANDB_RUN_ID", None)  # each is a process of its own
        args = config(tmp_path / "run")
        set_up_trackers(args, checkpoint)
        run_id = (tmp_path / "run" / RUN_ID_FILE).read_text()
        assert args.run_name == f"run-{run_id}"
        assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"]) == (run_id, "allow")
        names.append(args.run_name)
    assert names[0] == names[1] != names[2]


def test_a_checkpoint_from_before_the_trackers_gets_a_run(tmp_path: Path, own_environment: None) -> None:
    set_up_trackers(config(tmp_path), "checkpoint-1")
    assert os.environ["WANDB_RUN_ID"] == (tmp_path / RUN_ID_FILE).read_text()


def test_the_users_own_name_and_id_stay(
    tmp_path: Path, own_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    args = config(tmp_path, run_name="my run", trackio_static_space_id="ann/logs")
    set_up_trackers(args, None)
    assert (os.environ["WANDB_RUN_ID"], args.run_name, args.trackio_static_space_id) == ("mine", "my run", "ann/logs")


def test_without_a_tracker_nothing_is_written(tmp_path: Path, own_environment: None) -> None:
    set_up_trackers(config(tmp_path / "run", report_to="none"), None)
    assert not (tmp_path / "run").exists()
    assert "WANDB_RUN_ID" not in os.environ


def test_a_push_does_not_publish_trackios_logs(tmp_path: Path, own_environment: None) -> None:
    local, in_a_space = config(tmp_path), config(tmp_path, trackio_space_id="ann/space")
    for args in (local, in_a_space):
        set_up_trackers(args, None)
    assert local.trackio_static_space_id is False
    assert in_a_space.trackio_static_space_id is None  # trackio's own way with the Space that the user asked for


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


def steps_of(metric: str, history: list[dict[str, Any]]) -> list[int]:
    return [entry["train/global_step"] for entry in history if metric in entry]


def tables_of(rows: list[list[dict[str, Any]]], update: int) -> None:
    """The first table after an update has that update's four samples, those after the evaluation its samples too."""
    assert {row["step"] for table in rows for row in table} == {update}
    assert len(rows[0]) == 4 and {row["correct"] for row in rows[0]} == {""}
    assert {"yes", "no"} & {row["correct"] for row in rows[-1]}
    assert all(row["answer_logp"] < 0 and row["prompt"] and row["answer"] for row in rows[0])


@pytest.mark.slow
def test_two_ranks_and_a_resumed_training_are_one_run_with_scalars_and_tables_by_step(tmp_path: Path) -> None:
    model = save_model(byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "model")
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
    for update, more in ((1, ["--max_steps", "1"]), (2, ["--resume_from_checkpoint", "last"])):
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
        assert steps_of("train/loss", history) == steps_of("train/latro/answer_logp", history) == [update]
        assert steps_of("eval/accuracy", history) == [update]
        numbered = {int(path.name.split("_")[1]): path for path in runs[-1].glob("files/media/table/*.json")}
        tables = [json.loads(numbered[number].read_text()) for number in sorted(numbered)]
        tables_of(
            [[dict(zip(table["columns"], row, strict=True)) for row in table["data"]] for table in tables], update
        )

    # trackio: one run, which all of it was told
    with sqlite3.connect(tmp_path / "trackio" / "huggingface.db") as database:
        entries = database.execute("SELECT run_id, run_name, metrics FROM metrics ORDER BY id").fetchall()
    assert len({run_id for run_id, _, _ in entries}) == 1
    assert {name for _, name, _ in entries} == {f"run-{(tmp_path / 'run' / RUN_ID_FILE).read_text()}"}
    history = [json.loads(metrics) for _, _, metrics in entries]
    assert steps_of("train/loss", history) == steps_of("eval/accuracy", history) == [1, 2]
    completions = [entry["completions"]["_value"] for entry in history if "completions" in entry]
    for update in (1, 2):
        tables_of([table for table in completions if table[0]["step"] == update], update)

    secrets = [secret.encode() for secret in SECRETS.values()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
