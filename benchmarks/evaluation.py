# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A whole evaluation, with the model of `rollout.py` whose completions have lengths like GSM8K's: as it is, and with one plain
`generate` per batch and padded forwards. Greedy completions are the same; samples come from other random numbers.
"""

import random

import torch
from datasets import Dataset
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteriaList

from meter import Meter
from models import Case, build_model
from rollout import CountingDown, kept_tokens
from rows import Lengths
from tokenizer import ANSWER_TEMPLATE, random_text, stop_ids
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation.batches import Batch, plan_batches
from trl_latro.evaluation.evaluator import Evaluator
from trl_latro.evaluation.generation import Generation
from trl_latro.evaluation.model import ScoredRow
from trl_latro.evaluation.questions import Questions
from trl_latro.evaluation.transformers_model import TransformersModel
from trl_latro.grading import grade_answer
from trl_latro.rollout.sampling_settings import only_generation_config


class PlainModel(TransformersModel):
    """`generate` until the last row is done; each forward of the scoring as wide as its longest row."""

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], num_samples: int, greedy: bool, seed: int
    ) -> list[list[list[int]]]:
        rows = [ids for ids in prompt_ids for _ in range(num_samples)]
        input_ids, attention_mask = self._pad(rows)  # (B, P)
        self.rationale_stop.start(input_ids.size(1), self.answer_budget)
        config = GenerationConfig(
            do_sample=not greedy,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.eos_token_ids,
            pad_token_id=self.pad_token_id,
            **({} if greedy else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
        )
        torch.manual_seed(seed)
        with only_generation_config(self.model, config):
            output_ids = self.model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([self.rationale_stop]),
            )
        completions = [self.truncator.without_padding(ids) for ids in output_ids[:, input_ids.size(1) :].tolist()]
        return [completions[start : start + num_samples] for start in range(0, len(rows), num_samples)]

    @torch.no_grad()
    def answer_logps(self, rows: list[ScoredRow]) -> list[float]:
        input_ids, attention_mask = self._pad([[*row.prompt, *row.rationale, *row.answer] for row in rows])  # (B, T)
        longest = max(len(row.answer) for row in rows)
        logits = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits  # (B, A + 1, V)
        sums = []
        for row, of_row, ids in zip(rows, logits, input_ids[:, -longest:], strict=True):
            logps = of_row[:-1].float().log_softmax(-1).gather(-1, ids[:, None])[:, 0]  # (A,)
            sums.append(float(logps[-len(row.answer) :].sum()))
        return sums

    def _pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """On the left."""
        width = max(map(len, rows))
        input_ids = torch.tensor([[self.pad_token_id] * (width - len(row)) + row for row in rows])
        attention_mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return input_ids.to(self.model.device), attention_mask.to(self.model.device)


EVALUATIONS = {"plain": PlainModel, "ours": TransformersModel}


class MeasuredEvaluation:
    """
    An evaluation of `case`'s model. After `run`, `counts` has what it decoded and kept.

    Args:
        name (`str`): One of `EVALUATIONS`.
        case (`Case`): What is measured; `micro_batch` is the evaluation's batch size.
        lengths (`Lengths`): Those of the gold rationales.
        meter (`Meter`): Collects the seconds of the phases "generation" and "scoring"; the rest is "training".
    """

    def __init__(self, name: str, case: Case, lengths: Lengths, meter: Meter):
        self.case = case
        self.meter = meter
        self.counts: dict[str, int] = {}
        model = build_model(case).eval()
        rule = CountingDown(model, case)
        template = AnswerTemplate(ANSWER_TEMPLATE)
        questions = Questions(
            draw_questions(case, lengths), case.tokenizer, template, grade_answer, case.longest_rationale
        )
        evaluated = EVALUATIONS[name](
            model, case.tokenizer, template, questions.max_completion_length, questions.answer_budget
        )
        self.evaluator = Evaluator(evaluated, questions)
        self.batches = plan_batches([len(ids) for ids in questions.prompt_ids], case.num_generations, case.micro_batch)
        generate = evaluated.generate

        def counted(prompts: list[list[int]], num_samples: int, greedy: bool, seed: int) -> list[list[list[int]]]:
            with rule.active(greedy):
                completions = generate(prompts, num_samples, greedy, seed)
            kept = sum(kept_tokens(ids, stop_ids(case.tokenizer)) for (ids,) in completions)
            self.counts = {
                "decoded": self.counts.get("decoded", 0) + rule.decoded,
                "kept": self.counts.get("kept", 0) + kept,
            }
            rule.decoded = rule.computed = 0
            return completions

        evaluated.generate = counted  # type: ignore[method-assign]
        meter.watch(evaluated, "generate", "generation")
        meter.watch(evaluated, "answer_logps", "scoring")

    def run(self) -> list[Generation]:
        """All batches, after one of a single question that is not counted."""
        self.meter.start()
        self.evaluator.run(Batch(0, "greedy", [0], [0]), seed=0)
        self.meter.stop()
        self.counts = {}
        self.meter.start()
        generations = [one for batch in self.batches for one in self.evaluator.run(batch, seed=0)]
        self.meter.stop()
        return generations


def draw_questions(case: Case, lengths: Lengths) -> Dataset:
    """The prompts and answers of `case`, with gold rationales of letters."""
    generator = random.Random(0)
    return Dataset.from_list(
        [
            {
                "prompt": group.prompt,
                "answer": group.answer,
                "rationale": " " + random_text(generator, lengths.rationale(generator)),
            }
            for group in case.groups
        ]
    )
