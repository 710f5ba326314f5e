# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Checks of what the user passes in. Each failure is one sentence: what is wrong, the value seen, what to do."""

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, ProcessorMixin
from trl import is_conversational

from .durability.checkpoints import check_writable
from .durability.hub import make_repository
from .latro_config import LaTROConfig
from .truncation import check_stop_strings


def named_datasets(train_dataset: Any, eval_dataset: Any) -> dict[str, Dataset | IterableDataset]:
    """The datasets by the names that error messages give them; other types are left to the parent's checks."""
    named = {"train_dataset": train_dataset}
    if isinstance(eval_dataset, dict):
        named |= {f"eval_dataset[{key!r}]": dataset for key, dataset in eval_dataset.items()}
    else:
        named["eval_dataset"] = eval_dataset
    return {name: dataset for name, dataset in named.items() if isinstance(dataset, (Dataset, IterableDataset))}


def check_before_loading(args: LaTROConfig, processing_class: Any, train_dataset: Any, eval_dataset: Any) -> None:
    """
    The checks of a trainer's arguments that need no model. They come first: to load a model may take minutes.

    Raises:
        `ValueError`, `TypeError`, `OSError`: see the other checks.
    """
    check_writable(args.output_dir)
    check_processing_class(processing_class)
    check_stop_strings(processing_class, args.rationale_stop_strings or [])
    for name, dataset in named_datasets(train_dataset, eval_dataset).items():
        check_dataset(dataset, name, processing_class)
    if args.push_to_hub and args.process_index == 0:
        make_repository(args)


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
        `ValueError`: an answer that is empty or not text, messages without a chat template.
    """
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(
                f"{_name_row(where, row, prompt)} has the answer {answer!r}, but every row needs a reference answer as "
                "non-empty text. Remove the row or fill in its answer."
            )
        if is_conversational({"prompt": prompt}) and tokenizer.chat_template is None:
            raise ValueError(
                f"{_name_row(where, row, prompt)} has messages as its prompt, but the tokenizer has no chat template. "
                "Use an instruction-tuned model, set `tokenizer.chat_template`, or make the prompts plain text."
            )


def check_columns(columns: Sequence[str], name: str) -> None:
    """
    Raises:
        `ValueError`: the column `prompt` or `answer` is missing.
    """
    missing = [column for column in ("prompt", "answer") if column not in columns]
    if missing:
        raise ValueError(
            f"`{name}` has no column {' and no column '.join(map(repr, missing))}; its columns are {list(columns)}. "
            "Rename the columns to 'prompt' (text or messages) and 'answer' (text), for example with "
            "`dataset.rename_column`."
        )


def check_dataset(dataset: Dataset | IterableDataset, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Check columns and every row of a dataset; of a stream only the columns, its rows are checked as they come.

    Raises:
        `ValueError`: see [`check_columns`] and [`check_rows`]; or no rows.
    """
    if isinstance(dataset, IterableDataset):
        check_columns(dataset.column_names or list(next(iter(dataset), {})), name)
        return
    check_columns(dataset.column_names, name)
    if len(dataset) == 0:
        raise ValueError(f"`{name}` has no rows. Check how it was loaded or filtered.")
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


def check_rows_fit(train_dataset: Any, eval_dataset: Any, check: Callable[..., None]) -> None:
    """Call [`check_lengths`] through `check` for all rows; those of a stream are checked as they come."""
    for name, dataset in named_datasets(train_dataset, eval_dataset).items():
        if isinstance(dataset, Dataset):
            rows = dataset.select_columns(["prompt", "answer"])
            for first in range(0, len(rows), 1000):
                check(**rows[first : first + 1000], where=f"`{name}` row {{row}}", first_row=first)


def check_dropout(config: PreTrainedConfig, disable_dropout: bool) -> None:
    """
    Check the dropout that `disable_dropout` does not reach: attention that reads its rate from the model's config.

    Raises:
        `ValueError`: there is some.
    """
    attention_dropout = config.get_text_config().to_dict().get("attention_dropout") or 0.0
    if disable_dropout and attention_dropout > 0:
        raise ValueError(
            f"The model's config has `attention_dropout` {attention_dropout}, which makes the rewards noisy. Load "
            "the model with `model_init_kwargs={'attention_dropout': 0.0}`."
        )
