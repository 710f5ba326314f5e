# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Generate, truncate, score and grade, batch by batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..end_of_turn import find_end_of_turn
from ..grading import NO_ANSWER, grade_completion, grade_flexibly
from ..packing import encode_answers
from ..truncation import Rationale, Truncator
from .batches import Batch
from .generation import Generation
from .model import EvaluatedModel, ScoredRow
from .questions import Questions


class Evaluator:
    """
    Makes the generations of a batch, with their verdicts and likelihoods.

    Args:
        model ([`EvaluatedModel`]): The model.
        questions ([`Questions`]): What it is asked.
    """

    def __init__(self, model: EvaluatedModel, questions: Questions):
        self.model = model
        self.questions = questions
        self.tokenizer = questions.tokenizer
        template = questions.answer_template
        ends = (template.stop_strings, model.eos_token_ids)
        self.truncator = Truncator(self.tokenizer, *ends, template.separator, questions.thinking)
        self.end_of_turn_id = (
            find_end_of_turn(self.tokenizer, model.eos_token_ids, questions.chat_template_kwargs)
            if questions.conversational
            else self.tokenizer.eos_token_id
        )

    def run(self, batch: Batch, seed: int) -> list[Generation]:
        """
        Generate -> truncate -> score -> grade.

        Args:
            batch ([`Batch`]): What to generate.
            seed (`int`): Seed of the evaluation.
        """
        limit, truncator = self.questions.max_completion_length, self.truncator
        rows = [self.questions.rows[question] for question in batch.questions]
        prompts = [self.questions.prompt_ids[question] for question in batch.questions]
        completions = self.model.generate(prompts, 1, batch.kind == "greedy", batch.seed(seed))
        are_open = [truncator.is_open_after(prompt) for prompt in prompts]
        sampled = [self._until_budget(ids, is_open) for (ids,), is_open in zip(completions, are_open, strict=True)]
        rationales = [truncator.truncate(ids[:limit], is_open) for ids, is_open in zip(sampled, are_open, strict=True)]
        likelihoods = self._likelihoods(batch, prompts, are_open, rationales, rows)

        generations = []
        for index, (row, ids, rationale) in enumerate(zip(rows, sampled, rationales, strict=True)):
            completion = truncator.decode(truncator.until_eos(ids))
            graded_text = truncator.behind_thinking(completion, are_open[index])
            template, grader = self.questions.answer_template, self.questions.grader
            grade = grade_completion(graded_text, row, template, grader) if rationale.finished else NO_ANSWER
            # The limit holds here too, but what stands within it is read as it is, whether it ends or not
            seen = graded_text if rationale.finished else truncator.decode(ids[:limit])
            flexible = grade if grade.extracted is not None else grade_flexibly(seen, row, template, grader)
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
                    tokens_to_end=self._tokens_to_end(ids, are_open[index]) if rationale.finished else None,
                    **{name: values[index] for name, values in likelihoods.items()},
                    flexible_extracted=flexible.extracted,
                    flexible_correct=flexible.correct,
                )
            )
        return generations

    def _likelihoods(
        self,
        batch: Batch,
        prompts: list[list[int]],
        are_open: list[bool],
        rationales: list[Rationale],
        rows: list[dict[str, Any]],
    ) -> dict[str, list[Any]]:
        """Log-probs of the reference answers and their tokens, as fields of [`Generation`]."""
        after = {"": rationales}
        if batch.kind == "greedy":
            after["_none"] = [self.truncator.no_rationale(is_open) for is_open in are_open]
            if self.questions.gold_ids is not None:
                gold = [self.questions.gold_ids[question] for question in batch.questions]
                after["_gold"] = [self.truncator.given_rationale(ids) for ids in gold]
        encoded = [
            (prompt, rationale.ids, self._encode(rationale, row))
            for prompt, row, *given in zip(prompts, rows, *after.values(), strict=True)
            for rationale in given
        ]
        # Those of a question follow each other, since they share its prompt
        scored = [ScoredRow(prompt, ids, answer) for prompt, ids, answers in encoded for answer in answers]
        parts = [scored[start : start + len(rows)] for start in range(0, len(scored), len(rows))]
        logps = iter([logp for part in parts for logp in self.model.answer_logps(part)])
        sums, tokens = [], []
        for _, _, answers in encoded:
            of_answers = [next(logps) for _ in answers]
            sums.append(float(np.logaddexp.reduce(of_answers)))
            tokens.append(len(answers[int(np.argmax(of_answers))]))
        likelihoods: dict[str, list[Any]] = {}
        for number, name in enumerate(after):
            likelihoods[f"answer_logp{name}"] = sums[number :: len(after)]
            likelihoods[f"answer_tokens{name}"] = tokens[number :: len(after)]
        return likelihoods

    def _encode(self, rationale: Rationale, row: dict[str, Any]) -> list[list[int]]:
        """Tokens of each right answer."""
        how = (self.questions.answer_template, self.truncator.decode, self.end_of_turn_id)
        (answers,) = encode_answers([rationale], [row["answer"]], *how)
        return [one.ids for one in answers]

    def _until_budget(self, ids: list[int], is_open: bool) -> list[int]:
        """Without what an engine has written after the answer's token budget."""
        text_ids = self.truncator.until_eos(ids)
        if not self.truncator.has_answer(text_ids, is_open):
            return ids
        return ids[: len(self.truncator.until_answer(text_ids, is_open)) + self.questions.answer_budget]

    def _tokens_to_end(self, ids: list[int], is_open: bool) -> int:
        """Number of tokens with which a rationale's end shows: an EOS token, or the whole string that ends it."""
        text_ids = self.truncator.until_eos(ids)
        if self.truncator.has_end(text_ids, is_open):
            return len(self.truncator.until_end(text_ids, is_open))
        return len(text_ids) + 1


def run_batches(evaluator: Evaluator, batches: list[Batch], seed: int, progress: bool) -> Iterator[list[Generation]]:
    """Generations of each batch, as they come; `progress` shows a bar with the time left, on a terminal."""
    total = sum(len(batch.questions) for batch in batches)
    with tqdm(total=total, desc="Evaluating", unit="completion", disable=None if progress else True) as bar:
        for batch in batches:
            yield evaluator.run(batch, seed)
            bar.update(len(batch.questions))
