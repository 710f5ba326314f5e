# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Models that think in a block of their own: where their rationale ends, and what is scored behind it."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LogitsProcessorList, PreTrainedTokenizerFast, StoppingCriteriaList

import tiny
from any_tokenizer import TOKENIZERS, end_tokens, property_test, random_ids
from given import TrainerGivenCompletions, cpu_config
from test_truncation import Script
from trl_latro import LaTROConfig
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation.batches import Batch
from trl_latro.evaluation.evaluator import Evaluator
from trl_latro.evaluation.questions import Questions
from trl_latro.evaluation.transformers_model import TransformersModel
from trl_latro.grading import grade_answer
from trl_latro.prompts import tokenize_prompts
from trl_latro.thinking import Thinking, find_thinking
from trl_latro.truncation import Rationale, RationaleStop, Truncator


REAL_TOKENIZERS = Path(__file__).parents[2] / "shared" / "data" / "tokenizers"
QUESTION = [{"role": "user", "content": "What is 1 + 2? Mind that <think> is a word."}]
STOP = "The answer is"
THINKING = Thinking()

# Generation prompts as chat templates of models that think write them
MODEL_OPENS = "<|assistant|>"
TEMPLATE_OPENS = "<|assistant|><think>\\n"
TEMPLATE_CLOSES = "<|assistant|><think>\\n\\n</think>\\n\\n"


@cache
def real_tokenizer(name: str) -> Any:
    if not (REAL_TOKENIZERS / name).exists():
        pytest.skip(f"the tokenizer {name} is not there: {REAL_TOKENIZERS / name}")
    return AutoTokenizer.from_pretrained(REAL_TOKENIZERS / name)


@cache
def thinking_tokenizer(generation_prompt: str, special: bool = False) -> PreTrainedTokenizerFast:
    """A small tokenizer whose chat template keeps what an assistant thought out of the messages before."""
    tokenizer = tiny.byte_level_tokenizer(num_merges=80, chat=True)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=special)
    tokenizer.chat_template = (
        "{% for message in messages %}<|{{ message['role'] }}|>"
        "{{ message['content'].split('</think>')[-1].lstrip() }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}" + generation_prompt.replace("\\n", "\n") + "{% endif %}"
    )
    return tokenizer


def find(tokenizer: Any, tags: list[str] | None = None, **kwargs: Any) -> Thinking | None:
    return find_thinking(tokenizer, True, kwargs, tags)


# ---- what the chat template says ----


def test_qwen3_thinks_unless_its_template_closes_the_block_at_once() -> None:
    tokenizer = real_tokenizer("qwen3")
    assert find(tokenizer) == find(tokenizer, enable_thinking=True) == THINKING
    assert find(tokenizer, enable_thinking=False) is None


def test_qwen2_5_does_not_think() -> None:
    assert find(real_tokenizer("qwen2_5")) is None


def test_the_white_space_is_that_of_the_template() -> None:
    tokenizer = tiny.byte_level_tokenizer(chat=True)
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }} </think>"
        "\n{% endif %}{{ m['content'] }}<|end|>{% endfor %}"
    )
    thinking = find(tokenizer)
    assert thinking == Thinking(after_opening="", before_closing=" ", after_closing="\n")
    assert thinking.open(is_open=False) == "<think>" and thinking.close("so ") == "</think>\n"


@pytest.mark.parametrize("generation_prompt", [MODEL_OPENS, TEMPLATE_OPENS])
def test_a_template_that_keeps_thoughts_out_of_the_messages_before(generation_prompt: str) -> None:
    assert find(thinking_tokenizer(generation_prompt)) == THINKING


def test_thinking_is_off_where_the_template_closes_the_block() -> None:
    assert find(thinking_tokenizer(TEMPLATE_CLOSES)) is None
    assert find(thinking_tokenizer(TEMPLATE_CLOSES), ["<think>", "</think>"]) is None


def test_the_user_may_name_the_tags() -> None:
    tokenizer = tiny.byte_level_tokenizer(chat=True)
    assert find(tokenizer) is None
    assert find(tokenizer, ["[", "]"]) == Thinking("[", "]")
    assert find(thinking_tokenizer(MODEL_OPENS), []) is None
    assert find_thinking(tiny.byte_level_tokenizer(), False, {}, ["[", "]"]) == Thinking("[", "]")
    assert find_thinking(thinking_tokenizer(MODEL_OPENS), False, {}, None) is None, "text goes through no template"


@pytest.mark.parametrize(
    ("template", "seen"),
    [
        ("{% if enable_thinking %}<|channel|>thought{% endif %}{{ messages }}", "'enable_thinking'"),
        ("{{ messages[0]['reasoning_content'] }}", "'reasoning_content'"),
        ("{{ messages }} </think> [/THINK]", r"\('<think>', '</think>'\) and \('\[THINK\]', '\[/THINK\]'\)"),
    ],
)
def test_what_cannot_be_told_is_an_error_that_names_the_option(template: str, seen: str) -> None:
    tokenizer = tiny.byte_level_tokenizer(chat=True)
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=f"The chat template has {seen}.*set `thinking_tags`"):
        find(tokenizer)
    assert find(tokenizer, []) is None


@pytest.mark.parametrize("tags", ["<think>", ["<think>"], ["a", "b", "c"], ["", "b"], ["a", "a"], [1, 2]])
def test_tags_without_meaning_are_refused(tmp_path: Path, tags: Any) -> None:
    with pytest.raises(ValueError, match="`thinking_tags` is .* two different texts"):
        LaTROConfig(str(tmp_path), use_cpu=True, bf16=False, thinking_tags=tags)


def test_a_tag_that_the_tokenizer_cannot_write_is_refused() -> None:
    rows = Dataset.from_list([{"prompt": "one", "answer": "2"}])
    with pytest.raises(ValueError, match="The tag '<THINK>' cannot be written with this tokenizer"):
        Questions(
            rows,
            TOKENIZERS["wordpiece, lower case"],
            AnswerTemplate(""" {answer}"""),
            grade_answer,
            8,
            None,
            ["<THINK>", "x"],
        )


# ---- whether a completion begins inside a block ----


@pytest.mark.parametrize("special", [False, True])
def test_a_completion_begins_inside_where_the_prompt_has_opened_a_block(special: bool) -> None:
    for generation_prompt, opened in ((MODEL_OPENS, False), (TEMPLATE_OPENS, True), (TEMPLATE_CLOSES, False)):
        tokenizer = thinking_tokenizer(generation_prompt, special)
        (prompt_ids,) = tokenize_prompts(tokenizer, [QUESTION])
        assert THINKING.is_open_after(prompt_ids, tokenizer) == opened, generation_prompt


def test_a_message_that_is_continued_may_be_inside_a_block() -> None:
    tokenizer = real_tokenizer("qwen3")
    for begun, opened in (("<think>\nLet me", True), ("<think>\nLet me\n</think>\n\nSo", False), ("So", False)):
        ids = tokenizer.encode(
            f"<|im_start|>user\n<think> is a word<|im_end|>\n<|im_start|>assistant\n{begun}", add_special_tokens=False
        )
        assert THINKING.is_open_after(ids, tokenizer) == opened


# ---- where a rationale ends ----


@pytest.mark.parametrize(
    ("text", "is_open", "rationale", "lead", "finished", "graded"),
    [
        # The block ends it; a stop string inside does not
        (
            "<think>\n3.\n</think>\n\nThe answer is 3.",
            False,
            "<think>\n3.\n",
            "</think>\n\n",
            True,
            "\n\nThe answer is 3.",
        ),
        ("3.\n</think>\n\nThe answer is 3.", True, "3.\n", "</think>\n\n", True, "\n\nThe answer is 3."),
        ("The answer is 4? No</think>5", True, "The answer is 4? No", "</think>\n\n", True, "5"),
        ("<think>The answer is 4</think>", False, "<think>The answer is 4", "</think>\n\n", True, ""),
        ("</think>", True, "", "</think>\n\n", True, ""),
        # Never closed
        ("<think>\nSo The answer is 3.", False, "<think>\nSo The answer is 3.", "\n</think>\n\n", False, ""),
        ("So\n", True, "So\n", "</think>\n\n", False, ""),
        ("So<eos>", True, "So", "\n</think>\n\n", False, ""),
        # Without a block
        ("1 + 2 = 3. The answer is 3.", False, "1 + 2 = 3.", " ", True, "1 + 2 = 3. The answer is 3."),
        ("So The answer is <think>", False, "So", " ", True, "So The answer is <think>"),
        ("Hm <think> The answer is", False, "Hm <think> The answer is", "\n</think>\n\n", False, ""),
        ("So </think> The answer is", False, "So </think>", " ", True, "So </think> The answer is"),
        ("So<eos>", False, "So", " => ", True, "So"),
        ("So", False, "So", " => ", False, "So"),
    ],
)
@pytest.mark.parametrize("special", [False, True])
def test_a_rationale_is_what_is_thought(
    text: str, is_open: bool, rationale: str, lead: str, finished: bool, graded: str, special: bool
) -> None:
    tokenizer = thinking_tokenizer(MODEL_OPENS, special)
    truncator = Truncator(tokenizer, [STOP], end_tokens(tokenizer), " => ", THINKING)
    ids = tokenizer.encode(text.removesuffix("<eos>"), add_special_tokens=False)
    sampled = [*ids, tokenizer.eos_token_id] if text.endswith("<eos>") else ids

    truncated = truncator.truncate(sampled, is_open)

    assert (truncator.decode(truncated.ids), truncated.lead, truncated.finished) == (rationale, lead, finished)
    assert truncated.ids == ids[: len(truncated.ids)]
    assert truncator.behind_thinking(text.removesuffix("<eos>"), is_open) == graded


def slow_end(text: str, stops: list[str], is_open: bool) -> tuple[int | None, bool]:
    """The definition, character by character."""
    for position in range(len(text)):
        if is_open and text.startswith("</think>", position):
            return position, True
        if not is_open and any(text.startswith(stop, position) for stop in stops):
            return position, False
        if text.startswith("<think>", position):
            is_open = True
    return None, is_open


@property_test
@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", STOP, "The ", "nk>", "<thi", "so", "\n"]), max_size=8).map(
        "".join
    ),
    is_open=st.booleans(),
)
def test_the_end_agrees_with_its_definition(text: str, is_open: bool) -> None:
    truncator = Truncator(thinking_tokenizer(MODEL_OPENS), [STOP], [], thinking=THINKING)
    assert truncator.find_end(text, is_open) == slow_end(text, [STOP], is_open)


@pytest.mark.parametrize("name", TOKENIZERS)
@property_test
@given(data=st.data())
def test_rationale_and_lead_are_the_text_up_to_its_end_with_the_block_closed(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    # Tags of several tokens, which begin and end inside of tokens
    thinking = Thinking("12", " é", before_closing="", after_closing="|")
    truncator = Truncator(tokenizer, [STOP], end_tokens(tokenizer), "~", thinking)
    ids, is_open = data.draw(random_ids(tokenizer)), data.draw(st.booleans())

    rationale = truncator.truncate(ids, is_open)

    text = truncator.decode(truncator.until_eos(ids))
    end = truncator.find_end(text, is_open)
    closing = thinking.closing + thinking.after_closing if end.is_open else "" if end.start is not None else "~"
    assert truncator.decode(rationale.ids) + rationale.lead == text[: end.start] + closing


def test_without_a_rationale_the_block_is_empty() -> None:
    tokenizer = thinking_tokenizer(MODEL_OPENS)
    truncator = Truncator(tokenizer, [STOP], [], thinking=THINKING)
    assert truncator.no_rationale(is_open=False) == Rationale([], "<think>\n\n</think>\n\n", True)
    assert truncator.no_rationale(is_open=True) == Rationale([], "\n</think>\n\n", True)
    assert truncator.given_rationale(tokenizer.encode("So")).lead == "\n</think>\n\n"
    assert Truncator(tokenizer, [STOP], []).no_rationale().lead == " "


# ---- generation stops there ----


@pytest.mark.parametrize("answer_budget", [0, 3])
def test_generate_stops_where_the_block_ends_and_in_evaluation_behind_the_answers_beginning(
    answer_budget: int,
) -> None:
    tokenizer = thinking_tokenizer(MODEL_OPENS)
    texts = [  # with "|" where the rationale is complete, and "#" where the answer has begun
        (False, "<think>The answer is 3</think>| So The answer is#"),
        (False, "Well. The answer is|#"),
        (True, "The answer is 3</think>| So 3. The answer is#"),
        (True, "<think> The answer is 3"),
    ]
    rows, lengths = [], []
    for _, text in texts:
        mark = "#" if answer_budget else "|"
        ids = tokenizer.encode(text.partition(mark)[0].replace("|", ""), add_special_tokens=False)
        lengths.append(len(ids) + answer_budget if mark in text else 60)
        rest = tokenizer.encode(text.partition(mark)[2].replace("#", ""), add_special_tokens=False)
        rows.append([*ids, *rest, *([ids[0]] * 60)])
    stop = RationaleStop(Truncator(tokenizer, [STOP], end_tokens(tokenizer), thinking=THINKING))
    prompt = torch.tensor([tokenizer.encode("Q")] * len(rows))
    stop.start(prompt.size(1), answer_budget, [is_open for is_open, _ in texts])
    output = tiny.tiny_model(tokenizer).generate(
        prompt,
        max_new_tokens=60,
        logits_processor=LogitsProcessorList([Script(rows, prompt.size(1))]),
        stopping_criteria=StoppingCriteriaList([stop]),
    )
    for ids, row, length in zip(output[:, prompt.size(1) :].tolist(), rows, lengths, strict=True):
        assert ids[:length] == row[:length]
        assert set(ids[length:]) <= {tokenizer.pad_token_id}


# ---- rows of the trainer ----


def make_trainer(path: Path, tokenizer: Any, completions: list[str], **settings: Any) -> TrainerGivenCompletions:
    model = tiny.tiny_model(tokenizer) if "<|end|>" in tokenizer.get_vocab() else tiny_qwen3(tokenizer)
    args = cpu_config(
        str(path),
        **{"num_generations": len(completions), "per_device_train_batch_size": len(completions)},
        **{"per_device_eval_batch_size": len(completions), "beta": 0.0, "max_steps": 1, **settings},
    )
    dataset = Dataset.from_list([{"prompt": QUESTION, "answer": "3"}])
    (prompt_ids,) = tokenize_prompts(tokenizer, [QUESTION], args.chat_template_kwargs)
    sampled = []
    for text in completions:
        ids = tokenizer.encode(text.removesuffix("<eos>"), add_special_tokens=False)
        sampled.append([*ids, tokenizer.eos_token_id] if text.endswith("<eos>") else ids)
    return TrainerGivenCompletions(
        model,
        args,
        dataset,
        eval_dataset=dataset,
        processing_class=tokenizer,
        completions={tuple(prompt_ids): sampled},
    )


def tiny_qwen3(tokenizer: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 512}
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=len(tokenizer), **sizes, **heads, eos_token_id=tokenizer.eos_token_id)
    )


def rows_of(trainer: TrainerGivenCompletions) -> list[str]:
    inputs = [trainer.train_dataset[0]] * trainer.num_generations
    batch = trainer._generate_and_score_completions(inputs)
    lengths = batch["attention_mask"].sum(1)
    tokenizer = trainer.processing_class
    return [tokenizer.decode(ids[:length]) for ids, length in zip(batch["input_ids"].tolist(), lengths, strict=True)]


def test_a_row_of_qwen3_reads_as_the_turn_that_the_model_writes(tmp_path: Path) -> None:
    tokenizer = real_tokenizer("qwen3")
    thought = "One and two. The answer is 3? Yes."
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        [f"<think>\n{thought}\n</think>\n\nThe answer", f"<think>\n{thought}", f"<think>\n{thought}<eos>"],
    )
    turn = {"role": "assistant", "reasoning_content": thought, "content": "The answer is 3."}
    expected = tokenizer.apply_chat_template([*QUESTION, turn], tokenize=False).removesuffix("\n")
    assert rows_of(trainer) == [expected] * 3


def test_with_thinking_off_a_row_of_qwen3_has_an_empty_block_and_a_visible_rationale(tmp_path: Path) -> None:
    tokenizer = real_tokenizer("qwen3")
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    trainer = make_trainer(tmp_path, tokenizer, ["One and two. The answer is", "One and two.<eos>"], **off)
    turn = {"role": "assistant", "content": "One and two. The answer is 3."}
    expected = tokenizer.apply_chat_template([*QUESTION, turn], tokenize=False).removesuffix("\n")
    assert rows_of(trainer) == [expected] * 2


def test_a_row_of_qwen2_5_is_as_it_was(tmp_path: Path) -> None:
    tokenizer = real_tokenizer("qwen2_5")
    trainer = make_trainer(tmp_path, tokenizer, ["One <think> two. The answer is", "One <think> two.<eos>"])
    turn = {"role": "assistant", "content": "One <think> two. The answer is 3."}
    expected = tokenizer.apply_chat_template([*QUESTION, turn], tokenize=False).removesuffix("\n")
    assert rows_of(trainer) == [expected] * 2


def test_a_template_that_opens_the_block(tmp_path: Path) -> None:
    tokenizer = thinking_tokenizer(TEMPLATE_OPENS)
    trainer = make_trainer(tmp_path, tokenizer, ["1 + 2.\n</think>\n\nSo", "1 + 2."])
    begun = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert rows_of(trainer) == [f"{begun}1 + 2.\n</think>\n\nThe answer is 3.<|end|>"] * 2


def test_the_answer_that_is_graded_stands_behind_the_block(tmp_path: Path) -> None:
    """Training steps, too, so that nothing on the way minds the block."""
    tokenizer = thinking_tokenizer(MODEL_OPENS)
    completions = [
        "<think>The answer is 4.</think> So The answer is 3.<eos>",
        "<think>The answer is 3.</think> So The answer is 4.<eos>",
        "<think>The answer is 3.<eos>",
        "The answer is 3.<eos>",
    ]
    trainer = make_trainer(tmp_path, tokenizer, completions)
    trainer.train()
    assert trainer.state.log_history[0]["latro/finished_ratio"] == 0.75
    metrics = trainer.evaluate()
    assert metrics["eval_accuracy"] == 0.5
    assert metrics["eval_no_answer"] == 0.25


# ---- evaluation ----


class ModelWithGivenCompletions(TransformersModel):
    """Its completions are written down, one for each prompt; its likelihoods are real."""

    completions: list[list[int]]

    def generate(self, prompt_ids: list[list[int]], *args: Any) -> list[list[list[int]]]:
        return [[ids] for ids in self.completions]


def test_evaluation_reads_the_answer_behind_the_block_and_scores_it_there() -> None:
    tokenizer = thinking_tokenizer(MODEL_OPENS)
    row = {"prompt": QUESTION, "answer": "3", "rationale": "1 + 2 = 3."}
    questions = Questions(Dataset.from_list([row] * 4), tokenizer, AnswerTemplate(), grade_answer, 64)
    model = tiny.tiny_model(tokenizer)
    limits = (questions.max_completion_length, questions.answer_budget)
    evaluated = ModelWithGivenCompletions(model, tokenizer, AnswerTemplate(), *limits, questions.thinking)
    texts = [
        "<think>The answer is 4.</think> So The answer is 3.",
        "<think>The answer is 3.</think> So The answer is 4.",
        "<think>The answer is 3.",
        "The answer is 3.",
    ]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    evaluated.completions = [[*each, tokenizer.eos_token_id] for each in ids]

    made = Evaluator(evaluated, questions).run(Batch(0, "greedy", [0, 1, 2, 3], [0] * 4), seed=0)

    assert [one.correct for one in made] == [True, False, False, True]
    assert [one.extracted for one in made] == ["3", "4", None, "3"]
    assert [one.finished for one in made] == [True, True, False, True]
    assert [one.flexible_correct for one in made] == [True, False, True, True]
    closed = tokenizer.encode("<think>The answer is 4.</think>", add_special_tokens=False)
    assert made[0].tokens_to_end == len(closed) and made[0].rationale_tokens == len(closed) - 1
    assert made[2].tokens_to_end is None
    begun = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    for logp, context in (
        (made[0].answer_logp, "<think>The answer is 4.|</think>\n\n"),
        (made[0].answer_logp_none, "|<think>\n\n</think>\n\n"),
        (made[0].answer_logp_gold, "<think>\n1 + 2 = 3.|\n</think>\n\n"),
    ):
        given, _, lead = context.partition("|")
        prompt = tokenizer.encode(begun + given, add_special_tokens=False)
        answer = tokenizer.encode(f"{lead}The answer is 3.<|end|>", add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        slow = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum().item()
        assert logp == pytest.approx(slow, abs=1e-4), context
