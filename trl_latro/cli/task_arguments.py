# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""Which questions to train or evaluate on: the arguments that all commands share."""

import dataclasses
import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..answer_template import AnswerTemplate, list_answers
from ..grading import Grader, grade_answer
from ..grading.graders import check_verdict
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
            For a named task: folder or file with the columns of its Hub dataset, to read instead of the Hub.
        dataset_config (`str`, *optional*):
            Your own Hub dataset: its configuration.
        question_column (`str`, *optional*, defaults to `"question"`):
            Your own data: column of the questions.
        answer_column (`str`, *optional*, defaults to `"answer"`):
            Your own data: column of the reference answers; in JSON a list where several are right.
        rationale_column (`str`, *optional*):
            Your own data: column of gold rationales, if there is one.
        prompt_template (`str`, *optional*, defaults to `"{question}\\nLet's think step by step."`):
            Your own data: the prompt, with `{question}` where the question stands.
        grader (`str`, *optional*):
            Your own data: function `(extracted, row) -> bool` that compares an answer with the row's, as
            `"module.function"`. Without it, answers are graded as quantities, formulas or text.
        num_shots (`int`, *optional*, defaults to `0`):
            Number of solved training questions in front of each question.
        validation_size (`int`, *optional*, defaults to `256`):
            Number of validation questions: of the data's validation split, or taken out of the training split where
            there is none. The test split is not read in training.
        validation_seed (`int`, *optional*, defaults to `0`):
            Seed of that draw. It does not follow `seed`, so that runs with different seeds share a validation set.
        skip_bad_rows (`bool`, *optional*, defaults to `False`):
            Whether to skip rows that cannot be read, which the log counts and names.
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
            "help": "For gsm8k, arc_challenge and math: folder or file with the columns of the Hub dataset, to read instead "
            "of the Hub."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Your own Hub dataset: its configuration."})
    question_column: str = field(default="question", metadata={"help": "Your own data: column of the questions."})
    answer_column: str = field(
        default="answer", metadata={"help": "Your own data: column of the answers; a list where several are right."}
    )
    rationale_column: str | None = field(
        default=None, metadata={"help": "Your own data: column of gold rationales, if there is one."}
    )
    prompt_template: str = field(
        default=PROMPT_TEMPLATE,
        metadata={
            "help": "Your own data: the prompt, with {question} in it. The default has a line break after the question."
        },
    )
    grader: str | None = field(
        default=None,
        metadata={
            "help": "Your own data: function (extracted, row) -> bool that compares an answer with the row's, as "
            "module.function. Without it, answers are graded as quantities, formulas or text."
        },
    )
    num_shots: int = field(
        default=0, metadata={"help": "Number of solved training questions in front of each question."}
    )
    validation_size: int = field(
        default=256,
        metadata={
            "help": "Number of validation questions: from the data's validation split, or taken out of the training "
            "split if there is none. The test split is not read in training."
        },
    )
    validation_seed: int = field(default=0, metadata={"help": "Seed with which validation questions are drawn."})
    skip_bad_rows: bool = field(
        default=False,
        metadata={"help": "Whether to skip rows that cannot be read. The log counts and names them."},
    )

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

    def prompting(self) -> dict[str, Any]:
        """How the questions are put, as a model remembers it (`trl_latro/prompting.py`). Named tasks have their own prompts."""
        own = {} if self.task in TASKS else {"prompt_template": self.prompt_template}
        return {"num_shots": self.num_shots, **own}

    def defaults_of(self, prompting: dict[str, Any] | None) -> dict[str, Any]:
        """The defaults that arguments have for this task with a model that was prompted so."""
        left_out = ("prompt_template",) if self.task in TASKS else ()
        return {name: value for name, value in (prompting or {}).items() if name not in left_out}

    def load(self, split: str, tokenizer: PreTrainedTokenizerBase, answer_template: str | None = None) -> Dataset:
        """
        A split of the task's data, as messages if the tokenizer has a chat template. Solved questions give their answers in
        `answer_template`, by default the task's.
        """
        task = self.get_task()
        if answer_template is not None:
            task = dataclasses.replace(task, answer_template=AnswerTemplate(answer_template))
        return task.load(
            split,
            conversational=tokenizer.chat_template is not None,
            dataset_path=self.dataset_path,
            num_shots=self.num_shots,
            validation_size=self.validation_size,
            validation_seed=self.validation_seed,
            skip_bad_rows=self.skip_bad_rows,
        )


def find_function(name: str, option: str, example: str) -> Callable[..., Any]:
    """
    The function of the name `"module.function"`, from an installed package or else from the working directory.

    Args:
        name (`str`):
            Its name.
        option (`str`):
            The option that names it, for error messages.
        example (`str`):
            Such a name, likewise.

    Raises:
        `ValueError`: no such function, or one of Python's own: `eval` and its like would run what the model wrote.
    """
    module_name, _, function_name = name.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{option} is {name!r}, but should be 'module.function', as in {example!r}.")
    own = (
        f"{option} is {name!r}, which belongs to Python itself and would not grade, or would run what the model wrote: name a "
        "function of your own."
    )
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(own)
    if os.getcwd() not in sys.path:
        sys.path.append(
            os.getcwd()
        )  # behind the installed packages, so that no file here stands for one of their modules
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{option} is {name!r}, but {error}: modules are looked for among the installed packages and in {os.getcwd()!r}."
        ) from error
    except Exception as error:
        raise ValueError(
            f"{option} is {name!r}, but the module {module_name!r} cannot be imported: {_describe(error)}."
        ) from error
    if function_name not in vars(module):
        where = getattr(module, "__file__", None) or "a folder without __init__.py"
        raise ValueError(f"{option} is {name!r}, but the module {module_name!r} ({where}) has no {function_name!r}.")
    function = vars(module)[function_name]
    if not callable(function):
        raise ValueError(f"{option} is {name!r}, but that is {function!r} and no function.")
    if _is_pythons_own(function):
        raise ValueError(own)
    return function


def find_grader(name: str | None) -> Grader:
    """
    The grader of the name `"module.function"`, see [`find_function`]; `None` is the default. Its verdicts are checked, see
    [`CheckedGrader`].

    Raises:
        `ValueError`: no such function, or one that takes no two arguments.
    """
    if name is None:
        return grade_answer
    grader = find_function(name, "grader", example="my_grading.is_right")
    wanted = "it should take an answer and its row: def is_right(extracted, row): ..."
    try:
        signature = inspect.signature(grader)
        signature.bind("", {})
    except TypeError as error:
        raise ValueError(f"grader is {name!r}, whose arguments are {signature}, but {wanted}") from error
    except ValueError as error:  # compiled, without a signature
        raise ValueError(f"grader is {name!r}, whose arguments Python does not know, but {wanted}") from error
    return CheckedGrader(grader, name)


@dataclass(frozen=True)
class CheckedGrader:
    """
    A grader that the user wrote, with the name that errors give it. Each of its verdicts has to be one.

    Args:
        function (`Callable[[str, dict[str, Any]], Any]`):
            The grader.
        name (`str`):
            What it is called.
    """

    function: Callable[[str, dict[str, Any]], Any]
    name: str

    def __call__(self, extracted: str, row: dict[str, Any]) -> bool:
        """The verdict; raises `ValueError` where it is none."""
        return check_verdict(self.function(extracted, row), extracted, self.name)


def try_grader(grader: Grader, row: dict[str, Any]) -> None:
    """
    Call a grader that the user wrote with a row's own answer, before anything expensive.

    Raises:
        `ValueError`: it fails, or returns no verdict.
    """
    if not isinstance(grader, CheckedGrader):
        return
    answer = list_answers(row["answer"])[0]
    try:
        verdict = grader.function(answer, row | {"answer": answer})
    except Exception as error:
        raise ValueError(
            f"The grader {grader.name!r} fails for the answer {answer!r} of a row with the columns {list(row)}: "
            f"{_describe(error)}."
        ) from error
    check_verdict(verdict, answer, grader.name)


def _is_pythons_own(function: Any) -> bool:
    """Whether a function is built in or of the standard library, under whatever name."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    module = getattr(function, "__module__", None) or type(getattr(function, "__self__", function)).__module__
    return module.partition(".")[0] in sys.stdlib_module_names


def _describe(error: Exception) -> str:
    """An error of the user's code with the place where it happened."""
    text = f"{type(error).__name__}: {error}".removesuffix(".")
    if isinstance(error, SyntaxError) or error.__traceback__ is None:
        return text  # which has the place already
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({place.filename}, line {place.lineno})"
