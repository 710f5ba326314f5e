# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast, StoppingCriteriaList

import tiny
from any_tokenizer import (
    STOP_STRINGS,
    TOKENIZERS,
    end_tokens,
    every_tokenizer,
    ids_of,
    property_test,
    random_ids,
    text_in_row,
)
from trl_latro.truncation import Rationale, RationaleStop, Truncator, check_stop_strings


def slow_cut(
    sampled_ids: list[int], tokenizer: PreTrainedTokenizerFast, stop_strings: list[str], eos: list[int], separator: str
) -> Rationale:
    """The definition, word by word: every prefix is decoded and the longest one that fits is taken."""
    ids = []
    for token in sampled_ids:
        if token in eos:
            break
        ids.append(token)
    text = text_in_row(tokenizer, ids)
    starts = [start for start in range(len(text)) if any(text.startswith(stop, start) for stop in stop_strings)]
    if not starts:
        return Rationale(ids, separator, finished=len(ids) < len(sampled_ids))
    before = text[: starts[0]]
    decoded = [text_in_row(tokenizer, ids[:kept]) for kept in range(len(ids) + 1)]
    kept = max(kept for kept, beginning in enumerate(decoded) if before.startswith(beginning))
    return Rationale(ids[:kept], before[len(decoded[kept]) :], finished=True)


@every_tokenizer
@property_test
@given(data=st.data())
def test_cut_agrees_with_its_definition(tokenizer, data):
    sampled_ids = data.draw(random_ids(tokenizer))
    stop_strings = data.draw(st.lists(st.sampled_from(STOP_STRINGS), unique=True))
    eos = end_tokens(tokenizer)[: data.draw(st.integers(1, 2))]

    rationale = Truncator(tokenizer, stop_strings, eos, " => ").truncate(sampled_ids)

    assert rationale == slow_cut(sampled_ids, tokenizer, stop_strings, eos, " => ")


@every_tokenizer
@property_test
@given(data=st.data())
def test_nothing_behind_the_end_changes_the_rationale(tokenizer, data):
    sampled_ids = data.draw(random_ids(tokenizer))
    eos = end_tokens(tokenizer)
    padding = [tokenizer.pad_token_id] * data.draw(st.integers(0, 3))

    def cut(ids: list[int]) -> Rationale:
        return Truncator(tokenizer, STOP_STRINGS, eos, " ").truncate(ids)

    ended = cut([*sampled_ids, eos[0]])
    assert ended.finished
    assert cut([*sampled_ids, eos[0], *padding]) == ended
    assert cut([*sampled_ids, eos[0], *data.draw(random_ids(tokenizer))]) == ended
    if cut(sampled_ids).finished:  # at a stop string: there is no end token then, or an appended one
        assert cut([*sampled_ids, *padding]) == cut([*sampled_ids, *padding, eos[1]]) == cut(sampled_ids)


EMOJI = ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]


@pytest.mark.parametrize(
    ("name", "sampled", "kept", "lead"),
    [
        ("byte-level", ["x", "ĠThe", "Ġanswer", "Ġis", "Ġ9"], ["x"], " "),
        ("byte-level", ["x", "Ċ", "The", "Ġanswer", "Ġis"], ["x", "Ċ"], ""),
        ("byte-level", ["x", "Ċ", "Ġ", "ĠThe", "Ġanswer", "Ġis"], ["x", "Ċ", "Ġ"], " "),
        ("byte-level", ["Ã", "©", "ĠThe", "Ġanswer", "Ġis"], ["Ã", "©"], " "),
        ("byte-level", ["Ã", "ĠThe", "Ġanswer", "Ġis"], ["Ã"], " "),  # half a character, as a bad model samples it
        ("byte-level", ["ĠThe", "Ġanswer", "Ġis"], [], " "),
        ("byte-level", ["The", "Ġanswer", "Ġis"], [], ""),
        ("llama-2", ["▁step", "▁The", "▁answer", "▁is"], ["▁step"], " "),
        ("llama-2", ["▁The", "▁answer", "▁is"], [], " "),  # its decoder alone would drop this space
        ("llama-2", ["The", "▁answer", "▁is"], [], ""),
        ("llama-2", ["▁", "▁The", "▁answer", "▁is"], ["▁"], " "),
        ("llama-2", ["<0xC3>", "<0xA9>", "The", "▁answer", "▁is"], ["<0xC3>", "<0xA9>"], ""),
        # Each half of these characters decodes to more characters than the whole.
        ("llama-2", EMOJI * 5 + ["▁The", "▁answer", "▁is"], EMOJI * 5, " "),
        ("llama-2", ["x", "<0x0A>", "The", "▁answer", "▁is"], ["x", "<0x0A>"], ""),
        ("wordpiece", ["x", "The", "answer", "is"], ["x"], " "),
        ("wordpiece", ["x", "##T", "##he", "answer", "is"], ["x"], ""),
    ],
)
def test_white_space_before_the_stop_string_goes_to_the_answer_with_its_token(name, sampled, kept, lead):
    tokenizer = TOKENIZERS[name]

    rationale = Truncator(tokenizer, ["The answer is"], end_tokens(tokenizer), " => ").truncate(
        ids_of(tokenizer, sampled)
    )

    assert rationale == Rationale(ids_of(tokenizer, kept), lead, finished=True)


@every_tokenizer
def test_a_rationale_may_be_empty(tokenizer):
    eos, end_of_turn = end_tokens(tokenizer)

    assert Truncator(tokenizer, ["12"], [eos, end_of_turn], " => ").truncate([eos, 5, 6]) == Rationale(
        [], " => ", True
    )
    assert Truncator(tokenizer, ["12"], [eos, end_of_turn], "").truncate([end_of_turn]) == Rationale([], "", True)
    assert Truncator(tokenizer, ["12"], [eos], " ").truncate([]) == Rationale([], " ", False)


def test_an_end_token_that_is_not_listed_is_part_of_the_text():
    tokenizer = TOKENIZERS["byte-level"]
    eos, end_of_turn = end_tokens(tokenizer)
    ids = tokenizer.encode("one<|end|>two")

    assert Truncator(tokenizer, [], [eos], " ").truncate(ids) == Rationale(ids, " ", False)
    assert Truncator(tokenizer, ["two"], [eos], " ").truncate(ids) == Rationale(
        tokenizer.encode("one<|end|>"), "", True
    )
    assert Truncator(tokenizer, ["two"], [eos, end_of_turn], " ").truncate(ids) == Rationale(
        tokenizer.encode("one"), " ", True
    )


def test_the_end_tokens_own_text_is_no_stop_string():
    tokenizer = TOKENIZERS["byte-level"]
    ids = [*tokenizer.encode("one"), tokenizer.eos_token_id]

    assert Truncator(tokenizer, ["eos", "<"], end_tokens(tokenizer), "~").truncate(ids).lead == "~"


@pytest.mark.parametrize(
    ("text", "stop_strings", "start"),
    [
        ("a The answer is b", ["The answer is"], 2),
        ("The answer is The answer is", ["The answer is"], 0),
        ("one two", ["two", "one"], 0),
        ("one two", ["two", "ne t"], 1),
        ("one", ["One", "one "], None),
        ("one", [], None),
        ("", ["one"], None),
    ],
)
def test_find_stop_takes_the_earliest_start(text, stop_strings, start):
    assert Truncator(TOKENIZERS["bytes"], stop_strings, []).find_end(text).start == start


@cache
def a_stop(tokenizer: PreTrainedTokenizerFast) -> RationaleStop:
    """With those of the stop strings that the tokenizer can write."""
    stop_strings = [stop for stop in STOP_STRINGS if stop in tokenizer.decode(tokenizer.encode(stop))]
    return RationaleStop(Truncator(tokenizer, stop_strings, end_tokens(tokenizer), separator=""))


@every_tokenizer
@property_test
@given(data=st.data())
def test_generation_stops_exactly_when_the_cut_finds_a_stop_string(tokenizer, data):
    stop = a_stop(tokenizer)
    # Rows as `generate` has them: end tokens have ended a row before, and the prompt holds half a stop string.
    prompt = tokenizer.encode("The answer", add_special_tokens=False)
    stop.start(len(prompt))
    ids = data.draw(random_ids(tokenizer).map(lambda ids: [i for i in ids if i not in end_tokens(tokenizer)]))

    for length in range(1, len(ids) + 1):
        stopped = bool(stop(torch.tensor([prompt + ids[:length]]), None))
        cut = stop.truncator.truncate(ids[:length]).finished
        assert stopped == cut
        if stopped:
            break


class Script(LogitsProcessor):
    """Makes `generate` write the given tokens, row by row."""

    def __init__(self, rows: list[list[int]], prompt_length: int):
        self.rows = rows
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        forced = torch.full_like(scores, -torch.inf)
        for row, tokens in enumerate(self.rows):
            forced[row, tokens[input_ids.size(1) - self.prompt_length]] = 0.0
        return forced


@pytest.mark.parametrize("name", ["byte-level", "byte-level, pad is eos", "llama-2", "mistral"])
def test_generate_stops_each_row_where_its_rationale_ends(name):
    tokenizer = TOKENIZERS[name]
    stop_strings = ["The answer is", "日本"]
    rationales = ["First, double it.", "", "x\n", "no stop here", " is", "日 本 ends"]
    goes_on = [" The answer is", " The answer is", "The answer is", "", " known", " 日本"]
    rows, lengths = [], []
    for rationale, tail in zip(rationales, goes_on, strict=True):
        ids = tokenizer.encode(rationale + tail, add_special_tokens=False)
        lengths.append(len(ids) if any(stop in tail for stop in stop_strings) else 60)
        rows.append([*ids, *([ids[0]] * 60)])
    prompts = ["Q", "The answer", "日", "A question.", "So The answer", "The answer is"]
    tokenizer.padding_side = "left"
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    prompt_length = inputs["input_ids"].size(1)

    stop = RationaleStop(Truncator(tokenizer, stop_strings, end_tokens(tokenizer)))
    model = tiny.tiny_model(tokenizer)
    for _ in range(2):  # one stop for many calls
        stop.start(prompt_length)
        output = model.generate(
            **inputs,
            do_sample=True,
            max_new_tokens=60,
            logits_processor=LogitsProcessorList([Script(rows, prompt_length)]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )
        for ids, row, length in zip(output[:, prompt_length:].tolist(), rows, lengths, strict=True):
            assert ids == row[:length] + [tokenizer.pad_token_id] * (60 - length)


def test_a_stop_string_that_begins_in_the_prompt_does_not_count():
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("The answer is")
    stop = RationaleStop(Truncator(tokenizer, ["The answer is"], end_tokens(tokenizer)))

    assert stop(torch.tensor([ids]), None).tolist() == [True]
    stop.start(len(ids) - 1)
    assert stop(torch.tensor([ids]), None).tolist() == [False]


def test_the_space_of_the_first_token_counts_as_part_of_a_stop_string():
    tokenizer = TOKENIZERS["llama-2"]
    ids = ids_of(tokenizer, ["▁is"])
    assert tokenizer.decode(ids) == "is"

    assert RationaleStop(Truncator(tokenizer, [" is"], end_tokens(tokenizer)))(torch.tensor([ids]), None).tolist() == [
        True
    ]
    assert Truncator(tokenizer, [" is"], end_tokens(tokenizer), "").truncate(ids) == Rationale([], "", True)


def test_bytes_that_decode_to_no_stop_string_do_not_stop():
    tokenizer = TOKENIZERS["llama-2"]
    stop = RationaleStop(Truncator(tokenizer, ["12"], end_tokens(tokenizer)))
    number, spoilt = ids_of(tokenizer, ["x", "<0x31>", "<0x32>"]), ids_of(tokenizer, ["<0xC3>", "<0x31>", "<0x32>"])
    assert tokenizer.decode(spoilt) == "\ufffd" * 3

    assert stop(torch.tensor([number, spoilt]), None).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "stop_string", "written"),
    [("wordpiece, lower case", "The answer is", " the answer is"), ("wordpiece", "日本", " <|unk|> <|unk|>")],
)
def test_a_stop_string_that_the_tokenizer_cannot_write_is_refused(name, stop_string, written):
    with pytest.raises(ValueError, match="cannot be written with this tokenizer") as error:
        check_stop_strings(TOKENIZERS[name], ["12", stop_string])
    assert repr(stop_string) in str(error.value)
    assert repr(written) in str(error.value)
    assert "rationale_stop_strings" in str(error.value)


@every_tokenizer
def test_stop_strings_that_the_tokenizer_can_write_are_accepted(tokenizer):
    check_stop_strings(tokenizer, ["the answer is", "12", "."])
    check_stop_strings(tokenizer, [])
