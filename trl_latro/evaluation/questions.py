# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The questions of an evaluation: tokenized prompts, reference answers and gold rationales."""

from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import is_conversational

from ..answer_template import AnswerTemplate
from ..checks import check_dataset, check_lengths, check_processing_class
from ..grading import Grader
from ..packing import encode_answer
from ..prompts import tokenize_prompts
from ..thinking import find_thinking
from ..truncation import ContinuationDecoder, check_stop_strings


class Questions:
    """
    A dataset made ready for evaluation: tokenized prompts, and how answers are written and graded.

    Args:
        dataset ([`~datasets.Dataset`]):
            Questions, with the columns `prompt`, `answer`, `rationale` if there are gold ones, and what the grader reads.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model.
        answer_template ([`~trl_latro.answer_template.AnswerTemplate`]):
            How an answer is written; its text before `{answer}` ends a rationale.
        grader (`Callable[[str, dict[str, Any]], bool]`):
            Compares an extracted answer with the row's.
        max_completion_length (`int`):
            L, the longest rationale in tokens.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments for the chat template.
        thinking_tags (`list[str]`, *optional*):
            As in [`~trl_latro.thinking.find_thinking`].

    Attributes:
        thinking ([`~trl_latro.thinking.Thinking`], *optional*): How the model writes its thinking, if it does.
        answer_budget (`int`): Tokens that a completion goes on for after its rationale.
        prompt_ids (`list[list[int]]`): Tokens of the prompts.
        gold_ids (`list[list[int]]`, *optional*): Tokens of the gold rationales; `None` unless every row has one.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        answer_template: AnswerTemplate,
        grader: Grader,
        max_completion_length: int,
        chat_template_kwargs: dict[str, Any] | None = None,
        thinking_tags: list[str] | None = None,
    ):
        check_processing_class(tokenizer)
        check_dataset(dataset, "dataset", tokenizer)
        self.rows: list[dict[str, Any]] = list(dataset)
        self.tokenizer = tokenizer
        self.answer_template = answer_template
        self.grader = grader
        self.max_completion_length = max_completion_length
        self.chat_template_kwargs = chat_template_kwargs or {}
        self.conversational = is_conversational({"prompt": self.rows[0]["prompt"]})
        self.thinking = find_thinking(tokenizer, self.conversational, self.chat_template_kwargs, thinking_tags)
        check_stop_strings(tokenizer, answer_template.stop_strings, self.thinking)
        self.answer_budget = answer_template.token_budget(tokenizer, [row["answer"] for row in self.rows])
        prompts = [row["prompt"] for row in self.rows]
        self.prompt_ids = tokenize_prompts(tokenizer, prompts, self.chat_template_kwargs)
        self.gold_ids: list[list[int]] | None = None
        if all(row.get("rationale") for row in self.rows):
            rows = zip(self.rows, self.prompt_ids, strict=True)
            self.gold_ids = [self._encode_gold(row["rationale"], prompt) for row, prompt in rows]

    def _encode_gold(self, rationale: str, prompt_ids: list[int]) -> list[int]:
        # Behind a text prompt on a line of its own, as in a prompt with solved questions, unless it says otherwise
        text = rationale if self.conversational or rationale[0].isspace() else f"\n{rationale}"
        if self.thinking is not None:
            text = self.thinking.open(self.thinking.is_open_after(prompt_ids, self.tokenizer)) + text
        return encode_answer([], text, ContinuationDecoder(self.tokenizer), self.tokenizer.eos_token_id)[:-1]

    def longest_row(self) -> int:
        """Tokens of the longest prompt, rationale and answer."""
        gold_ids = self.gold_ids or [[]] * len(self.rows)
        rows = zip(self.prompt_ids, gold_ids, strict=True)
        return self.answer_budget + max(
            len(prompt) + max(self.max_completion_length, len(gold)) for prompt, gold in rows
        )

    def check_lengths(self, max_positions: int | None) -> None:
        """
        Raises:
            `ValueError`: a prompt, with its rationale and the token budget of an answer, does not fit into the model's
            `max_positions`.
        """
        prompts, answer_budgets = [row["prompt"] for row in self.rows], [self.answer_budget] * len(self.rows)
        prompt_lengths = [len(ids) for ids in self.prompt_ids]
        check_lengths(
            prompts, prompt_lengths, answer_budgets, self.max_completion_length, max_positions, "Question {row}"
        )
        for index, gold in enumerate(self.gold_ids or []):
            needed = prompt_lengths[index] + len(gold) + self.answer_budget
            if max_positions is not None and needed > max_positions:
                raise ValueError(
                    f"Question {index} with its gold rationale of {len(gold)} tokens needs {needed} positions, but the "
                    f"model has {max_positions}. Remove the row, or its rationale."
                )
