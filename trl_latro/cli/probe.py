# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""`trl-latro probe`: look at the untrained model on the task before it is trained."""

import dataclasses
import importlib.metadata
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState

from ..durability.checkpoints import check_writable
from ..evaluation.files import write_json
from ..evaluation.transformers_model import TransformersModel
from ..loading import check_weights, load_tokenizer
from ..objective import REWARDS
from ..probing.findings import Findings, find
from ..probing.report import EXAMPLES, verdict, write_report
from ..probing.samples import sample
from .common import HAS_GPU
from .evaluate import EvaluationArguments, load_model
from .parser import CommandParser
from .task_arguments import TaskArguments


PROBE = "probe.json"
MOST_REFERENCES = 10_000
LEAST_TEMPLATE_LOGP = -1.0
# What a training takes over from the probe, beside the arguments of the task
_SHARED = (
    "model_name_or_path",
    "model_revision",
    "attn_implementation",
    "trust_remote_code",
    *(one.name for one in dataclasses.fields(TaskArguments)),
    "answer_template",
    "answer_separator",
    "rationale_stop_strings",
    "chat_template_kwargs",
    "thinking_tags",
)


@dataclass
class ProbeArguments(EvaluationArguments):
    """
    Arguments of `trl-latro probe`: those of [`EvaluationArguments`], without vLLM, with other defaults. As in training, the
    model's own record of how it was prompted is not read.

    Args:
        split (`str`, *optional*, defaults to `"train"`):
            `"test"`, `"validation"` or `"train"`.
        max_questions (`int`, *optional*, defaults to `64`):
            Questions, drawn at random.
        output_dir (`str`, *optional*):
            Folder for `probe.json`.
        num_samples (`int`, *optional*, defaults to `16`):
            Samples at temperature 1 per question: the K of the training.
    """

    split: str = field(default="train", metadata={"help": "'test', 'validation' or 'train'."})
    max_questions: int | None = field(default=64, metadata={"help": "Number of questions, drawn at random."})
    output_dir: str | None = field(default=None, metadata={"help": f"Folder for {PROBE}."})
    num_samples: int = field(
        default=16, metadata={"help": "Samples at temperature 1 per question: the num_generations of the training."}
    )

    def check(self) -> None:
        super().check()
        if self.num_samples < 2:
            raise ValueError(f"--num_samples is {self.num_samples}, but samples are compared: it must be 2 or more.")
        if self.use_vllm:
            raise ValueError(
                "--use_vllm: a probe reads the log-prob of each token of an answer, which evaluation with vLLM does not keep. "
                "Leave it out."
            )


def is_about_template(findings: Findings) -> bool:
    """Whether the recommended reward is in part about a template that the model does not write as a matter of course."""
    about_all = REWARDS[str(findings.recommended)].tokens == "template_and_answer"
    return about_all and findings.answer_logps["sampled"]["template"] < LEAST_TEMPLATE_LOGP


def training_command(arguments: ProbeArguments, findings: Findings) -> str | None:
    """The command of the training that the findings recommend; `None` if they recommend none."""
    if findings.recommended is None:
        return None
    limits = (findings.limits[99], findings.limits[95], 2 * arguments.max_completion_length)
    values: dict[str, Any] = {
        **{one.name: getattr(arguments, one.name) for one in dataclasses.fields(arguments) if one.name in _SHARED},
        "reward_type": findings.recommended,
        "reward_tokens": "answer" if is_about_template(findings) else None,
        "num_generations": arguments.num_samples,
        "per_device_train_batch_size": arguments.num_samples,
        "max_completion_length": next(limit for limit in limits if limit is not None),
    }
    defaults = {one.name: one.default for one in dataclasses.fields(arguments) if one.name in _SHARED}
    defaults["reward_tokens"] = None
    words = ["trl-latro", "train"]
    for name, value in values.items():
        if name not in defaults or value != defaults[name]:
            texts = (
                value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]
            )
            words += [f"--{name}", *texts]
    return shlex.join(words)


def probe(arguments: ProbeArguments) -> None:
    """Probe a model, print the report and write it as JSON."""
    arguments.check()
    task = arguments.get_task()
    template = arguments.make_template(task)
    state = PartialState(cpu=not HAS_GPU)
    if state.num_processes > 1:
        raise ValueError(
            f"A probe runs in one process, but there are {state.num_processes}: start it without a launcher."
        )
    output_dir = Path(str(arguments.output_dir))
    check_writable(output_dir)
    model = (str(arguments.model_name_or_path), arguments.model_revision, arguments.trust_remote_code)
    tokenizer = load_tokenizer(*model)
    dataset = arguments.load(arguments.split, tokenizer, template.text).shuffle(arguments.seed)
    if not isinstance(dataset["answer"][0], str):
        raise ValueError(
            "The data have lists of right answers, but a probe compares the log-probs of single ones: give each question the "
            "answer to probe with."
        )
    references = [answer.strip() for answer in dataset["answer"][:MOST_REFERENCES]]
    dataset = dataset.select(range(min(arguments.max_questions or len(dataset), len(dataset))))
    questions = arguments.make_questions(task, dataset, tokenizer, template)
    check_weights(*model, arguments.attn_implementation, arguments.dtype)
    loaded = cast(TransformersModel, load_model(arguments, tokenizer, questions, state))
    probed = sample(loaded, questions, arguments.num_samples, arguments.batch_size, arguments.seed)
    findings = find(probed, references, arguments.max_completion_length, arguments.seed)
    command = training_command(arguments, findings)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(
        output_dir / PROBE,
        {
            "settings": asdict(arguments),
            "questions": len(probed),
            **findings.as_json(),
            "verdicts": {name: verdict(name, of) for name, of in findings.rewards.items()},
            "command": command,
            "examples": [of.samples[0]._asdict() for of in probed[:EXAMPLES]],
            "versions": {name: importlib.metadata.version(name) for name in ("trl_latro", "transformers", "torch")},
        },
    )
    print(f"\n{arguments.model_name_or_path} on {arguments.task}, {arguments.split}. ", end="")
    print(write_report(findings, probed, arguments.max_completion_length, command))
    print(f"Written to {output_dir / PROBE}.")


def main(argv: list[str] | None = None) -> None:
    """
    Probe a model.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.
    """
    (arguments,) = CommandParser([ProbeArguments], prog="trl-latro probe").parse_args_and_config(argv)
    probe(arguments)
