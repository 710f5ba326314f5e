# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""`trl-latro plan` as a user runs it: what it prints, what it refuses, and the recipes."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from packaging.version import Version
from transformers import Gemma2Config, MixtralConfig
from trl import ModelConfig, TrlParser

from tiny import byte_level_tokenizer, save_model
from trl_latro.cli.budget import count_samples
from trl_latro.cli.plan import PlanConfig, main
from trl_latro.cli.reward_arguments import RewardArguments
from trl_latro.planning.zero import Zero, model_states, read_zero


ROOT = Path(__file__).parents[1]
HARDWARE = ROOT / "examples" / "configs" / "hardware"
RECIPES = sorted(HARDWARE.glob("*.yaml"))
DOCS = (ROOT / "docs" / "guides" / "hardware.md").read_text()
ZERO3 = str(ROOT / "examples" / "deepspeed" / "zero3.json")
TINY = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


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
    config = str(ROOT / "examples" / "configs" / "gsm8k.yaml")
    main(
        [
            *("--config", config, "--deepspeed", ZERO3, "--model_name_or_path", model),
            *("--max_prompt_length", "100", "--max_completion_length", "300"),
        ]
    )
    out = capsys.readouterr().out
    assert "8 GPUs (assumed, see --num_gpus), ZeRO-3" in out
    assert "Rows of 100 (prompt: --max_prompt_length) + 300 (rationale) + 16 (answer) tokens" in out
    assert "24 prompts x 16 samples per step, 117 steps\n" in out
    assert "At most 159,744 tokens per step" in out  # 24 x 16 x 416
    assert "generation, 48 samples at once" in out
    assert re.search(r"Generation: [0-9.]+ GiB of KV cache, [0-9.]+ GiB of weights gathered on each GPU", out)
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
    assert "1 GPU (assumed, see --num_gpus), nothing sharded" in out
    assert f"Rows of {longest} (prompt: the longest of the training data) + 64 (rationale) + {answer} (answer)" in out
    assert "3 prompts x 16 samples per step, 16 steps, 1.50 epochs (32 questions)" in out
    assert "Fits into 8 GiB" in out


def test_a_plan_counts_a_row_for_each_right_answer(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [["1", "one", "a paragraph"], ["2"], ["3"]]
    lines = [json.dumps({"question": f"{row}?", "answer": answer}) for row, answer in enumerate(answers)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    arguments = ["--model_name_or_path", model, "--task", str(tmp_path), "--validation_size", "0", "--gpu_memory", "8"]
    arguments += ["--max_steps", "1", "--max_completion_length", "64"]
    main(arguments)
    out = capsys.readouterr().out
    assert "training step, 48 rows" in out
    assert f"{len(' The answer is a paragraph.') + 1} (answer)" in out
    main([*arguments, "--answer_max_length", "2", "--truncate_answers", "True"])
    assert f"{len(' The answer is .') + 2} (answer)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "epochs"),
    [("gsm8k", "0.39 of an epoch (7,217 questions)"), ("arc_challenge", "2.51 epochs (1,119 questions)")],
)
def test_a_named_tasks_questions_are_counted_without_its_data(
    model: str, capsys: pytest.CaptureFixture[str], task: str, epochs: str
) -> None:
    machine = ["--num_gpus", "8", "--max_prompt_length", "64", "--max_completion_length", "64"]
    main(["--model_name_or_path", model, "--task", task, "--max_steps", "117", *machine])
    out = capsys.readouterr().out
    assert "\n8 GPUs, nothing sharded\n" in out
    assert f"24 prompts x 16 samples per step, 117 steps, {epochs}\n" in out


def test_a_model_has_the_attention_that_transformers_gives_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Gemma2Config(**TINY, head_dim=8).save_pretrained(tmp_path)
    rows = ["--max_prompt_length", "32", "--max_completion_length", "32"]
    main(["--model_name_or_path", str(tmp_path), *rows])
    assert "training step, 16 rows" in capsys.readouterr().out
    if Version(transformers.__version__) >= Version("5.23"):  # older ones give it sdpa all the same
        with pytest.raises(ValueError, match="Gemma2ForCausalLM does not support"):
            main(["--model_name_or_path", str(tmp_path), "--attn_implementation", "sdpa", *rows])


@pytest.mark.skipif(
    Version(torch.__version__) >= Version("2.15"), reason="torch 2.15 runs Mixtral on tensors without memory"
)
def test_a_model_that_cannot_run_without_memory_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MixtralConfig(**TINY, num_local_experts=4).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"activations of MixtralForCausalLM cannot be estimated: .*\)\.$") as raised:
        main(["--model_name_or_path", str(tmp_path), "--max_prompt_length", "32", "--max_completion_length", "32"])
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert "failed while attempting" not in caplog.text


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
        (
            ["--num_gpus", "3", "--gradient_accumulation_steps", "1", "--per_device_train_batch_size", "4"],
            r"\(12\) must be divisible by num_generations",
        ),
        (["--max_prompt_length", "400"], "of 16 need 544 positions, but the model has 512"),
        (["--num_gpus", "0"], "--num_gpus is 0, but must be more than 0"),
        (["--load_in_4bit"], "need --use_peft: quantized weights cannot be trained"),
        (["--load_in_4bit", "--use_peft", "--deepspeed", ZERO3], "DeepSpeed shards weights of one type only"),
        (["--dtype", "bfloat16"], "weights without float32 masters do not move"),
        (["--deepspeed", "nowhere.json"], "--deepspeed nowhere.json: there is no such file"),
        (["--deepspeed", ZERO3, "--bf16", "false"], "DeepSpeed's estimate is for 16-bit training"),
        (["--optim", "lomo"], "--optim lomo: its memory is not known here"),
        (["--fsdp", "full_shard"], "--fsdp has no estimate here"),
        (
            ["--attn_implementation", "flash_attention_2"],
            "--attn_implementation flash_attention_2 has no estimate here",
        ),
        (
            ["--model_name_or_path", "no_such_folder"],
            "'no_such_folder': there is no such folder .* its cache has no whole copy of config.json",
        ),
        (["--task", "gsm8kk"], "There is no task 'gsm8kk'"),
        (["--task", "gsm8k", "--grader", "my.grader"], "--grader belongs to your own data"),
        (["--task", "data.jsonl", "--prompt_template", "Q"], "There is no task 'data.jsonl', and no file"),
        (["--task", "a/b", "--prompt_template", "Q"], "has no {question}"),
        (["--task", "gsm8k", "--validation_size", "7472"], "has 1 rows, but"),
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


def plan_command(recipe: Path) -> str:
    """The `trl-latro plan` of a recipe's header, on one line."""
    command = re.search("trl-latro plan .*", re.sub(r" \\\n# +", " ", recipe.read_text()))
    assert command is not None
    return command[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_makes_the_papers_steps(
    recipe: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(recipe.read_text())
    assert "model_name_or_path" not in settings and "task" not in settings
    if "deepspeed" in settings:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    command = plan_command(recipe)
    assert command.replace("meta-llama/Llama-3.1-8B-Instruct", "MODEL") in DOCS
    monkeypatch.chdir(ROOT)  # paths in the recipes are from there
    _, _, *arguments = shlex.split(command)
    smaller = ["--model_name_or_path", model, "--max_prompt_length", "64", "--max_completion_length", "64"]
    main([*arguments, *smaller])
    out = capsys.readouterr().out
    assert "24 prompts x 16 samples per step, 117 steps" in out
    assert ("Rationales are sampled on vLLM's server" in out) == (recipe.stem == "vllm_server")
    assert ("generation, " in out) == (recipe.stem != "vllm_server")


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("lora_24gb", "--steps_per_generation 4"),
        (
            "full_141gb",
            '--deepspeed "" --per_device_train_batch_size 4 --gradient_accumulation_steps 96 --steps_per_generation 8',
        ),
    ],
)
def test_the_documented_changes_of_a_recipe_keep_its_steps(
    recipe: str, changes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"`{changes}`" in DOCS
    monkeypatch.chdir(ROOT)
    parser = TrlParser([RewardArguments, PlanConfig, ModelConfig])
    _, args, _ = parser.parse_args_and_config(["--config", str(HARDWARE / f"{recipe}.yaml"), *shlex.split(changes)])
    assert count_samples(args) == 24 * 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"zero_optimization": {"stage": 3,}}', r"--deepspeed .*zero.json is not JSON \(.*line 1"),
        ('{"zero_optimization": {"stage": 0}}', "--deepspeed has ZeRO stage 0"),
        (
            '{"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/disk"}}}',
            "--deepspeed has offload_param to the device 'nvme', which has no estimate here",
        ),
        (
            '{"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}',
            "only stage 3 offloads weights",
        ),
    ],
)
def test_deepspeed_files_without_an_estimate(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "zero.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_zero(str(path))


@pytest.mark.parametrize("section", [None, {}, {"device": "none"}])
def test_what_is_not_offloaded(section: dict[str, Any] | None) -> None:
    assert read_zero({"zero_optimization": {"stage": 3, "offload_optimizer": section}}) == Zero(3, False, False)


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
