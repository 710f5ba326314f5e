# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""Which questions to train or evaluate on: the arguments that all commands share."""

import importlib
import os
import sys
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..grading import Grader, grade_answer
from ..tasks.registry import PROMPT_TEMPLATE, TASKS, get_task
from ..tasks.task import Task


_OWN_DATA = ("dataset_config", "question_column", "answer_column", "rationale_column", "prompt_template", "grader")


@dataclass
class TaskArguments:
    """
    Arguments that choose the questions.

    Args:
        task (`str`, *optional*):
            `"gsm8k"`, `"arc_challenge"`, `"math"`, or your own data: a JSON lines or CSV file, a folder of such files
            (`train.jsonl`, `validation.jsonl`, `test.jsonl`) or a Hub dataset.
        dataset_path (`str`, *optional*):
            For a task with a name: folder or file with the columns of the Hub. Without it the dataset comes from the
            Hub.
        dataset_config (`str`, *optional*):
            Your own Hub dataset: its configuration.
        question_column (`str`, *optional*, defaults to `"question"`):
            Your own data: column of the questions.
        answer_column (`str`, *optional*, defaults to `"answer"`):
            Your own data: column of the reference answers.
        rationale_column (`str`, *optional*):
            Your own data: column of gold rationales, if there is one.
        prompt_template (`str`, *optional*, defaults to `"{question}\\nLet's think step by step."`):
            Your own data: the prompt, with `{question}` where the question stands.
        grader (`str`, *optional*):
            Your own data: function `(extracted, row) -> bool` that compares an answer with the row's, as
            `"module.function"`. Without it, numbers and formulas are graded by math-verify and other answers by their
            text.
        num_shots (`int`, *optional*, defaults to `0`):
            Number of solved training questions in front of each question.
        validation_size (`int`, *optional*, defaults to `256`):
            Number of validation questions: of the data's validation split, or taken out of the training split where
            there is none. The test split is not read in training.
        validation_seed (`int`, *optional*, defaults to `0`):
            Seed of that draw. It does not follow `seed`, so that runs with different seeds share a validation set.
    """

    task: str | None = field(
        default=None,
        metadata={
            "help": f"One of {list(TASKS)}, or your own data: a JSON lines or CSV file, a folder with train.jsonl, "
            "validation.jsonl and test.jsonl, or a Hub dataset."
        },
    )
    dataset_path: str | None = field(
        default=None,
        metadata={
            "help": "For a task with a name: folder or file with the columns of the Hub. Without it the dataset comes "
            "from the Hub."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Your own Hub dataset: its configuration."})
    question_column: str = field(default="question", metadata={"help": "Your own data: column of the questions."})
    answer_column: str = field(default="answer", metadata={"help": "Your own data: column of the answers."})
    rationale_column: str | None = field(
        default=None, metadata={"help": "Your own data: column of gold rationales, if there is one."}
    )
    prompt_template: str = field(
        default=PROMPT_TEMPLATE, metadata={"help": "Your own data: the prompt, with {question} in it."}
    )
    grader: str | None = field(
        default=None,
        metadata={
            "help": "Your own data: function (extracted, row) -> bool that compares an answer with the row's, as "
            "module.function. Without it, numbers and formulas are graded by math-verify, other answers by their text."
        },
    )
    num_shots: int = field(
        default=0, metadata={"help": "Number of solved training questions in front of each question."}
    )
    validation_size: int = field(
        default=256,
        metadata={
            "help": "Number of validation questions: of the data's validation split, or taken out of the training "
            "split where there is none. The test split is not read in training."
        },
    )
    validation_seed: int = field(default=0, metadata={"help": "Seed of the draw of the validation set."})

    def get_task(self) -> Task:
        """The task; raises `ValueError` or `FileNotFoundError` where there is none."""
        if self.task is None:
            raise ValueError(f"--task is missing: one of {list(TASKS)}, a file, a folder or a Hub dataset.")
        given = [name for name in _OWN_DATA if getattr(self, name) != getattr(TaskArguments, name)]
        if self.task in TASKS and given:
            raise ValueError(f"--{given[0]} belongs to your own data, but the task is {self.task!r}: leave it out.")
        if self.task not in TASKS and self.dataset_path is not None:
            raise ValueError(
                f"--dataset_path {self.dataset_path} says where the data of a named task are ({list(TASKS)}): for your "
                "own data, --task is the path."
            )
        return get_task(
            self.task,
            self.dataset_config,
            self.question_column,
            self.answer_column,
            self.rationale_column,
            self.prompt_template,
            find_grader(self.grader),
        )

    def load(self, split: str, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """A split of the task's data, as messages if the tokenizer has a chat template."""
        return self.get_task().load(
            split,
            conversational=tokenizer.chat_template is not None,
            dataset_path=self.dataset_path,
            num_shots=self.num_shots,
            validation_size=self.validation_size,
            validation_seed=self.validation_seed,
        )


def find_grader(name: str | None) -> Grader:
    """The function of the name `"module.function"`, from the working directory or installed; `None` is the default."""
    if name is None:
        return grade_answer
    module_name, _, function_name = name.rpartition(".")
    if not module_name:
        raise ValueError(f"grader is {name!r}, but should be 'module.function', as in 'my_grading.is_right'.")
    if os.getcwd() not in sys.path:  # the task is asked for several times
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"grader is {name!r}, but {error}: modules are looked for in {os.getcwd()!r} and among the installed packages."
        ) from error
    if function_name not in vars(module):
        raise ValueError(f"grader is {name!r}, but the module {module_name!r} has no {function_name!r}.")
    grader: Grader = vars(module)[function_name]
    return grader
