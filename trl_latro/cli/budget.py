# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""How much a training does, counted in prompts, samples, steps and passes over the questions."""

import math

from ..latro_config import LaTROConfig


def budget(args: LaTROConfig, num_questions: int | None) -> str:
    """
    One line for the start of a training.

    An epoch is one pass over the questions; the paper's released code calls as many *samples* as there are questions an
    epoch, which is 16 times less.

    Args:
        args ([`LaTROConfig`]):
            Settings of the training.
        num_questions (`int`, *optional*):
            Number of training questions, `None` where it is not known.

    Returns:
        `str`: for example `"24 prompts x 16 samples per step, 117 steps, 0.39 of an epoch (7,217 questions)"`.
    """
    # samples of a step, over all processes and forwards; prompts with K samples each
    prompts = count_samples(args) / args.num_generations
    line = f"{prompts:g} prompts x {args.num_generations} samples per step"
    if num_questions is None:
        length = f"{args.max_steps:,} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
        return f"{line}, {length}"
    steps = count_steps(args, num_questions)
    # a generated batch serves for `num_iterations` steps
    passes = steps * prompts / args.num_iterations / num_questions
    epochs = f"{passes:.2g} of an epoch" if passes < 1 else f"{passes:.2f} epochs"
    return f"{line}, {steps:,} steps, {epochs} ({num_questions:,} questions)"


def count_samples(args: LaTROConfig) -> int:
    """Samples of an optimizer step."""
    return args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps


def count_steps(args: LaTROConfig, num_questions: int) -> int:
    """Optimizer steps of the whole training."""
    if args.max_steps > 0:
        return args.max_steps
    # Questions that do not fill a generated batch are left out of the epoch
    batches = num_questions // (args.generation_batch_size // args.num_generations)
    forwards = batches * args.num_iterations * args.steps_per_generation
    per_epoch = max(math.ceil(forwards / args.gradient_accumulation_steps), 1)
    return math.ceil(args.num_train_epochs * per_epoch)
