# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Training with vLLM beside the trainer is training with transformers, full and LoRA: `make test-vllm`."""

from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl.generation import vllm_generation
from trl.import_utils import is_vllm_available

from fitted import QUESTIONS, policy_logps, save_fitted_model
from given import cpu_config
from trl_latro import LaTROTrainer
from trl_latro.rollout.engine import Completion


pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not is_vllm_available(), reason="vLLM is not installed; `make test-vllm` has it"),
]

LIMIT = 22  # the longest rationales do not end within
ANSWER_BUDGET = 6
STEPS = 4


@pytest.fixture(autouse=True)
def vllm_for_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What a CPU and an exact comparison need, and TRL has no settings for. Where oneDNN multiplies, vLLM repacks the weights
    and leaves none that new ones could be loaded into. A float32 model is otherwise sampled from in bfloat16. Eager: no
    minutes of compilation.
    """
    from vllm import _custom_ops

    monkeypatch.setattr(_custom_ops, "_supports_onednn", False)
    monkeypatch.setattr(vllm_generation, "LLM", partial(vllm_generation.LLM, dtype="float32", enforce_eager=True))


def make_trainer(folder: Path, tokenizer: PreTrainedTokenizerFast, lora: bool, use_vllm: bool) -> LaTROTrainer:
    """A trainer that samples greedily, so that the engines can be compared."""
    args = cpu_config(
        str(folder / "out"),
        beta=0.0,
        learning_rate=1e-2 if lora else 2e-3,
        max_steps=STEPS,
        max_completion_length=LIMIT,
        num_generations_eval=4,
        per_device_eval_batch_size=12,
        use_vllm=use_vllm,
        vllm_max_model_length=64,
        model_init_kwargs={"dtype": "float32"},
    )
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    trainer = LaTROTrainer(
        str(folder / "model"), args, QUESTIONS, QUESTIONS, processing_class=tokenizer, peft_config=config
    )
    if use_vllm:
        trainer.vllm_generation.temperature = 0.0
    else:
        trainer.generation_config.do_sample = False
    return trainer


def weights(model: PreTrainedModel | PeftModel) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters() if tensor.requires_grad}


def roll_out(trainer: LaTROTrainer, answer_budget: int) -> list[Completion]:
    prompts = trainer._tokenize(list(QUESTIONS["prompt"]))
    return trainer.engine.roll_out(prompts, 1, answer_budget)


@pytest.fixture(scope="module", params=["full", "LoRA"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, save_fitted_model(folder / "model"), request.param == "LoRA"


def test_training_follows_that_with_transformers_and_vllm_has_the_trained_weights(setting: tuple) -> None:
    folder, tokenizer, lora = setting
    plain = make_trainer(folder, tokenizer, lora, use_vllm=False)
    before = weights(plain.model), [one.ids for one in roll_out(plain, ANSWER_BUDGET)]
    plain.train()
    trainer = make_trainer(folder, tokenizer, lora, use_vllm=True)
    trainer.train()

    expected = weights(plain.model)
    for name, tensor in weights(trainer.model).items():
        assert torch.allclose(tensor, expected[name], atol=1e-4), name
    moved = max((tensor - before[0][name]).abs().max().item() for name, tensor in expected.items())
    assert moved > 4e-3

    for answer_budget in (0, ANSWER_BUDGET):  # as in training, and as in evaluation
        for found, other in zip(roll_out(trainer, answer_budget), roll_out(plain, answer_budget), strict=True):
            assert found.sampled_ids == other.sampled_ids and found.rationale == other.rationale
            assert found.ids[: len(other.ids)] == other.ids
    changed = sum(one.ids != ids for one, ids in zip(roll_out(plain, ANSWER_BUDGET), before[1], strict=True))
    assert changed >= 4, "had nothing changed, old weights would do as well"

    ends = [tokenizer.decode(one.sampled_ids) for one in roll_out(trainer, 0)]
    assert any(text.endswith("The answer is") for text in ends)

    metrics, expected_metrics = trainer.evaluate(), plain.evaluate()
    for name in ("eval_reward", "eval_accuracy", "eval_no_answer"):
        assert metrics[name] == pytest.approx(expected_metrics[name], abs=1e-4)
    assert metrics["eval_no_answer"] < 1

    trainer.vllm_generation.temperature = 1.0
    for prompt, one in zip(trainer._tokenize(list(QUESTIONS["prompt"])), roll_out(trainer, 0), strict=True):
        of_rationale = one.logps[: len(one.rationale.ids)]
        assert of_rationale == pytest.approx(policy_logps(trainer.model, prompt, one.rationale.ids), abs=1e-3)
