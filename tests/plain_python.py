# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
What a user writes in Python with [`LaTROTrainer`]: `plain_python.py MODEL SETTINGS CALLS`, with the settings of the
[`LaTROConfig`] and the calls in their order as JSON, such as `[["train", {}], ["push_to_hub", {}]]`.
"""

import json
import os
import sys

import wandb

from given import cpu_config, lora_config
from tiny import tiny_dataset
from trl_latro import LaTROTrainer


def main(model: str, settings: str, calls: str) -> None:
    given = {"max_completion_length": 8, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4}
    given |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-3, **json.loads(settings)}
    output_dir = given.pop("output_dir")
    peft_config = lora_config() if given.pop("adapter", False) else None
    if given.pop("token_from_a_file", False):
        given["hub_token"] = os.environ.pop("HF_TOKEN") + "\n"
    wandb.setup()  # as `wandb.login()` does: from here on wandb does not look at the environment
    args = cpu_config(output_dir, **given)
    trainer = LaTROTrainer(
        model=model, args=args, train_dataset=tiny_dataset(4), eval_dataset=tiny_dataset(1), peft_config=peft_config
    )
    print(args)
    for method, kwargs in json.loads(calls):
        print(method, getattr(trainer, method)(**kwargs))


if __name__ == "__main__":
    main(*sys.argv[1:])
