# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""`trl-latro plan` as a user runs it: what it prints, what it refuses, and the recipes."""

import json
from pathlib import Path

import pytest
import yaml

from tiny import byte_level_tokenizer, save_model
from trl_latro.planning.zero import Zero, model_states
from trl_latro.scripts.plan import main


ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "examples" / "configs" / "hardware").glob("*.yaml"))
ZERO3 = str(ROOT / "examples" / "deepspeed" / "zero3.json")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model without weights: whatever reads them fails."""
    path = save_model(byte_level_tokenizer(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    return path


def write_questions(folder: Path) -> str:
    rows = [{"question": f"What is {n} + {n}?", "answer": f"{n}+{n}.\n#### {2 * n}"} for n in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_a_plan_without_data(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    config = str(ROOT / "examples" / "configs" / "gsm8k_llama-3.1-8b.yaml")
    main(
        [
            *("--config", config, "--deepspeed", ZERO3, "--model_name_or_path", model),
            *("--max_prompt_length", "100", "--max_completion_length", "300"),
        ]
    )
    out = capsys.readouterr().out
    assert "8 GPUs, ZeRO-3" in out
    assert "Rows of 100 (prompt: --max_prompt_length) + 300 (rationale) + 16 (answer) tokens" in out
    assert "24 prompts x 16 samples per update, 117 updates\n" in out
    assert "At most 159,744 tokens per update" in out  # 24 x 16 x 416
    assert "generation, 48 samples at once" in out
    assert "Host memory per node" in out
    assert "Fits on GPUs of 24, 40, 48, 80, 141 GB (10% kept free)." in out


def test_a_plan_reads_local_data(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model_name_or_path", model, "--task", "gsm8k", "--dataset_path", write_questions(tmp_path)]
    main(
        [
            *arguments,
            "--validation_size",
            "8",
            "--max_steps",
            "16",
            "--max_completion_length",
            "64",
            "--gpu_memory",
            "8",
        ]
    )
    out = capsys.readouterr().out
    longest = len("What is 10 + 10?\nLet's think step by step.")
    answer = len(" The answer is 10.") + 1
    assert "1 GPU, nothing sharded" in out
    assert f"Rows of {longest} (prompt: the longest of the training data) + 64 (rationale) + {answer} (answer)" in out
    assert "3 prompts x 16 samples per update, 16 updates, 1.50 epochs (32 questions)" in out
    assert "Fits into 8 GiB" in out


def test_what_does_not_fit_is_said(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "--model_name_or_path",
            model,
            "--max_prompt_length",
            "64",
            "--max_completion_length",
            "64",
            "--gpu_memory",
            "0.01",
        ]
    )
    assert "DOES NOT FIT into 0.01 GiB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num_generations", "5"], r"generation_batch_size \(48\) must be divisible by num_generations \(5\)"),
        (["--per_device_eval_batch_size", "3"], "3 samples on each of 1 processes"),
        (["--num_gpus", "3", "--gradient_accumulation_steps", "1"], r"\(12\) must be divisible by num_generations"),
        (["--max_prompt_length", "400"], "of 16 need 544 positions, but the model has 512"),
        (["--num_gpus", "0"], "--num_gpus is 0, but must be more than 0"),
        (["--load_in_4bit"], "need --use_peft: quantized weights cannot be trained"),
        (["--load_in_4bit", "--use_peft", "--deepspeed", ZERO3], "DeepSpeed shards weights of one type only"),
        (["--dtype", "bfloat16"], "weights without float32 masters do not move"),
        (["--deepspeed", "nowhere.json"], "--deepspeed nowhere.json: there is no such file"),
        (["--deepspeed", ZERO3, "--bf16", "false"], "DeepSpeed's estimate is for 16-bit training"),
        (["--optim", "lomo"], "--optim lomo: its memory is not known here"),
        (["--fsdp", "full_shard"], "--fsdp has no estimate here"),
        (["--model_name_or_path", "no_such_folder"], "'no_such_folder': no config.json can be read"),
        (["--task", "gsm8k", "--dataset_path", "questions", "--validation_size", "39"], "has 1 rows, but"),
    ],
)
def test_settings_that_cannot_work(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    (tmp_path / "questions").mkdir()
    write_questions(tmp_path / "questions")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        main(["--model_name_or_path", model, "--max_prompt_length", "64", "--max_completion_length", "128", *more])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_makes_the_papers_updates(
    recipe: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(recipe.read_text())
    assert "model_name_or_path" not in settings and "task" not in settings
    if "deepspeed" in settings:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    machine = {"full_141gb": ("1", "1"), "multi_node": ("8", "2"), "vllm_server": ("6", "1")}
    num_gpus, num_nodes = machine.get(recipe.stem, ("1", "1"))
    monkeypatch.chdir(ROOT)  # paths in the recipes are from there
    main(
        [
            *(
                "--config",
                str(recipe),
                "--model_name_or_path",
                model,
                "--num_gpus",
                num_gpus,
                "--num_nodes",
                num_nodes,
            ),
            *("--max_prompt_length", "64", "--max_completion_length", "64"),
        ]
    )
    out = capsys.readouterr().out
    assert "24 prompts x 16 samples per update, 117 updates" in out
    assert ("Rationales are sampled on vLLM's server" in out) == (recipe.stem == "vllm_server")
    assert ("generation, " in out) == (recipe.stem != "vllm_server")


def test_sharding_divides_what_it_should() -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    count, shards = 1_000_000_000, 8
    bytes_per_parameter = {
        stage: model_states(Zero(stage, False, False), count, 0, shards, 1)[0] / count for stage in (1, 2, 3)
    }
    # 16-bit weights 2, gradients 2 in 16 bit and 4 in 32, masters 4, moments 8
    assert bytes_per_parameter == {1: 2 + 2 + 16 / 8, 2: 2 + 18 / 8, 3: 18 / 8}
    assert model_states(Zero(2, True, False), count, 0, 1, 1)[0] == 2 * count
    assert model_states(Zero(3, True, True), count, 0, 1, 1)[0] == 0
