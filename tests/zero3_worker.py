# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A run whose completions do not depend on the number of processes, for `test_deepspeed.py`: one process of it is the
reference, and the `deepspeed` launcher starts it with two ranks.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tiny import tiny_dataset
from trl_latro import LaTROTrainer
from trl_latro.scripts.train import ScriptConfig


NUM_GENERATIONS = 4
MAX_COMPLETION_LENGTH = 24

# With two ranks of 2 x 1 rows each prompt's samples are split between them; with 2 x 3 rows the second of three is.
CASES: dict[str, dict[str, Any]] = {
    "whole": {"gradient_accumulation_steps": 1, "reward_type": "logprob"},
    "accumulated": {"gradient_accumulation_steps": 3, "reward_type": "jepo"},
}


class FixedCompletions(LaTROTrainer):
    """
    Sampling is seeded per rank, so completions are given here by prompt and sample index: of each prompt's four
    samples one reaches the stop string at once, one later, one ends with an end token and one hits the length limit.
    """

    def _roll_out(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        first_row = self.accelerator.process_index * len(prompt_ids)
        eos = self._tokenizer.eos_token_id
        completions = []
        for row, ids in enumerate(prompt_ids, start=first_row):
            number = len(ids) + sum(ids) % 10
            text = ("The answer is 1.", f"It is {number}. The answer is", f"{number}!", f"{number}" * 99)[
                row % NUM_GENERATIONS
            ]
            sampled = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            unfinished = len(sampled) > MAX_COMPLETION_LENGTH
            completions.append(sampled[:MAX_COMPLETION_LENGTH] if unfinished else [*sampled, eos])
        return completions


def train(case: str, model: str, output_dir: Path, num_processes: int, deepspeed: str | None = None) -> None:
    """Two updates of a case; the main process writes `model.safetensors` and `log_history.json`."""
    args = ScriptConfig(
        output_dir=str(output_dir),
        deepspeed=deepspeed,
        num_generations=NUM_GENERATIONS,
        per_device_train_batch_size=4 // num_processes,
        per_device_eval_batch_size=8 // num_processes,
        max_completion_length=MAX_COMPLETION_LENGTH,
        max_steps=2,
        beta=0.5,
        learning_rate=1e-2,
        adam_epsilon=1e-3,  # small gradients then make small steps, and rounding errors stay small
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **CASES[case],
    )
    # Three prompts do not fill the batches of two ranks
    trainer = FixedCompletions(
        model=model, args=args, train_dataset=tiny_dataset(), eval_dataset=tiny_dataset(num_rows=3)
    )
    assert trainer.accelerator.num_processes == num_processes
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        (output_dir / "log_history.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    # The launcher puts --local_rank in front; DeepSpeed reads the rank from the environment.
    _, model_path, output_path, deepspeed_path = sys.argv[1:]
    for name in CASES:
        train(name, model_path, Path(output_path) / name, num_processes=2, deepspeed=deepspeed_path)
