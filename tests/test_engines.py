# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Engines of rollouts: the same completions whichever samples, and how another one is added."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from given import cpu_config, watch_completions
from trl_latro import LaTROTrainer
from trl_latro.rollout.engine import Completion, RolloutEngine, Sampled
from trl_latro.rollout.vllm_engine import VLLMEngine
from trl_latro.thinking import Thinking
from trl_latro.truncation import Truncator


ROOT = Path(__file__).parents[1]
TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
STOPS = ["e", "t "]


def greedy_trainer(path: Path, **settings: Any) -> LaTROTrainer:
    args = cpu_config(
        str(path),
        beta=0.0,
        max_completion_length=12,
        max_steps=1,
        rationale_stop_strings=STOPS,
        per_device_eval_batch_size=12,
        **settings,
    )
    model = tiny.tiny_model(TOKENIZER, kind="llama", seed=8)
    trainer = LaTROTrainer(model, args, tiny.tiny_dataset(3), tiny.tiny_dataset(3), processing_class=TOKENIZER)
    trainer.generation_config.do_sample = False
    return trainer


def training_and_evaluation(trainer: LaTROTrainer) -> list[list[Completion]]:
    """The completions of one step and of one evaluation. No learning: both are those of the same model."""
    trainer.args.learning_rate = 0.0
    completions = watch_completions(trainer)
    trainer.train()
    seen = [list(completions)]
    trainer.evaluate()
    return [*seen, list(completions)]


def example_of_contributing() -> type[RolloutEngine]:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add an engine for rollouts\n")[2]
    (block,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "RolloutEngine": RolloutEngine, "Sampled": Sampled}
    exec(block, names)
    return names["OneByOneEngine"]


def assert_same_rationales(found: list[Completion], expected: list[Completion], answer_budget: bool) -> None:
    assert len({len(one.sampled_ids) for one in expected}) > 1, "completions of one length would prove nothing"
    for one, other in zip(found, expected, strict=True):
        assert one.sampled_ids == other.sampled_ids
        assert one.rationale == other.rationale
        if answer_budget:  # what follows is graded; an engine may go on longer
            assert one.ids[: len(other.ids)] == other.ids


def test_another_engine_is_one_class(tmp_path: Path) -> None:
    expected = training_and_evaluation(greedy_trainer(tmp_path))
    trainer = greedy_trainer(tmp_path)
    trainer.engine = example_of_contributing()(
        trainer.truncator, trainer.max_completion_length, trainer.generation_config, trainer._model_for_generation
    )
    for found, other, answer_budget in zip(training_and_evaluation(trainer), expected, (False, True), strict=True):
        assert_same_rationales(found, other, answer_budget)


@pytest.mark.slow
def test_continuous_batching_gives_the_same_completions_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    expected = training_and_evaluation(greedy_trainer(tmp_path))
    trainer = greedy_trainer(tmp_path, use_transformers_continuous_batching=True)
    found = training_and_evaluation(trainer)
    for completions, other, answer_budget in zip(found, expected, (False, True), strict=True):
        assert_same_rationales(completions, other, answer_budget)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert "eval_accuracy" in trainer.state.log_history[-1], "it was an evaluation to its end"


class Client:
    """TRL's `VLLMGeneration` without vLLM: it writes each text down to its settings, as vLLM would."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, texts: list[str]):
        self.tokenizer = tokenizer
        self.texts = texts
        self.logprobs: int | None = None
        self.max_completion_length = 4
        self.generation_kwargs: dict[str, Any] = {"seed": 7}
        self.calls: list[dict[str, Any]] = []

    def generate(self, prompts: list[list[int]], images: None, num_generations: int, profiler: Any) -> tuple:
        self.calls.append({"limit": self.max_completion_length, **self.generation_kwargs})
        rows = []
        for text in self.texts:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_completion_length]
            for length in range(1, len(ids) + 1):
                if any(stop in self.tokenizer.decode(ids[:length]) for stop in self.generation_kwargs.get("stop", [])):
                    ids = ids[:length]
                    break
            rows.append(ids)
        logps = [[[-0.5 * position] for position in range(len(ids))] for ids in rows]
        return prompts, rows, (None if self.logprobs is None else logps), None


@pytest.mark.parametrize("answer_budget", [0, 30])
def test_vllm_stops_where_transformers_does_and_gives_its_log_probs(answer_budget: int) -> None:
    truncator = Truncator(TOKENIZER, ["The answer is"], [TOKENIZER.eos_token_id])
    client = Client(TOKENIZER, ["So 3. The answer is 4.", "Too long, too long, too long to end"])
    synced: list[int] = []
    engine = VLLMEngine(truncator, 16, client, lambda: synced.append(1), lambda: None)
    ended, unfinished = engine.roll_out([[5], [5]], 2, answer_budget)
    assert synced == [1]
    assert TOKENIZER.decode(ended.sampled_ids).endswith("The answer is")
    assert TOKENIZER.decode(ended.rationale.ids) == "So 3." and ended.rationale.finished
    assert TOKENIZER.decode(ended.ids) == ("So 3. The answer is 4." if answer_budget else "So 3. The answer is")
    assert not unfinished.rationale.finished and len(unfinished.rationale.ids) == 16
    for one in (ended, unfinished):
        assert one.logps == [-0.5 * position for position in range(len(one.ids))]
    stop = {} if answer_budget else {"stop": ["The answer is"], "include_stop_str_in_output": True}
    assert client.calls == [{"limit": 16 + answer_budget, "seed": 7, **stop}]
    assert client.generation_kwargs == {"seed": 7}, "the user's settings are as they were"


def test_vllm_does_not_stop_at_a_stop_string_inside_a_block_of_thinking() -> None:
    truncator = Truncator(TOKENIZER, ["The answer is"], [TOKENIZER.eos_token_id], thinking=Thinking())
    client = Client(TOKENIZER, ["<think>The answer is 3.</think> So", "So. The answer is 3."])
    engine = VLLMEngine(truncator, 40, client, lambda: None, lambda: None)
    thought, visible = engine.roll_out([[5], [5]], 2)
    assert TOKENIZER.decode(thought.sampled_ids).endswith("</think>")
    assert TOKENIZER.decode(thought.rationale.ids) == "<think>The answer is 3." and thought.rationale.finished
    assert TOKENIZER.decode(visible.rationale.ids) == "So." and visible.rationale.finished
    assert client.calls[0]["stop"] == ["</think>"] and client.calls[0]["skip_special_tokens"] is False
