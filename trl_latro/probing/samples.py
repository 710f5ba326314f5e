# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Samples of a model for a probe: generations of an evaluation, with the log-prob of each token of their answers."""

from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..answer_template import list_answers
from ..evaluation.batches import plan_batches
from ..evaluation.evaluator import Evaluator
from ..evaluation.generation import Generation
from ..evaluation.model import ScoredRow
from ..evaluation.questions import Questions
from ..evaluation.transformers_model import TransformersModel
from ..objective import Reward
from ..packing import count_template_tokens
from ..truncation import ContinuationDecoder


class ScoredAnswer(NamedTuple):
    """
    The reference answer after one rationale.

    Args:
        logps (`torch.Tensor` of shape `(T,)`):
            Log-probs of its tokens: template, answer itself, rest of the template and end of the turn.
        start (`int`), end (`int`):
            The answer itself is `logps[start:end]`.
    """

    logps: Tensor
    start: int
    end: int

    def with_known_form(self) -> "ScoredAnswer":
        """With log-prob 0 for all but the answer itself: a form is learnt whatever the rationales say."""
        known = torch.zeros_like(self.logps)
        known[self.start : self.end] = self.logps[self.start : self.end]
        return self._replace(logps=known)

    def with_answer(self, logp: float) -> "ScoredAnswer":
        """With log-prob `logp` for the answer itself, the same for each of its tokens, and 0 for the others."""
        given = torch.zeros_like(self.logps)
        given[self.start : self.end] = logp / (self.end - self.start)
        return self._replace(logps=given)


class Probed(NamedTuple):
    """
    What was sampled for a question.

    Args:
        greedy ([`Generation`]): Greedy completion, with the answer's log-probs after no and the gold rationale.
        samples (`list[Generation]`): Samples at temperature 1, K of them.
        endings (`list[str]`): What ended each sampled rationale: `"template"`, `"EOS"` or `"limit"`.
        answers (`list[ScoredAnswer]`): The answer after each sampled rationale.
        answer_none (`ScoredAnswer`): The answer right after the prompt.
        answer_gold (`ScoredAnswer`, *optional*): The answer after the gold rationale, where there is one.
    """

    greedy: Generation
    samples: list[Generation]
    endings: list[str]
    answers: list[ScoredAnswer]
    answer_none: ScoredAnswer
    answer_gold: ScoredAnswer | None


class TokenLogps:
    """
    A model that keeps the answers which it has scored, with the log-prob of each token.

    Args:
        model ([`~trl_latro.evaluation.transformers_model.TransformersModel`]): The model.
    """

    def __init__(self, model: TransformersModel):
        self.model = model
        self.eos_token_ids = model.eos_token_ids
        self.generate = model.generate
        self.kept: list[tuple[list[int], Tensor]] = []

    def answer_logps(self, rows: list[ScoredRow]) -> list[float]:
        logps = self.model.answer_token_logps(rows)
        self.kept += [(row.answer, of_tokens) for row, of_tokens in zip(rows, logps, strict=True)]
        return [float(one.sum()) for one in logps]


def sample(
    model: TransformersModel, questions: Questions, num_samples: int, batch_size: int, seed: int
) -> list[Probed]:
    """K samples of each question, and its greedy completion, on a terminal under a progress bar."""
    keeping = TokenLogps(model)
    evaluator = Evaluator(keeping, questions)
    truncator = evaluator.truncator
    generations: dict[tuple[str, int, int], Generation] = {}
    answers: dict[
        tuple[str, int, int], list[ScoredAnswer]
    ] = {}  # after its rationale; of greedy ones none and gold too
    batches = plan_batches([len(ids) for ids in questions.prompt_ids], num_samples, batch_size)
    with tqdm(total=len(questions.rows) * (1 + num_samples), desc="Probing", unit="completion", disable=None) as bar:
        for batch in batches:
            keeping.kept.clear()
            made = evaluator.run(batch, seed)
            each = len(keeping.kept) // len(made)  # answers of a question follow each other
            for index, one in enumerate(made):
                key = (one.kind, one.question, one.sample)
                generations[key] = one
                answers[key] = [
                    ScoredAnswer(logps, *_own_tokens(questions, list_answers(one.answer)[0], ids, truncator.decode))
                    for ids, logps in keeping.kept[index * each : (index + 1) * each]
                ]
            bar.update(len(made))
    probed = []
    for question, prompt_ids in enumerate(questions.prompt_ids):
        samples = [generations["sample", question, k] for k in range(num_samples)]
        is_open = truncator.is_open_after(prompt_ids)
        has_end = [truncator.find_end(one.completion, is_open).start is not None for one in samples]
        endings = [
            "limit" if not one.finished else "template" if ended else "EOS"
            for one, ended in zip(samples, has_end, strict=True)
        ]
        _, none, *gold = answers["greedy", question, 0]
        probed.append(
            Probed(
                generations["greedy", question, 0],
                samples,
                endings,
                [answers["sample", question, k][0] for k in range(num_samples)],
                none,
                gold[0] if gold else None,
            )
        )
    return probed


def _own_tokens(questions: Questions, answer: str, ids: list[int], decode: ContinuationDecoder) -> tuple[int, int]:
    """Where the answer itself begins and ends among the tokens of the filled template."""
    text, (start, end) = questions.answer_template.fill(answer), questions.answer_template.span(answer)
    first = count_template_tokens(ids, text[start:], decode)
    # 0 where the tokenizer loses some of the template's end: then all up to the end of the turn is the answer's
    behind = count_template_tokens(ids, text[end:], decode) or len(ids) - 1
    return first, max(first + 1, behind)


def reward_values(reward: Reward, answers: list[ScoredAnswer]) -> Tensor:
    """`R` of each answer, `(B,)`, before anything is made of the rationales of a prompt together."""
    width = max(len(answer.logps) for answer in answers)
    logps, mask = torch.zeros(2, len(answers), width, dtype=torch.float64)  # (B, T)
    for row, answer in enumerate(answers):
        logps[row, : len(answer.logps)] = answer.logps
        mask[row, (answer.start if reward.tokens == "answer" else 0) : len(answer.logps)] = 1
    return reward.of_row(logps, mask)
