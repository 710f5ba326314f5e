# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The example scripts as a user runs them, and the settings in their configuration files."""

import json
import logging
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from cli_worker import Run, run_all
from gsm8k_run import GSM8K_ROWS, arguments, last_state, write_rows
from tiny import byte_level_tokenizer, save_model
from trl_latro import LaTROConfig
from trl_latro.cli.common import TrainArguments, find_checkpoint
from trl_latro.cli.train import make_parser


ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CONFIGS = sorted((EXAMPLES / "configs").glob("*.yaml"))
LORA_CONFIG = EXAMPLES / "configs" / "gsm8k_lora.yaml"
PAPER_CONFIGS = [config for config in CONFIGS if config != LORA_CONFIG]

ARC_ROWS = [
    {
        "question": f"Which is number {n}?",
        "choices": {"text": ["x", "y"], "label": ["A", "B"]},
        "answerKey": "AB"[n % 2],
    }
    for n in range(8)
]


def run_here(monkeypatch: pytest.MonkeyPatch, script: str, args: list[str]) -> None:
    """Run a script in this process: starting Python anew and importing takes most of the time of a tiny run."""
    monkeypatch.setattr(sys, "argv", [script, *args])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def parse(*args: str) -> tuple[TrainArguments, LaTROConfig, ModelConfig]:
    task_args, training_args, model_args = make_parser().parse_args_and_config(list(args))
    return task_args, training_args, model_args


def test_gsm8k_trains_saves_refuses_to_overwrite_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_model(byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "model")
    write_rows(tmp_path, GSM8K_ROWS)
    args, output_dir = arguments(tmp_path, model), tmp_path / "run"

    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "gsm8k.py"), *args], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No GPU found: running with use_cpu=True and bf16=False.") == 1
    assert f"Model saved to {output_dir}." in done.stdout
    trained, base = (AutoModelForCausalLM.from_pretrained(path) for path in (output_dir, model))
    assert trained.dtype == torch.float32
    moved = [not torch.equal(*pair) for pair in zip(trained.parameters(), base.parameters(), strict=True)]
    assert any(moved)
    card = (output_dir / "README.md").read_text()
    assert "LaTRO" in card and "2411.04282" in card
    metrics = json.loads((output_dir / "eval_results.json").read_text())
    assert metrics["eval_reward"] < 0
    assert last_state(output_dir).global_step == 2

    with pytest.raises(SystemExit, match=r"^gsm8k\.py: .*already holds checkpoints \(the last is checkpoint-2\)"):
        run_here(monkeypatch, "gsm8k.py", args)

    run_here(monkeypatch, "gsm8k.py", [*args, "--max_steps", "3", "--resume_from_checkpoint", "last"])
    state = last_state(output_dir)
    assert state.global_step == 3
    steps = [entry["step"] for entry in state.log_history if "loss" in entry]
    assert steps == [1, 2, 3]  # the first two are those of the run that was resumed

    run_here(monkeypatch, "gsm8k.py", [*args, "--max_steps", "1", "--overwrite_output_dir"])
    assert [path.name for path in output_dir.glob("checkpoint-*")] == ["checkpoint-1"]


def test_arc_challenge_trains_an_adapter_on_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_model(byte_level_tokenizer(num_merges=60), tmp_path / "model")
    write_rows(tmp_path, ARC_ROWS)
    args = arguments(tmp_path, model, "--use_peft", "--lora_r", "2", "--max_steps", "1", "--dtype", "bfloat16")
    run_here(monkeypatch, "arc_challenge.py", args)
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
    training_args = torch.load(tmp_path / "run" / "training_args.bin", weights_only=False)
    assert training_args.beta == 0.25


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--dtype", "bfloat16"],
            "--dtype bfloat16 for full fine-tuning: weights without float32 masters do not move",
        ),
        (
            ["--per_device_eval_batch_size", "3"],
            "3 samples on each of 1 processes, 3 in all, which 2 samples per prompt",
        ),
        (["--resume_from_checkpoint", "last"], "holds no checkpoint"),
        (["--resume_from_checkpoint", "nowhere"], "'nowhere' is not a complete checkpoint"),
        (["--resume_from_checkpoint", "last", "--overwrite_output_dir"], "exclude each other"),
        (["--deepspeed", str(EXAMPLES / "deepspeed" / "zero3.json")], "no launcher started this script"),
        (["--validation_size", "8"], "validation_size is 8, but the training set has 8 rows"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    model = str(tmp_path)
    byte_level_tokenizer().save_pretrained(model)  # no weights: whatever needs them comes too late
    write_rows(tmp_path, GSM8K_ROWS)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit, match=f"^gsm8k.py: .*{message}"):
        run_here(monkeypatch, "gsm8k.py", arguments(tmp_path, model, *more))


def test_every_script_ends_with_one_sentence_where_its_input_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "old").mkdir()
    for run in ("dial-base-0", "weak_house-logprob-0"):  # of the study, and of that of collapse
        (tmp_path / "old" / f"{run}.json").write_text(json.dumps({"seed": 0, "steps": 1, "test_puzzles": 10}))
    plain = ["--output_dir", str(tmp_path / "run")]
    in_file, in_old = ["--output_dir", str(tmp_path / "file" / "run")], ["--output_dir", str(tmp_path / "old")]
    wrong = {
        "gsm8k.py": (plain, "--model_name_or_path is missing: the name or path of the model to train."),
        "arc_challenge.py": (["--config", "nowhere.yaml"], "nowhere.yaml"),
        "baselines/sft_answer.py": (["--task", "nowhere.csv", *plain], "nowhere.csv"),
        "baselines/sft_gold.py": (["--task", "gsm8k", *plain], "--model_name_or_path is missing"),
        "baselines/rejection_sampling.py": (plain, "--samples_dir is missing"),
        "quickstart.py": (in_file, "cannot be written to: Not a directory."),
        "smollm2.py": (in_file, "Not a directory"),
        "study": (in_old, "holds runs with steps 1"),
        "collapse": (in_old, "holds runs with steps 1"),
    }
    runs = {name: Run(args, script=str(EXAMPLES / name)) for name, (args, _) in wrong.items()}
    outcomes = run_all({Path(name).stem: run for name, run in runs.items()}, tmp_path, {})
    for name, (_, message) in wrong.items():
        status, output = outcomes[Path(name).stem]
        assert status == 1 and "Traceback" not in output, output
        last = output.strip().splitlines()[-1]
        assert last.startswith(f"{Path(name).name}: ") and message in last, output


def test_resuming_takes_true_last_or_a_path(tmp_path: Path) -> None:
    for step in (9, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text("{}")
    last, first = str(tmp_path / "checkpoint-10"), str(tmp_path / "checkpoint-9")
    for value in (True, "true", "last"):  # `true` in a YAML file is a bool
        assert find_checkpoint(str(tmp_path), value, overwrite=False) == last
    assert find_checkpoint(str(tmp_path), first, overwrite=False) == first
    assert find_checkpoint(str(tmp_path), None, overwrite=True) is None
    assert find_checkpoint(str(tmp_path / "new"), None, overwrite=False) is None


@pytest.mark.parametrize("state", [None, "", '{"global_step": 1'])
def test_a_checkpoint_cut_short_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str | None
) -> None:
    for step in (90, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"")
    whole, cut_short = tmp_path / "checkpoint-90", tmp_path / "checkpoint-100"
    (whole / "trainer_state.json").write_text("{}")
    if state is not None:
        (cut_short / "trainer_state.json").write_text(state)
    assert find_checkpoint(str(tmp_path), "last", overwrite=False) == str(whole)
    assert f"{cut_short} was cut short while it was written" in caplog.text
    with pytest.raises(ValueError, match="checkpoint-100' is not a complete checkpoint"):
        find_checkpoint(str(tmp_path), str(cut_short), overwrite=False)
    with pytest.raises(ValueError, match=r"the last is checkpoint-100\)"):
        find_checkpoint(str(tmp_path), None, overwrite=False)


def test_without_gpu_the_defaults_are_those_of_a_cpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        # the deepspeed launcher puts --local_rank in front
        _, training_args, _ = parse("--local_rank=0", "--output_dir", str(tmp_path))
    assert training_args.use_cpu is True
    assert training_args.bf16 is False
    assert caplog.messages.count("No GPU found: running with use_cpu=True and bf16=False.") == 1
    _, training_args, _ = parse("--output_dir", str(tmp_path), "--bf16", "true")
    assert training_args.bf16 is True


def test_there_is_a_config_for_every_task_of_the_paper_which_names_its_models() -> None:
    models = [
        "microsoft/Phi-3.5-mini-instruct",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "meta-llama/Llama-3.1-8B-Instruct",
    ]
    assert [config.stem for config in PAPER_CONFIGS] == ["arc_challenge", "gsm8k"]
    for config in PAPER_CONFIGS:
        named = re.findall(r"^#     (\S+/\S+)  +\S", config.read_text(), re.MULTILINE)
        assert named == models  # each with what it needs of its own


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_command_line_chooses_the_model(config: Path) -> None:
    """The command in a config's header."""
    settings = yaml.safe_load(config.read_text())
    assert not {"model_name_or_path", "output_dir"} & settings.keys()
    script = "arc_challenge.py" if config.stem == "arc_challenge" else "gsm8k.py"
    command = re.search(rf"examples/{script} (--config .*)", re.sub(r" \\\n# +", " ", config.read_text()))
    assert command is not None
    _, args, model_args = parse(*command[1].split(), "--deepspeed", "")
    assert model_args.model_name_or_path == "meta-llama/Llama-3.1-8B-Instruct"
    assert args.output_dir.startswith("llama-3.1-8b-latro-")
    assert command[0] in re.sub(r" \\\\\n +", " ", (EXAMPLES / script).read_text())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_configs_hold_the_settings_of_the_paper(config: Path) -> None:
    task_args, args, model_args = parse("--config", str(config), "--deepspeed", "")
    lora = config == LORA_CONFIG
    num_gpus = 1 if lora else 8
    assert args.num_generations == 16
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps * num_gpus == 24 * 16
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == ((16, 24) if lora else (16, 3))
    assert args.beta == (0.25 if config.stem.startswith("arc_challenge") else 0.05)
    assert args.learning_rate == (5e-6 if lora else 5e-7)
    assert (args.lr_scheduler_type, args.get_warmup_steps(args.max_steps)) == ("linear", 0)
    assert (args.temperature, args.max_completion_length, args.max_steps) == (1.0, 512, 117)
    assert (args.reward_type, args.answer_coef, args.answer_template) == ("logprob", 1.0, "The answer is {answer}.")
    assert 0 < task_args.validation_size < 1056
    assert (model_args.use_peft, model_args.dtype) == ((True, "bfloat16") if lora else (False, "float32"))
    deepspeed = yaml.safe_load(config.read_text()).get("deepspeed")
    assert deepspeed == (None if lora else "examples/deepspeed/zero3.json")


@pytest.mark.parametrize(
    ("name", "stage", "offload_optimizer", "offload_parameters"),
    [
        ("zero1.json", 1, False, False),
        ("zero2.json", 2, False, False),
        ("zero3.json", 3, False, False),
        ("zero3_offload.json", 3, True, False),
        ("zero3_offload_params.json", 3, True, True),
    ],
)
def test_deepspeed_configs_shard_what_they_name_and_save_the_whole_model(
    name: str, stage: int, offload_optimizer: bool, offload_parameters: bool
) -> None:
    runtime_config = pytest.importorskip("deepspeed.runtime.config", reason="DeepSpeed is not installed")
    config = json.loads((EXAMPLES / "deepspeed" / name).read_text())
    zero = config["zero_optimization"]
    assert {config[key] for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping")} == {
        "auto"
    }

    # As transformers does, give the "auto" values: DeepSpeed does not know them.
    for key in [key for key, value in zero.items() if value == "auto"]:
        zero[key] = 1000
    config |= {"bf16": {"enabled": True}, "gradient_clipping": 1.0, "gradient_accumulation_steps": 2}
    config |= {"train_batch_size": 2, "train_micro_batch_size_per_gpu": 1}
    parsed = runtime_config.DeepSpeedConfig(config)
    assert parsed.zero_config.stage == stage
    assert parsed.zero_config.gather_16bit_weights_on_model_save == (stage == 3)
    assert (parsed.zero_config.offload_optimizer is not None) == offload_optimizer
    assert (parsed.zero_config.offload_param is not None) == offload_parameters
    # The optimizer is transformers' own AdamW, or, to be offloaded, DeepSpeed's.
    assert parsed.zero_allow_untested_optimizer != offload_optimizer
    assert parsed.optimizer_name == ("adamw" if offload_optimizer else None)
