# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""`trl-latro evaluate --use_vllm` says what it says without, of whole models and of adapters: `make test-vllm`."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl.import_utils import is_vllm_available

from fitted import QUESTIONS, save_fitted_model
from trl_latro.cli.evaluate import main
from trl_latro.evaluation.generation import Generation


pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not is_vllm_available(), reason="vLLM is not installed; `make test-vllm` has it"),
]

NUM_SAMPLES = 32
LIMIT = 22  # the longest rationales do not end within
LIKELIHOODS = ("answer_logp", "answer_logp_none", "answer_logp_gold")

Results = tuple[dict[tuple[int, str, int], Generation], dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter of it, and questions."""
    folder = tmp_path_factory.mktemp("vllm")
    tokenizer = save_fitted_model(folder / "model")
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=5, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / "model"), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter *= 0.15  # other completions, but still text that ends
    adapted.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    (folder / "questions.jsonl").write_text(
        "".join(
            json.dumps({"question": row["prompt"], "answer": row["answer"], "why": row["rationale"]}) + "\n"
            for row in QUESTIONS
        )
    )
    return folder


def arguments(folder: Path, model: str, output_dir: Path, **changed: Any) -> list[str]:
    settings = {
        "model_name_or_path": folder / model,
        "task": folder / "questions.jsonl",
        "rationale_column": "why",
        "prompt_template": "{question}",
        "num_samples": NUM_SAMPLES,
        "max_completion_length": LIMIT,
        "batch_size": 512,
        "dtype": "float32",
        "output_dir": output_dir,
        **changed,
    }
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def evaluated(folder: Path, model: str, use_vllm: bool) -> Results:
    """The completions by question, kind and sample, and the metrics."""
    output_dir = folder / f"{model}-{'vllm' if use_vllm else 'transformers'}"
    main(arguments(folder, model, output_dir, use_vllm=use_vllm))
    lines = (output_dir / "generations-0.jsonl").read_text().splitlines()
    generations = [Generation(**json.loads(line)) for line in lines]
    metrics = json.loads((output_dir / "results.json").read_text())["metrics"]
    return {(one.question, one.kind, one.sample): one for one in generations}, metrics


@pytest.fixture(scope="module", params=["model", "adapter"])
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[Results, Results]:
    """An evaluation with vLLM, eager, which spares minutes of compilation, and the same with transformers."""
    from trl_latro.evaluation import vllm_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_model, "LLM", partial(vllm_model.LLM, enforce_eager=True))
        with_vllm = evaluated(folder, request.param, use_vllm=True)
    return with_vllm, evaluated(folder, request.param, use_vllm=False)


def test_greedy_completions_and_likelihoods_are_those_of_transformers(both: tuple[Results, Results]) -> None:
    (found, _), (expected, _) = both
    assert found.keys() == expected.keys()
    greedy = {key: one for key, one in expected.items() if one.kind == "greedy"}
    assert len({one.completion for one in greedy.values()}) > 2, "one completion for all would prove little"
    for key, one in greedy.items():
        close = {name: pytest.approx(getattr(one, name), abs=1e-4) for name in LIKELIHOODS}
        assert found[key]._asdict() == {**one._asdict(), **close}


def test_completions_go_on_for_their_answer_and_no_further(both: tuple[Results, Results]) -> None:
    (found, _), _ = both
    finished = [one for one in found.values() if one.finished and "The answer is" in one.completion]
    assert len(finished) > 100
    assert sum(one.extracted is not None for one in finished) > 0.9 * len(finished)
    assert {one.finished for one in found.values()} == {True, False}, "the limit holds"
    assert all(one.rationale_tokens <= LIMIT for one in found.values())


def test_samples_are_of_the_model_itself_whatever_its_generation_config_says(both: tuple[Results, Results]) -> None:
    (found, metrics), (_, expected) = both
    for question in range(len(QUESTIONS)):
        samples = [one.completion for (row, kind, _), one in found.items() if (row, kind) == (question, "sample")]
        assert len(set(samples)) > NUM_SAMPLES / 4, "each sample has its own seed"
    for name in ("sample_accuracy", "answer_logp_sample_rationale", "sample_rationale_tokens"):
        width = expected[name]["high"] - expected[name]["low"]
        assert metrics[name]["value"] == pytest.approx(expected[name]["value"], abs=width)


@pytest.mark.parametrize("model", ["model", "adapter"])
def test_rows_that_do_not_fit_are_said_before_vllm_starts(folder: Path, tmp_path: Path, model: str) -> None:
    with pytest.raises(ValueError, match="positions, but the model has 128"):
        main(arguments(folder, model, tmp_path / "out", use_vllm=True, max_completion_length=1000))
    assert not (tmp_path / "out").exists()
