# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""QLoRA on CPU, from the command line: train, save, resume, evaluate; and what 4 bits do to the rewards: `make test-qlora`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, get_quantization_config

from fitted import QUESTIONS, ROWS, save_fitted_model
from given import NUM_GENERATIONS, TrainerGivenCompletions, cpu_config, lora_config, scored_completions
from gsm8k_run import last_state
from trl_latro.cli import evaluate as evaluate_command
from trl_latro.cli import train as train_command
from trl_latro.evaluation import evaluate


pytestmark = [
    pytest.mark.qlora,
    pytest.mark.skipif(not is_bitsandbytes_available(), reason="bitsandbytes is not installed; see `make test-qlora`"),
]

STEPS = 4


def line(settings: dict[str, Any]) -> list[str]:
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, questions, and a finished training in `run` with a checkpoint after each step."""
    folder = tmp_path_factory.mktemp("qlora")
    save_fitted_model(folder / "model")
    rows = [{"question": row["prompt"], "answer": row["answer"]} for row in ROWS]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_command.main(training(folder, "run"))
    return folder


def questions(folder: Path, model: str, output: str) -> dict[str, Any]:
    return {
        "model_name_or_path": folder / model,
        "output_dir": folder / output,
        "task": folder / "questions.jsonl",
        "prompt_template": "{question}",
        "max_completion_length": 22,
    }


def training(folder: Path, output: str) -> list[str]:
    """The settings of `examples/configs/hardware/qlora_24gb.yaml`, but small and with a larger learning rate."""
    settings = {
        **questions(folder, "model", output),
        "dtype": "bfloat16",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "lora_r": 4,
        "lora_target_modules": "all-linear",
        "validation_size": 2,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "max_steps": STEPS,
        "save_steps": 1,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "report_to": "none",
    }
    return line(settings)


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_training_moves_the_adapter_and_keeps_the_4_bit_weights(folder: Path) -> None:
    history = last_state(folder / "run").log_history
    first = next(entry for entry in history if "loss" in entry)
    assert first["kl"] == 0, "the adapter begins as nothing"
    steps = [adapter(folder / "run" / f"checkpoint-{step}") for step in (1, STEPS)]
    assert steps[0].keys() == steps[1].keys() and all("lora_" in name for name in steps[0])
    for name, tensor in steps[1].items():
        assert (tensor - steps[0][name]).abs().max() > 1e-3, name
    saved = adapter(folder / "run")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in steps[1].items())
    (settings,) = [json.loads((folder / "run" / "adapter_config.json").read_text())]
    assert settings["base_model_name_or_path"] == str(folder / "model")


def test_a_resumed_training_ends_as_one_that_was_never_stopped(folder: Path) -> None:
    (folder / "resumed").mkdir()
    shutil.copytree(folder / "run" / "checkpoint-2", folder / "resumed" / "checkpoint-2")
    train_command.main([*training(folder, "resumed"), "--resume_from_checkpoint", "last"])
    found, expected = adapter(folder / "resumed"), adapter(folder / "run")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    losses = [
        [entry["loss"] for entry in last_state(folder / name).log_history if "loss" in entry]
        for name in ("resumed", "run")
    ]
    assert len(losses[0]) == STEPS and losses[0] == losses[1]


def test_the_adapter_is_evaluated_on_the_unquantized_model(folder: Path) -> None:
    settings = {"num_samples": 2, "batch_size": 32, "dtype": "float32"}
    evaluate_command.main(line({**questions(folder, "run", "evaluation"), **settings}))
    found = json.loads((folder / "evaluation" / "results.json").read_text())["metrics"]
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    asked = {"num_samples": 2, "max_completion_length": 22, "batch_size": 32}
    dataset = QUESTIONS.remove_columns("rationale")
    of_base = evaluate(base, tokenizer, dataset, **asked).metrics
    adapted = PeftModel.from_pretrained(base, folder / "run").eval()
    for name, metric in evaluate(adapted, tokenizer, dataset, **asked).metrics.items():
        assert found[name] == pytest.approx(metric._asdict(), abs=1e-4)
    assert found["answer_logp_no_rationale"]["value"] != pytest.approx(
        of_base["answer_logp_no_rationale"].value, abs=1e-2
    )


def rewards(folder: Path, quantized: bool) -> torch.Tensor:
    """Answer log-likelihoods `(B,)` before the first step, of completions that are written down."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    completions = {
        tuple(tokenizer(row["prompt"])["input_ids"]): [
            tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
            for text in (
                f"\n{row['rationale']}",
                "",
                f"\n{row['answer']} makes.",
                f"\n9 plus 9 makes {row['answer']}.",
            )
        ]
        for row in ROWS
    }
    arguments = ModelConfig(dtype="bfloat16", load_in_4bit=True, use_bnb_nested_quant=True)
    quantization: BitsAndBytesConfig | None = get_quantization_config(arguments) if quantized else None
    trainer = TrainerGivenCompletions(
        str(folder / "model"),
        cpu_config(str(folder / "rewards"), beta=0.0, model_init_kwargs={"dtype": "bfloat16"}),
        QUESTIONS,
        processing_class=tokenizer,
        quantization_config=quantization,
        peft_config=lora_config(),
        completions=completions,
    )
    kinds = {type(module).__name__ for module in trainer.model.modules()}
    assert ("Linear4bit" in kinds) == quantized
    rows = [row for row in QUESTIONS for _ in range(NUM_GENERATIONS)]
    scored_completions(trainer, rows)
    (scored,) = trainer._rollouts["train"].parts
    return scored.columns.answer_logps


def test_rewards_of_4_bit_weights_are_near_those_of_the_unquantized_model(folder: Path) -> None:
    found, expected = rewards(folder, quantized=True), rewards(folder, quantized=False)  # (B,) each
    difference = (found - expected).abs()  # (B,)
    known = difference[::NUM_GENERATIONS]  # after rationales that the model has learnt to write
    correlation = torch.corrcoef(torch.stack([found, expected]))[0, 1]
    print(
        f"{known.mean():.3f} after known rationales, {difference.mean():.3f} after all, correlation {correlation:.3f}"
    )
    assert difference.max() > 1e-3, "nothing was quantized"
    assert known.mean() < 0.3
    assert difference.mean() < 0.25 * expected.std()
    assert correlation > 0.9
