# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Evaluate a model that is in memory."""

from itertools import chain
from typing import Any, NamedTuple

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..answer_template import AnswerTemplate
from ..field_checks import check_stop_texts
from ..grading import Grader, grade_answer
from ..prompts import find_max_positions
from ..thinking import check_thinking_tags
from .batches import plan_batches
from .evaluator import Evaluator, run_batches
from .generation import Generation
from .intervals import Metric
from .metrics import summarize
from .questions import Questions
from .transformers_model import TransformersModel


class Evaluation(NamedTuple):
    """
    Result of an evaluation.

    Args:
        metrics (`dict[str, Metric]`): Each metric with its 95 % interval.
        generations (`list[Generation]`): Every completion with its verdict, by question.
    """

    metrics: dict[str, Metric]
    generations: list[Generation]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    answer_template: str = "The answer is {answer}.",
    grader: Grader = grade_answer,
    num_samples: int = 8,
    max_completion_length: int = 512,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = True,
    answer_separator: str = " ",
    chat_template_kwargs: dict[str, Any] | None = None,
    thinking_tags: list[str] | None = None,
    rationale_stop_strings: list[str] | None = None,
) -> Evaluation:
    """
    Evaluate a model in memory. `trl-latro evaluate` does the same from the command line, with files.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model, on the device that it should run on.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        dataset ([`~datasets.Dataset`]):
            Questions, with the columns `prompt` (text or messages), `answer` and, if there are any, `rationale` (gold
            rationale, without the answer) and what the grader reads.
        answer_template (`str`, *optional*, defaults to `"The answer is {answer}."`):
            How an answer is written; its text before `{answer}` ends a rationale, unless stop strings are given.
        grader (`Callable[[str, dict[str, Any]], bool]`, *optional*, defaults to [`grade_answer`]):
            Compares an extracted answer with the row's.
        num_samples (`int`, *optional*, defaults to `8`):
            Samples at temperature 1 per question, besides the greedy completion.
        max_completion_length (`int`, *optional*, defaults to `512`):
            Longest rationale in tokens.
        batch_size (`int`, *optional*, defaults to `64`):
            Completions that are generated together.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples and of the bootstrap.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.
        answer_separator (`str`, *optional*, defaults to `" "`):
            Text between rationale and answer, where the rationale did not reach the template.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments for the chat template, as in `{"enable_thinking": False}`.
        thinking_tags (`list[str]`, *optional*):
            The two tags between which the model thinks. If `None`, what the chat template says; an empty list for a model
            that does not think.
        rationale_stop_strings (`list[str]`, *optional*):
            Where a rationale ends, besides EOS tokens. If `None`, where the answer template begins.

    Returns:
        [`Evaluation`]: the metrics with their intervals, and every completion with its verdict.

    Example:

    ```python
    >>> metrics, generations = evaluate(model, tokenizer, dataset, num_samples=8)
    >>> metrics["greedy_accuracy"], metrics["maj@8"]
    ```
    """
    check_stop_texts(rationale_stop_strings)
    check_thinking_tags(thinking_tags)
    stop_strings = None if rationale_stop_strings is None else tuple(rationale_stop_strings)
    template = AnswerTemplate(answer_template, answer_separator, stop_strings)
    prompting = (chat_template_kwargs, thinking_tags)
    questions = Questions(dataset, tokenizer, template, grader, max_completion_length, *prompting)
    questions.check_lengths(find_max_positions(model.config))
    limits = (max_completion_length, questions.answer_budget)
    evaluated = TransformersModel(model, tokenizer, template, *limits, questions.thinking)
    batches = plan_batches([len(ids) for ids in questions.prompt_ids], num_samples, batch_size)
    was_training = model.training
    model.eval()
    try:
        made = run_batches(Evaluator(evaluated, questions), batches, seed, progress)
        generations = sorted(chain.from_iterable(made), key=lambda one: (one.question, one.kind, one.sample))
    finally:
        model.train(was_training)
    return Evaluation(summarize(generations, max_completion_length, seed), generations)
