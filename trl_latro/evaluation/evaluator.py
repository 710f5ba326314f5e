# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Generate, cut, grade and score, batch by batch."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import is_conversational

from ..answer_template import AnswerTemplate
from ..checks import check_dataset, check_processing_class, check_room
from ..end_of_turn import find_end_of_turn
from ..grading import NO_ANSWER, Grader, grade_answer, grade_completion
from ..packing import encode_answer
from ..prompts import find_max_positions, tokenize_prompts
from ..truncation import ContinuationDecoder, Rationale, Truncator, check_stop_strings
from .generation import Generator, TransformersGenerator
from .results import Estimate, Generation, summarize


class Batch(NamedTuple):
    """
    Completions that are generated together.

    Args:
        number (`int`): Its place in the plan.
        kind (`"greedy"` or `"sample"`): How it is decoded.
        questions (`list[int]`): Question of each completion.
        samples (`list[int]`): Number of each completion among its question's.
    """

    number: int
    kind: Literal["greedy", "sample"]
    questions: list[int]
    samples: list[int]

    def seed(self, seed: int) -> int:
        """Seed of this batch: the same in every process, and after any stop."""
        return int(np.random.SeedSequence((seed, self.number)).generate_state(1)[0])


class Evaluation(NamedTuple):
    """
    Result of an evaluation.

    Args:
        figures (`dict[str, Estimate]`): Each figure with its 95 % interval.
        generations (`list[Generation]`): Every completion with its verdict, by question.
    """

    figures: dict[str, Estimate]
    generations: list[Generation]


def plan_batches(prompt_lengths: list[int], num_samples: int, batch_size: int) -> list[Batch]:
    """
    All batches, before anything is generated: prompts of like length together, the longest first, since a batch that
    does not fit into memory should fail at once.

    Args:
        prompt_lengths (`list[int]`):
            Tokens of each question's prompt.
        num_samples (`int`):
            Samples per question, besides the greedy completion.
        batch_size (`int`):
            Completions that are generated together.
    """
    order = sorted(range(len(prompt_lengths)), key=lambda question: -prompt_lengths[question])
    kinds: dict[Literal["greedy", "sample"], list[tuple[int, int]]] = {
        "greedy": [(question, 0) for question in order],
        "sample": [(question, sample) for question in order for sample in range(num_samples)],
    }
    batches: list[Batch] = []
    for kind, rows in kinds.items():
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            batches.append(Batch(len(batches), kind, [row[0] for row in chunk], [row[1] for row in chunk]))
    return batches


class Questions:
    """
    A dataset made ready for evaluation: tokenized prompts, and how answers are written and graded.

    Args:
        dataset ([`~datasets.Dataset`]):
            Questions, with the columns `prompt`, `answer`, `rationale` if there are gold ones, and what the grader reads.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model.
        answer_template ([`~trl_latro.answer_template.AnswerTemplate`]):
            How an answer is written; its text before `{answer}` ends a rationale.
        grader (`Callable[[str, dict[str, Any]], bool]`):
            Compares an extracted answer with the row's.
        max_completion_length (`int`):
            L, the longest rationale in tokens.

    Attributes:
        answer_budget (`int`): Tokens that a completion goes on for after its rationale.
        prompt_ids (`list[list[int]]`): Tokens of the prompts.
        gold_ids (`list[list[int]]`, *optional*): Tokens of the gold rationales; `None` unless every row has one.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        answer_template: AnswerTemplate,
        grader: Grader,
        max_completion_length: int,
    ):
        check_processing_class(tokenizer)
        check_stop_strings(tokenizer, answer_template.stop_strings)
        check_dataset(dataset, "dataset", tokenizer)
        self.rows: list[dict[str, Any]] = list(dataset)
        self.tokenizer = tokenizer
        self.answer_template = answer_template
        self.grader = grader
        self.max_completion_length = max_completion_length
        self.conversational = is_conversational({"prompt": self.rows[0]["prompt"]})
        self.answer_budget = answer_template.token_budget(tokenizer, [row["answer"] for row in self.rows])
        self.prompt_ids = tokenize_prompts(tokenizer, [row["prompt"] for row in self.rows])
        self.gold_ids: list[list[int]] | None = None
        if all(row.get("rationale") for row in self.rows):
            self.gold_ids = [self._encode_gold(row["rationale"]) for row in self.rows]

    def _encode_gold(self, rationale: str) -> list[int]:
        # Behind a text prompt on a line of its own, as in a prompt with solved questions, unless it says otherwise
        text = rationale if self.conversational or rationale[0].isspace() else f"\n{rationale}"
        return encode_answer([], text, ContinuationDecoder(self.tokenizer), self.tokenizer.eos_token_id)[:-1]

    def longest_row(self) -> int:
        """Tokens of the longest prompt, rationale and answer."""
        gold_ids = self.gold_ids or [[]] * len(self.rows)
        rows = zip(self.prompt_ids, gold_ids, strict=True)
        return self.answer_budget + max(
            len(prompt) + max(self.max_completion_length, len(gold)) for prompt, gold in rows
        )

    def check_room(self, max_positions: int | None) -> None:
        """
        Raises:
            `ValueError`: a prompt, with its rationale and the room for an answer, does not fit into the model's
            `max_positions`.
        """
        prompts, answer_budgets = [row["prompt"] for row in self.rows], [self.answer_budget] * len(self.rows)
        prompt_lengths = [len(ids) for ids in self.prompt_ids]
        check_room(
            prompts, prompt_lengths, answer_budgets, self.max_completion_length, max_positions, "Question {row}"
        )
        for index, gold in enumerate(self.gold_ids or []):
            needed = prompt_lengths[index] + len(gold) + self.answer_budget
            if max_positions is not None and needed > max_positions:
                raise ValueError(
                    f"Question {index} with its gold rationale of {len(gold)} tokens needs {needed} positions, but the "
                    f"model has {max_positions}. Remove the row, or its rationale."
                )


class Evaluator:
    """
    Makes the generations of a batch, with their verdicts and likelihoods.

    Args:
        generator ([`Generator`]): The model.
        questions ([`Questions`]): What it is asked.
    """

    def __init__(self, generator: Generator, questions: Questions):
        self.generator = generator
        self.questions = questions
        self.tokenizer = questions.tokenizer
        self.truncator = Truncator(self.tokenizer, questions.answer_template.stop_strings, generator.eos_token_ids)
        self.end_of_turn_id = (
            find_end_of_turn(self.tokenizer, generator.eos_token_ids, {})
            if questions.conversational
            else self.tokenizer.eos_token_id
        )

    def run(self, batch: Batch, seed: int) -> list[Generation]:
        """
        Generate -> cut -> grade -> score.

        Args:
            batch ([`Batch`]): What to generate.
            seed (`int`): Seed of the evaluation.
        """
        limit, truncator = self.questions.max_completion_length, self.truncator
        rows = [self.questions.rows[question] for question in batch.questions]
        prompts = [self.questions.prompt_ids[question] for question in batch.questions]
        completions = self.generator.generate(prompts, 1, batch.kind == "greedy", batch.seed(seed))
        sampled = [ids for (ids,) in completions]
        ends = [self._tokens_to_end(ids) for ids in sampled]
        # A generator may go on after the answer budget
        sampled = [
            ids if end is None else ids[: end + self.questions.answer_budget]
            for ids, end in zip(sampled, ends, strict=True)
        ]
        rationales = [truncator.truncate(ids[:limit]) for ids in sampled]
        likelihoods = self._likelihoods(batch, prompts, rationales, rows)

        generations = []
        for index, (row, ids, end, rationale) in enumerate(zip(rows, sampled, ends, rationales, strict=True)):
            completion = truncator.decode(truncator.until_eos(ids))
            grade = NO_ANSWER
            if rationale.finished:
                grade = grade_completion(completion, row, self.questions.answer_template, self.questions.grader)
            generations.append(
                Generation(
                    batch=batch.number,
                    question=batch.questions[index],
                    kind=batch.kind,
                    sample=batch.samples[index],
                    prompt=row["prompt"],
                    answer=row["answer"],
                    completion=completion,
                    **grade._asdict(),
                    finished=rationale.finished,
                    rationale_tokens=len(rationale.ids),
                    tokens_to_end=end if rationale.finished else None,
                    **{name: values[index] for name, values in likelihoods.items()},
                )
            )
        return generations

    def _likelihoods(
        self, batch: Batch, prompts: list[list[int]], rationales: list[Rationale], rows: list[dict[str, Any]]
    ) -> dict[str, list[Any]]:
        """Log-probs of the reference answers and their tokens, as fields of [`Generation`]."""
        after = {"": rationales}
        if batch.kind == "greedy":
            after["_none"] = [Rationale([], self.truncator.separator, finished=False)] * len(rows)
            if self.questions.gold_ids is not None:
                gold = [self.questions.gold_ids[question] for question in batch.questions]
                after["_gold"] = [Rationale(ids, self.truncator.separator, finished=True) for ids in gold]
        likelihoods: dict[str, list[Any]] = {}
        for name, given in after.items():
            answers = [self._encode(rationale, row) for rationale, row in zip(given, rows, strict=True)]
            contexts = [prompt + rationale.ids for prompt, rationale in zip(prompts, given, strict=True)]
            likelihoods[f"answer_logp{name}"] = self.generator.answer_logps(contexts, answers)
            likelihoods[f"answer_tokens{name}"] = [len(answer) for answer in answers]
        return likelihoods

    def _encode(self, rationale: Rationale, row: dict[str, Any]) -> list[int]:
        text = rationale.lead + self.questions.answer_template.fill(row["answer"])
        return encode_answer(rationale.ids, text, self.truncator.decode, self.end_of_turn_id)

    def _tokens_to_end(self, ids: list[int]) -> int | None:
        """Number of tokens with which the rationale's end shows: an EOS token, or the whole of a stop string."""
        text_ids = self.truncator.until_eos(ids)
        if self.truncator.has_stop(text_ids):
            return len(self.truncator.until_stop(text_ids))
        return None if len(text_ids) == len(ids) else len(text_ids) + 1


def run_batches(evaluator: Evaluator, batches: list[Batch], seed: int, progress: bool) -> Iterator[list[Generation]]:
    """Generations of each batch, as they come; `progress` shows a bar with an estimate of the time left."""
    total = sum(len(batch.questions) for batch in batches)
    with tqdm(total=total, desc="Evaluating", unit="completion", disable=not progress) as bar:
        for batch in batches:
            yield evaluator.run(batch, seed)
            bar.update(len(batch.questions))


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
            How an answer is written; its text before `{answer}` ends a rationale.
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

    Returns:
        [`Evaluation`]: the figures with their intervals, and every completion with its verdict.

    Example:

    ```python
    >>> figures, generations = evaluate(model, tokenizer, dataset, num_samples=8)
    >>> figures["greedy_accuracy"], figures["maj@8"]
    ```
    """
    template = AnswerTemplate(answer_template)
    questions = Questions(dataset, tokenizer, template, grader, max_completion_length)
    questions.check_room(find_max_positions(model.config))
    generator = TransformersGenerator(model, tokenizer, template, max_completion_length, questions.answer_budget)
    batches = plan_batches([len(ids) for ids in questions.prompt_ids], num_samples, batch_size)
    was_training = model.training
    model.eval()
    try:
        made = run_batches(Evaluator(generator, questions), batches, seed, progress)
        generations = sorted(chain.from_iterable(made), key=lambda one: (one.question, one.kind, one.sample))
    finally:
        model.train(was_training)
    return Evaluation(summarize(generations, max_completion_length, seed), generations)
