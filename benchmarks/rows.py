# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
r"""
The rows that every contender is given: prompts, rationales and answers with lengths distributed like GSM8K's.

Tokens were counted in the 7473 rows of GSM8K's train.jsonl with the rule
`re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", text)` (words, single digits, single signs), in the question and in the gold
solution without its `<<...>>` annotations and without the line of the answer. The logarithms of the counts have the
means and standard deviations below. Rationales that models write are longer as a rule: see `stretch`.
"""

import random
from dataclasses import dataclass, field, replace

from transformers import PreTrainedTokenizerFast

from tokenizer import answer_text, filler_ids, random_text


PROMPT_LENGTH = (3.942, 0.356)  # mean 55 tokens, median 51
RATIONALE_LENGTH = (4.205, 0.483)  # mean 75 tokens, median 67
LONGEST = 500  # the paper's limit for a rationale


@dataclass(frozen=True)
class Row:
    """The ids of one sample: prompt `x`, rationale `z`, answer `y`."""

    prompt: list[int]
    rationale: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Group:
    """A prompt with its K rationales."""

    prompt: str
    prompt_ids: list[int]
    answer: str
    answer_ids: list[int]
    rationales: list[list[int]] = field(repr=False)

    @property
    def rows(self) -> list[Row]:
        return [Row(self.prompt_ids, rationale, self.answer_ids) for rationale in self.rationales]


@dataclass(frozen=True)
class Lengths:
    """
    Args:
        prompt_tokens (`int`, *optional*): Length of every prompt; as in GSM8K if `None`.
        rationale_tokens (`int`, *optional*): Length of every rationale; as in GSM8K if `None`.
        stretch (`int`, *optional*, defaults to `1`): Factor of the rationales' lengths.
    """

    prompt_tokens: int | None = None
    rationale_tokens: int | None = None
    stretch: int = 1

    def prompt(self, generator: random.Random) -> int:
        return self.prompt_tokens or _draw(generator, PROMPT_LENGTH)

    def rationale(self, generator: random.Random) -> int:
        return self.stretch * (self.rationale_tokens or _draw(generator, RATIONALE_LENGTH))

    @property
    def longest_rationale(self) -> int:
        return self.stretch * (self.rationale_tokens or LONGEST)

    def all_the_same(self) -> "Lengths":
        """GSM8K's means where the lengths would be drawn."""
        return replace(self, prompt_tokens=self.prompt_tokens or 55, rationale_tokens=self.rationale_tokens or 75)


def _draw(generator: random.Random, parameters: tuple[float, float]) -> int:
    return min(max(round(generator.lognormvariate(*parameters)), 1), LONGEST)


def draw_groups(
    tokenizer: PreTrainedTokenizerFast, prompts: int, num_generations: int, lengths: Lengths
) -> list[Group]:
    """
    Prompts of random letters and rationales of random fillers. With more `num_generations` the first rationales, and with
    another `stretch` the lengths before it, stay the same, so that measurements differ by what is varied alone.
    """
    fillers = filler_ids(tokenizer)
    groups = []
    for index in range(prompts):
        of_prompt, of_lengths, of_tokens = (random.Random(f"0 {index} {what}") for what in ("x", "n", "z"))
        prompt = random_text(of_prompt, lengths.prompt(of_prompt))
        answer = str(of_prompt.randint(10, 99))
        groups.append(
            Group(
                prompt,
                tokenizer(prompt)["input_ids"],
                answer,
                [*tokenizer(answer_text(answer), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id],
                [of_tokens.choices(fillers, k=lengths.rationale(of_lengths)) for _ in range(num_generations)],
            )
        )
    return groups


def count_tokens(groups: list[Group]) -> dict[str, int]:
    """Of a step: samples, tokens of their rows, the same with each prompt once per group, and tokens scored."""
    rows = [row for group in groups for row in group.rows]
    scored = sum(len(row.rationale) + len(row.answer) for row in rows)
    return {
        "samples": len(rows),
        "row_tokens": scored + sum(len(row.prompt) for row in rows),
        "shared_tokens": scored + sum(len(group.prompt_ids) for group in groups),
        "scored_tokens": scored,
    }
