# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""`make gpu`: what it runs and leaves out, where it stops and how it continues, without a GPU."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from tiny import byte_level_tokenizer, save_model


ROOT = Path(__file__).parents[1]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402


def item(folder: Path, name: str, program: str = "", seconds: float = 60, missing: str | None = None) -> gpu.Item:
    """One whose program is run in front of the writing of its result."""
    result = folder / f"{name}.json"
    return gpu.Item(result, ["-c", f"{program}\nopen({str(result)!r}, 'w').write('{{}}')"], seconds, missing)


def names(items: list[gpu.Item]) -> list[str]:
    return [one.result.stem for one in items]


def test_what_has_a_result_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = [item(tmp_path, "first"), item(tmp_path, "absent", missing="there is none"), item(tmp_path, "last")]
    assert gpu.run_items(items[:1], 60) == []
    items[0].result.write_text("as it was")
    assert gpu.run_items(items, 60) == []
    assert items[0].result.read_text() == "as it was"
    assert items[2].result.exists() and not items[1].result.exists()
    assert "absent: left out, there is none\n" in capsys.readouterr().out


def test_an_item_that_fails_or_takes_too_long_leaves_the_others_their_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    child = f"import subprocess, time; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(300)', {str(tmp_path)!r}])"
    items = [
        item(tmp_path, "slow", f"{child}; time.sleep(300)", seconds=2),
        item(tmp_path, "broken", "print('before'); raise SystemExit('no such thing')"),
        item(tmp_path, "good"),
    ]
    assert names(gpu.run_items(items, 60)) == ["slow", "broken"]
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(one.info["cmdline"])]
    said = capsys.readouterr().out
    assert "slow: ended after its 2 s, see " in said
    assert f"broken: failed with status 1, see {tmp_path / 'broken.log'}: no such thing\n" in said


def test_the_time_for_all_of_it_ends_the_list(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = [item(tmp_path, "slow", "import time; time.sleep(300)"), item(tmp_path, "late")]
    assert names(gpu.run_items(items, 1.5)) == ["slow", "late"]
    assert "late: not started, the time is up\n" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^There is no GPU that PyTorch can use: `make benchmark` measures what"):
        gpu.main(["--output", str(tmp_path)])


def test_the_list_of_a_gpu_has_every_mode_at_both_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    args = gpu.make_parser().parse_args(["--output", str(tmp_path), "--smollm2", str(tmp_path / "absent")])
    items = gpu.make_items(args)
    assert len(set(names(items))) == len(items)
    for shape in ("llama-3.1-8b", "qwen2.5-0.5b"):
        for mode in ("training", "memory", "rollout", "profile", "colocate"):
            assert any(name.startswith(f"{shape}-{mode}-nvidia-h100-80gb-hbm3") for name in names(items))
    missing = {one.result.stem: one.missing for one in items}
    assert missing["smollm2-gsm8k-nvidia-h100-80gb-hbm3"].startswith(f"there is no {tmp_path / 'absent'}: make it")


def finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


@pytest.mark.slow
def test_the_whole_list_on_a_cpu_stops_continues_and_writes_its_tables(tmp_path: Path) -> None:
    if not GSM8K.exists():
        pytest.skip(f"there is no {GSM8K}")
    model = save_model(
        byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "model", max_position_embeddings=4096
    )
    results = tmp_path / "results"
    shutil.copy(ROOT / "docs" / "speed.md", tmp_path)
    options = ["--device", "cpu", "--output", str(results), "--docs", str(tmp_path), "--smollm2", model]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *options, "--dataset-path", str(GSM8K)]

    first_call = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 300
    while not finished(results) and time.monotonic() < end:
        time.sleep(0.1)
    (first,) = finished(results)
    time.sleep(2)  # the next one is running
    started = psutil.Process(first_call.pid).children(recursive=True)
    assert started
    first_call.send_signal(signal.SIGINT)
    said, _ = first_call.communicate(timeout=60)
    assert first_call.returncode == 1 and "stopped" in said and "the same command goes on with them" in said
    assert not [process for process in started if process.is_running()]
    written = first.stat().st_mtime_ns
    assert finished(results) == [first]

    second_call = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500)
    said = second_call.stdout
    assert second_call.returncode == 0, said
    assert f"{first.stem}: there already, {first}\n" in said
    assert first.stat().st_mtime_ns == written
    modes = {json.loads(path.read_text())["mode"] for path in finished(results)}
    assert {"training", "rollout", "memory", "profile", "gsm8k"} <= modes
    tables = (tmp_path / "speed.md").read_text()
    titles = ["Scoring and training", "Peak memory", "Rollout", "A short training on GSM8K"]
    assert all(f"\n### {title}\n" in tables for title in titles)
    assert "| greedy accuracy | 0.000 |" in tables
