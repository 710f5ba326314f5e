# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""`trl-latro evaluate`: from a model and a task to metrics with intervals."""

import importlib.metadata
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from ..answer_template import AnswerTemplate
from ..durability.checkpoints import check_writable
from ..evaluation.batches import plan_batches
from ..evaluation.evaluator import Evaluator, run_batches
from ..evaluation.files import (
    RESULTS,
    append_generations,
    generations_file,
    keep_complete_batches,
    open_folder,
    read_generations,
    write_json,
)
from ..evaluation.merging import load_whole_config
from ..evaluation.metrics import summarize
from ..evaluation.model import EvaluatedModel
from ..evaluation.questions import Questions
from ..evaluation.report import metrics_table
from ..evaluation.transformers_model import TransformersModel
from ..field_checks import check_stop_texts, read_mapping
from ..loading import check_weights, load_adapter, load_tokenizer, read_adapter_config
from ..prompting import PROMPTING_FILE, find_differences, find_prompting, read_model_prompting
from ..prompts import find_max_positions
from ..tasks.task import Task
from ..thinking import check_thinking_tags
from .common import HAS_GPU, check_vllm
from .parser import CommandParser
from .task_arguments import TaskArguments, try_grader


@dataclass
class EvaluationArguments(TaskArguments):
    """
    Arguments of `trl-latro evaluate`: those of [`TaskArguments`] and those below. Where a model says how it was prompted in
    its training (`trl_latro/prompting.py`), that is the default of `num_shots`, `prompt_template` and of all from
    `answer_template` to `thinking_tags`.

    Args:
        model_name_or_path (`str`, *optional*):
            Model or LoRA adapter: a folder or a name on the Hub.
        model_revision (`str`, *optional*):
            Revision on the Hub.
        dtype (`str`, *optional*):
            Type of the weights: `"bfloat16"`, `"float16"`, `"float32"` or `"auto"`. Defaults to `"bfloat16"`, without a
            GPU to `"float32"`, and not to the type that a model was saved in: models that are compared should run in
            one type.
        attn_implementation (`str`, *optional*):
            Implementation of attention.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether a model may bring code of its own.
        split (`str`, *optional*, defaults to `"test"`):
            `"test"`, `"validation"` or `"train"`.
        max_questions (`int`, *optional*):
            Number of questions, the first of the split. If `None`, all.
        output_dir (`str`, *optional*):
            Folder for the generations and the results. A stopped evaluation continues there.
        num_samples (`int`, *optional*, defaults to `8`):
            Samples at temperature 1 per question, besides the greedy completion.
        max_completion_length (`int`, *optional*, defaults to `512`):
            Longest rationale in tokens.
        answer_template (`str`, *optional*):
            How an answer is written. If not set, as in the model's training, else the task's template.
        answer_separator (`str`, *optional*, defaults to `" "`):
            Text between rationale and answer if the rationale did not reach the template. If not set, as in the model's
            training.
        rationale_stop_strings (`list[str]`, *optional*):
            Where a rationale ends, besides EOS tokens. If `None`, as in the model's training, else where the answer
            template begins.
        chat_template_kwargs (`dict[str, Any]` or `str`, *optional*):
            Keyword arguments for the chat template, on the command line as JSON: `'{"enable_thinking": false}'`.
        thinking_tags (`list[str]`, *optional*):
            The two tags between which the model thinks. If not set, what the chat template says; an empty list for a model
            that does not think.
        batch_size (`int`, *optional*, defaults to `64`):
            Completions that a process generates together.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples and of the bootstrap.
        use_vllm (`bool`, *optional*, defaults to `False`):
            Whether to generate with vLLM.
        vllm_tensor_parallel_size (`int`, *optional*, defaults to `1`):
            GPUs that share the model in vLLM.
    """

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model or LoRA adapter: a folder or a name on the Hub."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Revision on the Hub."})
    dtype: str = field(
        default="bfloat16" if HAS_GPU else "float32",
        metadata={
            "help": "Type of the weights. Models that are compared should run in one type, whatever they were saved in.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "Implementation of attention."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Whether a model may bring code of its own from the Hub."}
    )
    split: str = field(default="test", metadata={"help": "'test', 'validation' or 'train'."})
    max_questions: int | None = field(
        default=None, metadata={"help": "Number of questions, the first of the split. If not set, all."}
    )
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder for the generations and the results. A stopped evaluation continues there."},
    )
    num_samples: int = field(
        default=8, metadata={"help": "Samples at temperature 1 per question, besides the greedy completion."}
    )
    max_completion_length: int = field(default=512, metadata={"help": "Longest rationale in tokens."})
    answer_template: str | None = field(
        default=None,
        metadata={
            "help": "How an answer is written, with {answer} in it. If not set, as in the model's training (`evaluate` only), else "
            "the task's template."
        },
    )
    answer_separator: str = field(
        default=" ",
        metadata={
            "help": "Text between rationale and answer if the rationale did not reach the template. If not set, as in the "
            "model's training (`evaluate` only), else a space."
        },
    )
    rationale_stop_strings: list[str] | None = field(
        default=None,
        metadata={
            "help": "Where a rationale ends, besides EOS tokens. If not set, as in the model's training (`evaluate` only), else "
            "where the answer template begins."
        },
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Keyword arguments for the chat template, as JSON: '{\"enable_thinking\": false}'. If not set, as in the "
            "model's training (`evaluate` only)."
        },
    )
    thinking_tags: list[str] | None = field(
        default=None,
        metadata={
            "help": "The two tags between which the model thinks, as in <think> </think>. If not set, as in the model's "
            "training (`evaluate` only), else read from the chat template. An empty list (nothing after the option) is for a "
            "model that does not think."
        },
    )
    batch_size: int = field(default=64, metadata={"help": "Completions that a process generates together."})
    seed: int = field(default=0, metadata={"help": "Seed of the samples and of the bootstrap."})
    use_vllm: bool = field(default=False, metadata={"help": "Whether to generate with vLLM."})
    vllm_tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs that share the model in vLLM."})

    def __post_init__(self) -> None:
        if isinstance(self.chat_template_kwargs, str):
            self.chat_template_kwargs = read_mapping(self.chat_template_kwargs, "--chat_template_kwargs")

    def check(self) -> None:
        """
        Raises:
            `ValueError`, `FileNotFoundError`: a missing argument or one without meaning, before anything is loaded.
        """
        for name, given in (("model_name_or_path", self.model_name_or_path), ("output_dir", self.output_dir)):
            if given is None:
                raise ValueError(f"--{name} is missing.")
        check_stop_texts(self.rationale_stop_strings)
        check_thinking_tags(self.thinking_tags)
        for name, value, least in (
            ("num_samples", self.num_samples, 0),
            ("max_completion_length", self.max_completion_length, 1),
            ("batch_size", self.batch_size, 1),
            ("max_questions", self.max_questions, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"--{name} is {value}, but must be {least} or more.")
        if self.use_vllm:
            check_vllm()

    def make_template(self, task: Task) -> AnswerTemplate:
        """How an answer is written: as the task says where nothing else does."""
        text = task.answer_template.text if self.answer_template is None else self.answer_template
        stop_strings = None if self.rationale_stop_strings is None else tuple(self.rationale_stop_strings)
        return AnswerTemplate(text, self.answer_separator, stop_strings)

    def make_questions(
        self, task: Task, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, template: AnswerTemplate
    ) -> Questions:
        """The questions, once a grader that the user wrote is tried on the first of them."""
        try_grader(task.grader, dataset[0])
        prompting = (cast(dict[str, Any] | None, self.chat_template_kwargs), self.thinking_tags)
        return Questions(dataset, tokenizer, template, task.grader, self.max_completion_length, *prompting)


def load_model(
    arguments: EvaluationArguments, tokenizer: PreTrainedTokenizerBase, questions: Questions, state: PartialState
) -> EvaluatedModel:
    """The model on this process's device, or in vLLM."""
    if arguments.use_vllm:
        from ..evaluation.vllm_model import VLLMModel

        return VLLMModel(
            str(arguments.model_name_or_path),
            tokenizer,
            questions.max_completion_length,
            questions.answer_budget,
            questions.longest_row(),
            dtype=arguments.dtype,
            revision=arguments.model_revision,
            trust_remote_code=arguments.trust_remote_code,
            tensor_parallel_size=arguments.vllm_tensor_parallel_size,
        )
    name, revision = str(arguments.model_name_or_path), arguments.model_revision
    settings = {
        "dtype": arguments.dtype,
        "attn_implementation": arguments.attn_implementation,
        "trust_remote_code": arguments.trust_remote_code,
    }
    adapter = read_adapter_config(name, revision)
    if adapter is None:
        model = AutoModelForCausalLM.from_pretrained(name, revision=revision, **settings)
    else:
        model = load_adapter(name, revision, adapter, **settings)
    model = model.to(state.device).eval()
    questions.check_lengths(find_max_positions(model.config))
    return TransformersModel(
        model,
        tokenizer,
        questions.answer_template,
        questions.max_completion_length,
        questions.answer_budget,
        questions.thinking,
    )


def find_settings(arguments: EvaluationArguments, prompting: dict[str, Any], questions: Questions) -> dict[str, Any]:
    """All that the generations depend on: a stopped evaluation continues only with the same."""
    settings = asdict(arguments) | prompting
    del settings["output_dir"]
    del settings["skip_bad_rows"]  # which rows were read is in the questions
    # Another training may have written to the same folder in between, or the data may have changed
    settings["weights_modified"] = find_modification(str(arguments.model_name_or_path))
    settings["questions_sha256"] = sha256(repr(questions.rows).encode()).hexdigest()
    return settings


def find_modification(model_name_or_path: str) -> str | None:
    """When the weights in a folder were last changed, `None` for a model on the Hub."""
    times = [
        path.stat().st_mtime
        for pattern in ("*.safetensors", "*.bin")
        for path in Path(model_name_or_path).glob(pattern)
    ]
    return datetime.fromtimestamp(max(times), UTC).isoformat() if times else None


def say_prompting(prompting: dict[str, Any], trained: dict[str, Any] | None) -> None:
    """Say whether a model is prompted as it was in its training, where it remembers that, and what differs."""
    if trained is None:
        return
    differences = find_differences(prompting, trained)
    if not differences:
        print(f"Prompted as in the model's training, by its {PROMPTING_FILE}.")
    for name, now, then in differences:
        print(f"{name} is {now}, in the model's training it was {then}.")


def evaluate_to_folder(arguments: EvaluationArguments, trained: dict[str, Any] | None = None) -> None:
    """
    Evaluate, or continue an evaluation, and print the metrics.

    Args:
        arguments ([`EvaluationArguments`]):
            What to evaluate, and how.
        trained (`dict[str, Any]`, *optional*):
            How the model was prompted in its training, where it is known.
    """
    arguments.check()
    task = arguments.get_task()
    template = arguments.make_template(task)
    arguments.answer_template = template.text
    prompting = find_prompting(vars(arguments)) | arguments.prompting()
    # Processes may finish hours apart
    state = PartialState(cpu=not HAS_GPU, timeout=timedelta(days=7))
    if arguments.use_vllm and state.num_processes > 1:
        raise ValueError(
            f"--use_vllm with {state.num_processes} processes: start a single one, and vLLM spreads over the GPUs with "
            "--vllm_tensor_parallel_size."
        )
    if state.is_main_process:
        say_prompting(prompting, trained)
    output_dir = Path(str(arguments.output_dir))
    check_writable(output_dir)
    model = (str(arguments.model_name_or_path), arguments.model_revision, arguments.trust_remote_code)
    with state.local_main_process_first():  # the others find the Hub's files in the cache
        tokenizer = load_tokenizer(*model)
    dataset = arguments.load(arguments.split, tokenizer, template.text)
    if len(dataset) == 0:
        raise ValueError(
            f"--split {arguments.split} has no questions with --validation_size {arguments.validation_size}."
        )
    if arguments.max_questions is not None:
        dataset = dataset.select(range(min(arguments.max_questions, len(dataset))))
    questions = arguments.make_questions(task, dataset, tokenizer, template)
    if arguments.use_vllm:  # which has models of its own
        questions.check_lengths(find_max_positions(load_whole_config(*model)))
    else:
        with state.local_main_process_first():
            check_weights(*model, arguments.attn_implementation, arguments.dtype)
    settings = find_settings(arguments, prompting, questions)
    batches = plan_batches([len(ids) for ids in questions.prompt_ids], arguments.num_samples, arguments.batch_size)

    if state.is_main_process:
        open_folder(output_dir, settings)
        keep_complete_batches(output_dir, batches)
    state.wait_for_everyone()
    done = {one.batch for one in read_generations(output_dir)}
    missing = [batch for batch in batches if batch.number not in done]
    state.wait_for_everyone()  # every process has seen the same batches before one of them adds to them
    if done and state.is_main_process:
        print(f"Continuing in {output_dir}: {len(done)} of {len(batches)} batches are there.")

    own = missing[state.process_index :: state.num_processes]
    if own:
        evaluator = Evaluator(load_model(arguments, tokenizer, questions, state), questions)
        for generations in run_batches(evaluator, own, arguments.seed, progress=state.is_main_process):
            append_generations(generations_file(output_dir, state.process_index), generations)
    state.wait_for_everyone()

    if state.is_main_process:
        metrics = summarize(read_generations(output_dir), arguments.max_completion_length, arguments.seed)
        results = {
            "settings": settings,
            "questions": len(questions.rows),
            "metrics": {name: metric._asdict() for name, metric in metrics.items()},
            "versions": {name: importlib.metadata.version(name) for name in ("trl_latro", "transformers", "torch")},
        }
        write_json(output_dir / RESULTS, results)
        print(
            f"\n{arguments.model_name_or_path} on {arguments.task}, {arguments.split}: {len(questions.rows)} questions"
        )
        print(metrics_table(metrics))
        print(f"Written to {output_dir}.")
    state.destroy_process_group()


def main(argv: list[str] | None = None) -> None:
    """
    Evaluate a model.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.
    """
    # How the model was prompted in its training is the default, so the model is looked at first
    arguments, *_ = CommandParser(
        [EvaluationArguments], prog="trl-latro evaluate", add_help=False
    ).parse_args_and_config(argv, return_remaining_strings=True)
    name, revision = arguments.model_name_or_path, arguments.model_revision
    trained = None if name is None else read_model_prompting(name, revision)
    parser = CommandParser([EvaluationArguments], prog="trl-latro evaluate")
    parser.set_defaults_with_config(**arguments.defaults_of(trained))
    (arguments,) = parser.parse_args_and_config(argv)
    evaluate_to_folder(arguments, trained)
