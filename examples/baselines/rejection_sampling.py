# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

# /// script
# requires-python = ">=3.11"
# dependencies = ["trl_latro"]
#
# [tool.uv.sources]
# trl_latro = { path = "../..", editable = true }
# ///

"""Baseline: rejection sampling (STaR, one round; RFT): fine-tuning on the model's own rationales that led to the answer.

First sample for the training questions, with several processes or vLLM if need be; it continues where it was stopped:

    trl-latro evaluate --task gsm8k --split train --num_samples 16 --output_dir outputs/gsm8k-samples \\
        --model_name_or_path meta-llama/Llama-3.1-8B-Instruct

Then train the same model on the right ones (`--help` lists all arguments):

    python examples/baselines/rejection_sampling.py --task gsm8k --samples_dir outputs/gsm8k-samples \\
        --model_name_or_path meta-llama/Llama-3.1-8B-Instruct --output_dir outputs/gsm8k-rejection
"""

from dataclasses import dataclass, field
from pathlib import Path

from baseline import make_parser, rejection_rows, train
from datasets import Dataset

from trl_latro.answer_template import AnswerTemplate
from trl_latro.cli.common import saying_what_is_wrong
from trl_latro.evaluation.files import RESULTS, read_generations
from trl_latro.evaluation.generation import Generation


@dataclass
class SamplesArguments:
    """Arguments of this baseline, beside those that all share."""

    samples_dir: str | None = field(
        default=None, metadata={"help": "Folder that `trl-latro evaluate --split train` has written."}
    )

    def read(self) -> list[Generation]:
        """The generations; raises `ValueError` where there are none, or not all."""
        if self.samples_dir is None:
            raise ValueError(
                "--samples_dir is missing: the folder that `trl-latro evaluate --split train` has written."
            )
        if not (Path(self.samples_dir) / RESULTS).is_file():
            raise ValueError(
                f"--samples_dir {self.samples_dir!r} has no {RESULTS}: it is no folder of `trl-latro evaluate`, or the "
                "evaluation was stopped. Start the same command again to finish it."
            )
        return read_generations(Path(self.samples_dir))


def main() -> None:
    *arguments, samples_args = make_parser(SamplesArguments).parse_args_and_config()
    generations = samples_args.read()

    def make_rows(dataset: Dataset, answer_template: AnswerTemplate) -> Dataset:
        return rejection_rows(dataset, generations, answer_template)

    train(*arguments, make_rows=make_rows)


if __name__ == "__main__":
    with saying_what_is_wrong("rejection_sampling.py"):
        main()
