# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Checks of what the user passes in. Each failure is one sentence: what is wrong, the value seen, what to do."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from jinja2 import TemplateError
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from trl import is_conversational

from .durability.checkpoints import check_writable
from .durability.hub import make_repository
from .eval_samples import metric_names
from .latro_config import LaTROConfig
from .loading import is_utf8
from .packing import EncodedAnswer
from .thinking import Thinking, find_thinking
from .truncation import check_stop_strings


logger = logging.getLogger(__name__)


def named_datasets(train_dataset: Any, eval_dataset: Any) -> dict[str, Dataset | IterableDataset]:
    """The datasets by the names that error messages give them; other types are left to the parent's checks."""
    named = {"train_dataset": train_dataset}
    if isinstance(eval_dataset, dict):
        named |= {f"eval_dataset[{key!r}]": dataset for key, dataset in eval_dataset.items()}
    else:
        named["eval_dataset"] = eval_dataset
    return {name: dataset for name, dataset in named.items() if isinstance(dataset, (Dataset, IterableDataset))}


def check_arguments(
    model: str | PreTrainedModel | PeftModel,
    args: LaTROConfig,
    processing_class: Any,
    train_dataset: Any,
    eval_dataset: Any,
    functions: Sequence[str] = (),
) -> Thinking | None:
    """
    The checks of a trainer's arguments that come first: to load a model may take minutes. `functions` are the names
    of the reward functions.

    Returns:
        [`~trl_latro.thinking.Thinking`], *optional*: how the model writes its thinking, if it does. Rows of a stream pass for
        messages.

    Raises:
        `ValueError`, `TypeError`, `OSError`: see the other checks.
    """
    check_writable(args.output_dir)
    check_processing_class(processing_class)
    if not isinstance(model, str):
        check_architecture(model, processing_class)
    datasets = named_datasets(train_dataset, eval_dataset)
    for name, dataset in datasets.items():
        check_dataset(dataset, name, processing_class)
    # Of a whole row, `is_conversational` may look at another column
    prompts = [{"prompt": rows[0]["prompt"]} for rows in datasets.values() if isinstance(rows, Dataset)]
    conversational = all(map(is_conversational, prompts))
    thinking = find_thinking(processing_class, conversational, args.chat_template_kwargs or {}, args.thinking_tags)
    check_stop_strings(processing_class, args.rationale_stop_strings or [], thinking)
    if eval_dataset is not None:
        prefixes = [f"{key}_" for key in eval_dataset] if isinstance(eval_dataset, dict) else [""]
        check_evaluation(args, prefixes, functions)
    if args.push_to_hub and args.process_index == 0:
        make_repository(args)
    if args.reward_tokens == "answer" and args.scores_answers and args.process_index == 0:
        logger.warning(
            "The reward is about the answer alone; the template before it is learnt with the answer's weight."
        )
    return thinking


def check_evaluation(args: LaTROConfig, prefixes: list[str], functions: Sequence[str] = ()) -> None:
    """
    Check how evaluation is batched, and the metric that chooses the best model. `prefixes` are those of the datasets,
    `functions` the names of the reward functions.

    Raises:
        `ValueError`: the samples of a prompt would be split, or no metric has this name.
    """
    num_generations = args.num_generations_eval or args.num_generations
    size = args.per_device_eval_batch_size * args.world_size
    if size % num_generations != 0:
        raise ValueError(
            f"Evaluation takes {args.per_device_eval_batch_size} samples on each of {args.world_size} processes, {size} in "
            f"all, which {num_generations} samples per prompt do not divide: change `per_device_eval_batch_size` or "
            "`num_generations_eval`."
        )
    if args.metric_for_best_model is not None:
        known = metric_names(num_generations, args.beta, args.scores_answers, functions)
        names = [f"eval_{prefix}{name}" for prefix in prefixes for name in known]
        if f"eval_{args.metric_for_best_model.removeprefix('eval_')}" not in names:
            raise ValueError(
                f"`metric_for_best_model` is {args.metric_for_best_model!r}, but evaluation logs {', '.join(names)}. Choose "
                "one of them."
            )


def check_processing_class(processing_class: Any) -> None:
    """
    Raises:
        `TypeError`: not a tokenizer. `ValueError`: a tokenizer without EOS token.
    """
    if isinstance(processing_class, ProcessorMixin):
        raise TypeError(
            f"`processing_class` is a {type(processing_class).__name__}, but LaTRO trains on text only. Pass a text "
            "model, or its tokenizer as `processing_class`."
        )
    if not isinstance(processing_class, PreTrainedTokenizerBase):
        raise TypeError(
            f"`processing_class` is a {type(processing_class).__name__}, but must be a tokenizer "
            "(`AutoTokenizer.from_pretrained(...)`)."
        )
    if processing_class.eos_token_id is None:
        raise ValueError(
            f"The tokenizer {type(processing_class).__name__} has no EOS token (`eos_token` is None), so neither a "
            "rationale nor the answer could end. Set `tokenizer.eos_token`."
        )


def _name_row(where: str, row: int, prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else str(prompt)
    return f"{where.format(row=row)} (prompt {text if len(text) < 80 else text[:77] + '...'!r})"


def check_rows(prompts: Sequence[Any], answers: Sequence[Any], tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """
    Check prompts and answers; `where` names the rows, as "`train_dataset` row {row}", with `{row}` left open.

    Raises:
        `ValueError`: a prompt that is neither text nor messages, an answer that is empty or neither text nor a list of texts,
        messages without a chat template, text with a tokenizer that ends it.
    """
    if isinstance(prompts[0], str) and tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]:
        raise ValueError(
            f"The tokenizer puts its EOS token {tokenizer.eos_token!r} behind every text, so a prompt would end before its "
            "rationale begins. Load it with `add_eos_token=False`, or make the prompts messages."
        )
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not (answer and all(map(_is_text, answer)) if isinstance(answer, list) else _is_text(answer)):
            raise ValueError(
                f"{_name_row(where, row, prompt)} has the answer {answer!r}, but every row needs a reference answer as "
                "non-empty text, or a list of such texts where several are right. Remove the row or fill in its answer."
            )
        if not (isinstance(prompt, str) and is_utf8(prompt) or _is_messages(prompt)):
            raise ValueError(
                f"{_name_row(where, row, prompt)} has a prompt that is neither text nor a list of messages, each with its "
                "'role' and 'content' as text. Remove the row or mend its prompt."
            )
        if is_conversational({"prompt": prompt}) and tokenizer.chat_template is None:
            raise ValueError(
                f"{_name_row(where, row, prompt)} has messages as its prompt, but the tokenizer has no chat template. "
                "Use an instruction-tuned model, set `tokenizer.chat_template`, or make the prompts plain text."
            )


def _is_text(answer: Any) -> bool:
    return isinstance(answer, str) and bool(answer.strip()) and is_utf8(answer)


def _is_messages(prompt: Any) -> bool:
    return (
        isinstance(prompt, list)
        and len(prompt) > 0
        and all(
            isinstance(message, dict)
            and all(isinstance(message.get(name), str) and is_utf8(message[name]) for name in ("role", "content"))
            for message in prompt
        )
    )


def tokenize_checked(
    tokenize: Callable[[list[Any]], list[list[int]]], prompts: list[Any], where: str, first_row: int = 0
) -> list[list[int]]:
    """
    Tokens of prompts.

    Raises:
        `ValueError`: a prompt that the tokenizer or its chat template refuses, with its row.
    """
    refusals = (ValueError, TypeError, UnicodeError, TemplateError)
    try:
        return tokenize(prompts)
    except refusals:
        for row, prompt in enumerate(prompts, start=first_row):
            try:
                tokenize([prompt])
            except refusals as error:
                raise ValueError(
                    f"{_name_row(where, row, prompt)} has a prompt that cannot be tokenized: {str(error).rstrip('.')}. "
                    "Remove the row, or change its prompt."
                ) from error
        raise


def check_columns(columns: Sequence[str], name: str) -> None:
    """
    Raises:
        `ValueError`: the column `prompt` or `answer` is missing.
    """
    missing = [column for column in ("prompt", "answer") if column not in columns]
    if missing:
        raise ValueError(
            f"`{name}` has no column {' and no column '.join(map(repr, missing))}; its columns are {list(columns)}. "
            "Rename the columns to 'prompt' (text or messages) and 'answer' (text or texts), for example with "
            "`dataset.rename_column`."
        )


def check_config(args: Any) -> LaTROConfig:
    """
    Returns:
        [`LaTROConfig`]: `args`.

    Raises:
        `TypeError`: they are something else.
    """
    if not isinstance(args, LaTROConfig):
        raise TypeError(
            f"`args` is a {type(args).__name__}, but must be a `LaTROConfig`, which takes all fields of TRL's `RLOOConfig`."
        )
    return args


def check_dataset(dataset: Dataset | IterableDataset, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Check columns and every row of a dataset; of a stream only the columns, its rows are checked as they come.

    Raises:
        `ValueError`: see [`check_columns`] and [`check_rows`]; or no rows.
    """
    is_stream = isinstance(dataset, IterableDataset)
    columns = dataset.column_names or list(next(iter(dataset), {}))
    if not columns or (not is_stream and len(dataset) == 0):
        raise ValueError(f"`{name}` has no rows. Check how it was loaded or filtered.")
    check_columns(columns, name)
    if not is_stream:
        check_rows(dataset["prompt"], dataset["answer"], tokenizer, f"`{name}` row {{row}}")


def check_batch_of_prompts(rows: int, prompts: int) -> None:
    """
    Raises:
        `ValueError`: fewer rows than one generation batch takes prompts. TRL would drop them and train for 0 steps.
    """
    if rows < prompts:
        raise ValueError(
            f"`train_dataset` has {rows} rows, but a generation batch takes {prompts} prompts (`generation_batch_size` "
            "divided by `num_generations`). Add rows, or lower `gradient_accumulation_steps` or "
            "`per_device_train_batch_size`."
        )


def check_lengths(
    prompts: Sequence[Any],
    prompt_lengths: Sequence[int],
    answer_lengths: Sequence[int],
    max_completion_length: int,
    max_positions: int | None,
    where: str,
    first_row: int = 0,
) -> None:
    """
    Check that prompt, longest rationale and answer fit into the model; lengths in tokens.

    Raises:
        `ValueError`: a prompt without tokens, or one that leaves no positions for rationale and answer.
    """
    rows = zip(prompts, prompt_lengths, answer_lengths, strict=True)
    for row, (prompt, prompt_length, answer_length) in enumerate(rows, start=first_row):
        if prompt_length == 0:
            raise ValueError(
                f"{_name_row(where, row, prompt)} has a prompt without any token, so there is nothing to predict the first "
                "token of the rationale from. Remove the row or fill in its prompt."
            )
        needed = prompt_length + max_completion_length + answer_length
        if max_positions is not None and needed > max_positions:
            raise ValueError(
                f"{_name_row(where, row, prompt)} has a prompt of {prompt_length} tokens, which with `max_completion_length` "
                f"{max_completion_length} and an answer of {answer_length} tokens needs {needed} positions, but the model "
                f"has {max_positions}. Remove the row, shorten its prompt, or lower `max_completion_length`."
            )


def check_answer_lengths(
    prompts: Sequence[Any],
    answers: Sequence[Sequence[EncodedAnswer]],
    answer_max_length: int,
    where: str,
    first_row: int = 0,
) -> list[int]:
    """
    Check that no answer is longer than the user expects.

    Returns:
        `list[int]`: tokens of the longest answer of each row, in the template.

    Raises:
        `ValueError`: one has more than `answer_max_length` tokens behind the template's.
    """
    for row, (prompt, of_row) in enumerate(zip(prompts, answers, strict=True), start=first_row):
        longest = max(len(one.ids) - one.template_length for one in of_row)
        if longest > answer_max_length:
            raise ValueError(
                f"{_name_row(where, row, prompt)} has an answer of {longest} tokens, with what follows it and the end-of-turn "
                f"token, but `answer_max_length` is {answer_max_length}. Raise it, remove the row, or set "
                "`truncate_answers=True`."
            )
    return [max(len(one.ids) for one in of_row) for of_row in answers]


def check_rows_fit(train_dataset: Any, eval_dataset: Any, check: Callable[..., Any]) -> None:
    """Call [`check_lengths`] through `check` for all rows; those of a stream are checked as they come."""
    for name, dataset in named_datasets(train_dataset, eval_dataset).items():
        if isinstance(dataset, Dataset):
            rows = dataset.select_columns(["prompt", "answer"])
            for first in range(0, len(rows), 1000):
                check(**rows[first : first + 1000], where=f"`{name}` row {{row}}", first_row=first)


def check_architecture(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Check that a model predicts the next of the tokenizer's tokens.

    Raises:
        `ValueError`: an encoder-decoder, a model without LM head, or one with fewer embeddings than the tokenizer has
        tokens.
    """
    kind, config = type(model).__name__, model.config.get_text_config()
    if config.is_encoder_decoder:
        raise ValueError(f"The model is a {kind}, an encoder-decoder, but rationales need a causal language model.")
    if model.get_output_embeddings() is None:
        raise ValueError(
            f"The model is a {kind}, which has no LM head to predict tokens with. Load it with "
            "`AutoModelForCausalLM.from_pretrained`."
        )
    # An adapter may have wrapped the layer
    embeddings = next(one for one in model.get_input_embeddings().modules() if isinstance(one, nn.Embedding))
    num_embeddings, largest = embeddings.num_embeddings, max(tokenizer.get_vocab().values())
    if largest >= num_embeddings:
        raise ValueError(
            f"The tokenizer has tokens up to {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}), but the model has "
            f"{num_embeddings} embeddings. Take the model's own tokenizer, or call `model.resize_token_embeddings("
            f"{largest + 1})` and train them first."
        )


def check_model(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, args: LaTROConfig, has_masters: bool
) -> None:
    """
    Check a loaded model. The log says where weights are too coarse for a step, unless the backend `has_masters` in float32.

    Raises:
        `ValueError`: see [`check_architecture`]; no parameter is trained; attention with dropout of its own, which it reads
        from the config and `disable_dropout` does not reach.
    """
    check_architecture(model, tokenizer)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        hint = "Load the adapter with `is_trainable=True`" if isinstance(model, PeftModel) else "Unfreeze some"
        raise ValueError(f"The model is a {type(model).__name__} without a trainable parameter. {hint}.")
    attention_dropout = model.config.get_text_config().to_dict().get("attention_dropout") or 0.0
    if args.disable_dropout and attention_dropout > 0:
        raise ValueError(
            f"The model's config has `attention_dropout` {attention_dropout}, which makes the rewards noisy. Load "
            "the model with `model_init_kwargs={'attention_dropout': 0.0}`."
        )
    # TRL keeps the adapter of a quantized model in bfloat16
    if trained[0].dtype in (torch.bfloat16, torch.float16) and not has_masters and not isinstance(model, PeftModel):
        logger.warning(
            "The trained weights are in %s, which rounds small steps away: at a learning rate of %s hardly any weight may move. "
            "Load the model in float32 (`dtype=torch.float32`); products are in bfloat16 with `bf16=True`.",
            str(trained[0].dtype).removeprefix("torch."),
            args.learning_rate,
        )
