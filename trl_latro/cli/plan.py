# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

"""`trl-latro plan`: does a training fit, and how much does it do? No weights are loaded, no GPU is needed."""

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from datasets import Dataset
from transformers import PreTrainedConfig
from trl import ModelConfig

from ..answer_template import AnswerTemplate, list_answers
from ..checks import check_batch_of_prompts
from ..latro_config import LaTROConfig
from ..loading import load_config, load_tokenizer
from ..planning.memory import Machine, Memory, Rows, estimate_memory
from ..planning.skeleton import build_skeleton, is_quantized
from ..planning.zero import Zero, read_zero
from ..prompts import find_max_positions, tokenize_prompts
from ..tasks.sources import HubSource
from ..tasks.task import Task
from .budget import budget, count_samples
from .parser import CommandParser
from .reward_arguments import RewardArguments
from .train import check_arguments


GIB = 2**30
GPUS = (24, 40, 48, 80, 141)  # GB of the cards that can be rented
SPARE = 0.1  # share of a GPU left for CUDA's context, communication buffers and fragments
ASSUMED_PROMPT, ASSUMED_ANSWER = 512, 16  # tokens


@dataclass
class PlanConfig(LaTROConfig):
    """
    [`LaTROConfig`] for a plan: the checks are those of a training on `num_nodes` x `num_gpus` processes, but nothing is
    started.

    Args:
        num_gpus (`int`, *optional*):
            GPUs per node. Defaults to 8 with DeepSpeed and to 1 without.
        num_nodes (`int`, *optional*, defaults to `1`):
            Nodes.
        gpu_memory (`float`, *optional*):
            Memory of a GPU in GiB. Without it the plan says which common GPUs are large enough.
        max_prompt_length (`int`, *optional*):
            Tokens of the longest prompt. Without it, the longest of the data where they are in a local file, else 512.
    """

    if TYPE_CHECKING:
        deepspeed: dict[str, Any] | str | None = None  # the config's own field

    num_gpus: int | None = field(
        default=None, metadata={"help": "GPUs per node. Defaults to 8 with DeepSpeed and to 1 without."}
    )
    num_nodes: int = field(default=1, metadata={"help": "Number of nodes."})
    gpu_memory: float | None = field(
        default=None,
        metadata={"help": "Memory of a GPU in GiB. Without it the plan says which common GPUs are large enough."},
    )
    max_prompt_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of the longest prompt. Without it, the longest of the data where they are in a local file, "
            f"else {ASSUMED_PROMPT}."
        },
    )

    def __post_init__(self) -> None:
        self.zero: Zero | None = read_zero(self.deepspeed) if self.deepspeed else None
        self.deepspeed = None  # it would start processes
        self.use_cpu = True  # bf16 is then accepted without a GPU
        for name, value in (
            ("num_gpus", self.num_gpus),
            ("num_nodes", self.num_nodes),
            ("gpu_memory", self.gpu_memory),
            ("max_prompt_length", self.max_prompt_length),
        ):
            if value is not None and value <= 0:
                raise ValueError(f"--{name} is {value}, but must be more than 0.")
        super().__post_init__()
        # What asks whether there is DeepSpeed reads this
        self.deepspeed_plugin = self.zero

    @property
    def gpus_per_node(self) -> int:
        """`num_gpus`, or its default."""
        if self.num_gpus is None:
            return 1 if self.zero is None else 8
        return self.num_gpus

    @property
    def world_size(self) -> int:
        """Processes of the planned training, one per GPU."""
        return self.gpus_per_node * self.num_nodes


def check_settings(args: PlanConfig, model_args: ModelConfig) -> None:
    """
    Raises:
        `ValueError`: settings that cannot work together, or that have no estimate.
    """
    if is_quantized(model_args) and not model_args.use_peft:
        raise ValueError("--load_in_4bit and --load_in_8bit need --use_peft: quantized weights cannot be trained.")
    floating = ("bfloat16", "float16", "float32")
    if is_quantized(model_args) and args.zero is not None and args.zero.stage == 3:
        if model_args.load_in_8bit or model_args.bnb_4bit_quant_storage not in floating:
            raise ValueError(
                "Quantized weights with ZeRO-3: DeepSpeed shards weights of one type only. Use --load_in_4bit with "
                "--bnb_4bit_quant_storage bfloat16, ZeRO stage 2, or no DeepSpeed."
            )
    if model_args.attn_implementation not in (None, "eager", "sdpa"):
        raise ValueError(
            f"--attn_implementation {model_args.attn_implementation} has no estimate here: plan knows eager and sdpa. "
            "FlashAttention comes closest to sdpa with --share_prompts false."
        )
    if args.fsdp:
        raise ValueError("--fsdp has no estimate here: plan knows one GPU, DDP and DeepSpeed's ZeRO.")
    if args.zero is not None and not (args.bf16 or args.fp16):
        raise ValueError("--deepspeed with --bf16 false: DeepSpeed's estimate is for 16-bit training.")


def find_dataset(
    task: Task | None, task_args: RewardArguments, args: PlanConfig, model_args: ModelConfig
) -> tuple[Dataset | None, Any]:
    """Training questions and tokenizer, where the questions are in a local file; `None` where they are not."""
    if task is None or (task_args.dataset_path is None and isinstance(task.source, HubSource)):
        return None, None
    tokenizer = load_tokenizer(str(model_args.model_name_or_path), model_args.model_revision, args.trust_remote_code)
    return task_args.load("train", tokenizer), tokenizer


def measure_rows(args: PlanConfig, dataset: Dataset | None, tokenizer: Any) -> tuple[Rows, str]:
    """Tokens of the longest prompt, rationale and answer, and where they come from."""
    if dataset is None:
        prompt = args.max_prompt_length or ASSUMED_PROMPT
        source = "--max_prompt_length" if args.max_prompt_length else "assumed, see --max_prompt_length"
        return Rows(prompt, args.max_completion_length, ASSUMED_ANSWER), source
    template, lead = AnswerTemplate(args.answer_template), args.answer_separator
    answer = 1 + max(template.lengths(tokenizer, dataset["answer"], lead))  # and the EOS token
    if args.truncate_answers:
        answer = min(answer, max(template.lengths(tokenizer, [""], lead)) + cast(int, args.answer_max_length))
    answers = max(len(list_answers(of_row)) for of_row in dataset["answer"])
    if args.max_prompt_length:
        return Rows(args.max_prompt_length, args.max_completion_length, answer, answers), "--max_prompt_length"
    prompt = max(len(ids) for ids in tokenize_prompts(tokenizer, list(dataset["prompt"])))
    return Rows(prompt, args.max_completion_length, answer, answers), "the longest of the training data"


def count_questions(task: Task | None, task_args: RewardArguments, dataset: Dataset | None) -> int | None:
    """Training questions, also of a named task whose data are not read; `None` where their number is not known."""
    if dataset is not None:
        return len(dataset)
    return None if task is None else task.count_train(task_args.num_shots, task_args.validation_size)


def check_positions(rows: Rows, source: str, config: PreTrainedConfig) -> None:
    """
    Raises:
        `ValueError`: the longest row has more tokens than the model has positions.
    """
    max_positions = find_max_positions(config)
    if max_positions is not None and rows.length > max_positions:
        raise ValueError(
            f"A prompt of {rows.prompt} tokens ({source}), a rationale of {rows.rationale} (--max_completion_length) and "
            f"an answer of {rows.answer} need {rows.length} positions, but the model has {max_positions}."
        )


def gib(nbytes: float) -> str:
    return f"{nbytes / GIB:8.2f}" if nbytes < 0.1 * GIB else f"{nbytes / GIB:8.1f}"


def memory_table(memory: Memory) -> str:
    """Items and sum, in GiB."""
    fullest = max(memory.phases.values())
    rows = [(name, nbytes, "") for name, nbytes in memory.states.items()]
    rows += [
        (name, nbytes, "" if nbytes == fullest else " (not at the same time)")
        for name, nbytes in memory.phases.items()
    ]
    rows.append(("at the fullest moment", memory.total, ""))
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"  {name:{width}} {gib(nbytes)}{note}" for name, nbytes, note in rows)


def verdict(total: int, args: PlanConfig) -> str:
    """On which GPUs it fits."""
    colocated = args.vllm_gpu_memory_utilization if args.use_vllm and args.vllm_mode == "colocate" else 0.0
    usable = 1.0 - SPARE - colocated
    kept = f"{SPARE:.0%} kept free" + (f", {colocated:.0%} for vLLM" if colocated else "")
    if args.gpu_memory is not None:
        fits = total <= usable * args.gpu_memory * GIB
        return (
            f"{'Fits' if fits else 'DOES NOT FIT'} into {args.gpu_memory:g} GiB: {total / GIB:.1f} of "
            f"{usable * args.gpu_memory:.1f} GiB ({kept})."
        )
    large_enough = [size for size in GPUS if total <= usable * size * GIB]
    if not large_enough:
        return f"DOES NOT FIT on any GPU of up to {GPUS[-1]} GB ({kept})."
    return f"Fits on GPUs of {', '.join(map(str, large_enough))} GB ({kept})."


def plan(task_args: RewardArguments, args: PlanConfig, model_args: ModelConfig) -> str:
    """
    Plan a training.

    Args:
        task_args ([`RewardArguments`]):
            What to train on.
        args ([`PlanConfig`]):
            Arguments of the trainer, and the machine.
        model_args ([`~trl.ModelConfig`]):
            Model, precision, LoRA and quantization.

    Returns:
        `str`: the plan, some lines of text.

    Raises:
        `ValueError`: settings that cannot work.
    """
    task = None if task_args.task is None else task_args.get_task()
    check_arguments(task_args, args, model_args)
    check_settings(args, model_args)
    name = str(model_args.model_name_or_path)  # there is one after the checks
    config = load_config(name, model_args.model_revision, args.trust_remote_code)
    dataset, tokenizer = find_dataset(task, task_args, args, model_args)
    num_questions = count_questions(task, task_args, dataset)
    if num_questions is not None:
        check_batch_of_prompts(num_questions, args.generation_batch_size // args.num_generations)
    rows, source = measure_rows(args, dataset, tokenizer)
    check_positions(rows, source, config)

    sixteen_bit = None if args.zero is None else torch.bfloat16 if args.bf16 else torch.float16
    model = build_skeleton(config, model_args, args.trust_remote_code, sixteen_bit)
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    memory = estimate_memory(model, args, model_args, Machine(args.gpus_per_node, args.num_nodes, args.zero), rows)

    trained_share = "all trained" if trained == total else f"{trained:,} of them trained"
    gpus = f"{args.gpus_per_node} GPU{'s' if args.gpus_per_node > 1 else ''}"
    if args.num_gpus is None:
        gpus += " (assumed, see --num_gpus)"
    nodes = f"{args.num_nodes} nodes x " if args.num_nodes > 1 else ""
    sharding = str(args.zero) if args.zero is not None else "nothing sharded"
    lines = [
        f"{model_args.model_name_or_path}: {total:,} parameters, {trained_share}",
        f"{nodes}{gpus}, {sharding}",
        f"Rows of {rows.prompt} (prompt: {source}) + {rows.rationale} (rationale) + {rows.answer} (answer) tokens",
        budget(args, num_questions),
        f"At most {count_samples(args) * rows.answers * rows.length:,} tokens per step",
        "",
        "GiB per GPU, an estimate:",
        memory_table(memory),
    ]
    if memory.in_generation:
        parts = [f"{gib(nbytes).strip()} GiB of {name}" for name, nbytes in memory.in_generation.items()]
        lines.append(f"Generation: {', '.join(parts)}")
    if memory.host:
        lines.append(f"Host memory per node, DeepSpeed's estimate: {memory.host / GIB:.0f} GiB")
    if args.use_vllm and args.vllm_mode == "server":
        lines.append("Rationales are sampled on vLLM's server, which has GPUs of its own.")
    return "\n".join([*lines, verdict(memory.total, args)])


def main(argv: list[str] | None = None) -> None:
    """
    Print the plan of a training, from the arguments of `trl-latro train` and those of [`PlanConfig`].

    Args:
        argv (`list[str]`, *optional*):
            Arguments; `None` takes those of the command line.
    """
    # TRL 1.16 and PEFT use names that transformers has renamed: nothing that a user could change
    warnings.filterwarnings("ignore", ".* is deprecated and will be removed in v6", FutureWarning)
    parser = CommandParser([RewardArguments, PlanConfig, ModelConfig], prog="trl-latro plan")
    print(plan(*parser.parse_args_and_config(argv)))
