# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The samples of one evaluation: its metrics are means over them, whatever the batches and processes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .grading import Grade
from .objective import Credit
from .outside_rewards import function_metrics
from .samples import LossColumns, SampleColumns, ScoredSamples, accuracy_metrics, length_metrics, reward_metrics


def metric_names(
    num_generations: int, beta: float, scores_answers: bool = True, functions: Sequence[str] = ()
) -> list[str]:
    """
    What an evaluation logs, without prefix, with the reward functions of these names. Beside it are aux_loss, for a model of
    experts, and length_reward_corr.
    """
    of_answers = ("answer_logp", "answer_prob", "answer_prob_if_right", "template_logp", "multi_sample_bound")
    lengths = [f"{kind}{part}_length" for part in ("", "_terminated") for kind in ("mean", "min", "max")]
    return [
        *("loss", "accuracy", f"maj@{num_generations}", "no_answer", "reward", "reward_std", "frac_reward_zero_std"),
        *(f"rewards/{name}/{kind}" for name in functions for kind in ("mean", "std")),
        *(f"latro/{name}" for name in of_answers if scores_answers),
        *("latro/finished_ratio", "latro/policy_loss", "latro/answer_loss"),
        *(["kl"] if beta != 0.0 else []),
        *("entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"),
        *(f"completions/{name}" for name in ("clipped_ratio", *lengths)),
        *("num_tokens", "runtime", "samples_per_second", "steps_per_second"),
    ]


class EvalSamples:
    """
    Collects the samples of an evaluation, batch by batch.

    Args:
        num_samples (`int`, *optional*):
            Samples of the whole dataset: later ones are dropped. With several processes the first prompts come again to
            fill up the last batch. If `None`, as for a stream, all are kept.
    """

    def __init__(self, num_samples: int | None = None):
        self.num_samples = num_samples
        self.batches: list[tuple[SampleColumns, Credit, LossColumns]] = []
        self.grades: list[Grade] = []
        self.outside: list[Tensor] = []

    def add(
        self, scored: ScoredSamples, losses: LossColumns, grades: list[Grade], outside: Tensor | None = None
    ) -> None:
        """
        Add a batch of all processes, `(N,)` each, in the order in which the samples were drawn, and the rewards of functions
        `(N, F)`.
        """
        left = len(grades) if self.num_samples is None else self.num_samples - len(self.grades)
        self.grades += grades[:left]
        if outside is not None:
            self.outside.append(outside[:left])
        self.batches.append(
            (
                SampleColumns(*(column[:left] for column in scored.columns)),
                Credit(*(column[:left] for column in scored.credit)),
                LossColumns(*(column[:left] for column in losses)),
            )
        )

    def metrics(
        self,
        num_generations: int,
        beta: float,
        answer_coef: float,
        scores_answers: bool = True,
        functions: Sequence[str] = (),
    ) -> dict[str, float]:
        """
        Metrics of all samples, and the loss.

        Args:
            num_generations (`int`):
                Samples per prompt, K.
            beta (`float`):
                Coefficient of the KL.
            answer_coef (`float`):
                Coefficient of the answer term.
            scores_answers (`bool`, *optional*, defaults to `True`):
                Whether the rows have reference answers.
            functions (`Sequence[str]`, *optional*):
                Names of the reward functions.
        """
        if not self.batches:
            raise ValueError("The evaluation dataset has no rows. Check how it was loaded or filtered.")
        columns, credit, losses = (
            kind(*map(torch.cat, zip(*parts, strict=True)))
            for kind, parts in zip((SampleColumns, Credit, LossColumns), zip(*self.batches, strict=True), strict=True)
        )
        metrics = length_metrics(columns) | reward_metrics(columns, credit, num_generations, beta, scores_answers)
        if functions:
            metrics |= function_metrics(torch.cat(self.outside), functions)
        metrics |= losses.metrics(columns.rationale_lengths.sum())
        accuracy = accuracy_metrics(self.grades, num_generations)
        metrics |= {name: sum(values) / len(values) for name, values in accuracy.items()}
        loss = losses.rationale_loss + answer_coef * losses.answer_loss + losses.weighted_aux_loss
        return metrics | {"loss": loss.mean().item()}
