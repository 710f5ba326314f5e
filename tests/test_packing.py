# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import tiny
from any_tokenizer import TOKENIZERS, end_tokens, ids_of, property_test, random_ids, text_in_row
from trl_latro.answer_template import AnswerTemplate
from trl_latro.packing import (
    EncodedAnswer,
    count_template_tokens,
    encode_answer,
    encode_answers,
    pack_rows,
    pack_samples,
    trim_padding,
)
from trl_latro.several_answers import fold_tokens, unfold_answers
from trl_latro.truncation import ContinuationDecoder, Rationale, Truncator


END = 7  # any token: it is appended as it is
EXACT = {name: tokenizer for name, tokenizer in TOKENIZERS.items() if "wordpiece" not in name}
every_exact_tokenizer = pytest.mark.parametrize("tokenizer", EXACT.values(), ids=EXACT.keys())

# Without the sign that SentencePiece has for a space: its tokenizers cannot write it.
texts = st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=8) | st.lists(
    st.sampled_from(["The answer is", " The answer is", " ", "  ", "\n", "12", "é", "日", "😀", ".", "a", "the"]),
    max_size=6,
).map("".join)


def in_byte_tokens(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> bool:
    return any(token.startswith("<0x") for token in tokenizer.convert_ids_to_tokens(ids))


# ---- the answer's tokens ----


@every_exact_tokenizer
@property_test
@given(data=st.data())
def test_the_rows_text_is_that_of_the_rationale_followed_by_the_answers(tokenizer, data):
    rationale_ids = data.draw(random_ids(tokenizer))
    answer_text = data.draw(texts)
    # Half a character in byte tokens spoils every byte token behind it, whatever is written there.
    assume("\ufffd" not in tokenizer.decode(rationale_ids) or not in_byte_tokens(tokenizer, rationale_ids))

    answer_ids = encode_answer(rationale_ids, answer_text, ContinuationDecoder(tokenizer), END)

    assert answer_ids[-1] == END
    row_text = text_in_row(tokenizer, rationale_ids + answer_ids[:-1])
    assert row_text == text_in_row(tokenizer, rationale_ids) + answer_text


@every_exact_tokenizer
@property_test
@given(data=st.data())
def test_cut_and_encoded_rows_read_as_sampled_up_to_the_stop_string(tokenizer, data):
    stop = "The answer is"
    before, behind = data.draw(random_ids(tokenizer)), data.draw(random_ids(tokenizer))
    sampled_ids = [*before, *tokenizer.encode(data.draw(texts) + stop, add_special_tokens=False), *behind]
    sampled_text = text_in_row(tokenizer, sampled_ids)
    assume(stop in sampled_text)

    rationale = Truncator(tokenizer, [stop], [-1], " => ").truncate(sampled_ids)
    answer_ids = encode_answer(
        rationale.ids, rationale.lead + "The answer is 12.", ContinuationDecoder(tokenizer), END
    )

    row_text = text_in_row(tokenizer, rationale.ids + answer_ids[:-1])
    assert row_text == sampled_text[: sampled_text.index(stop)] + "The answer is 12."


words = st.lists(st.text("abcXYZ019", min_size=1, max_size=5), max_size=4).map(" ".join)


@pytest.mark.parametrize("lead", [" ", ""])
@property_test
@given(before=words, answer=words)
def test_wordpiece_is_exact_where_it_can_write_the_text(lead, before, answer):
    tokenizer = TOKENIZERS["wordpiece"]
    assume(before or lead)  # a following piece needs a word to follow
    rationale_ids = tokenizer.encode(before)
    answer_text = f"{lead}The answer is {answer or 'x'}."

    answer_ids = encode_answer(rationale_ids, answer_text, ContinuationDecoder(tokenizer), END)[:-1]

    assert text_in_row(tokenizer, rationale_ids + answer_ids) == text_in_row(tokenizer, rationale_ids) + answer_text


@pytest.mark.parametrize(
    ("name", "text"),
    [("wordpiece", "\nThe answer is 5."), ("wordpiece", " x  y"), ("wordpiece, lower case", " The answer")],
)
def test_a_tokenizer_that_loses_text_encodes_the_answer_its_own_way(name, text):
    tokenizer = TOKENIZERS[name]

    assert encode_answer(tokenizer.encode("x"), text, ContinuationDecoder(tokenizer), END) == [
        *tokenizer.encode(text),
        END,
    ]


@pytest.mark.parametrize("separator", [" ", "\n", "\n\n", "  ", " \n", "😀", ""])
@every_exact_tokenizer
def test_a_sampled_answer_gets_the_tokens_that_were_sampled(tokenizer, separator):
    # Written by the tokenizer as a whole, with the right answer: nothing is to be changed.
    sampled_ids = tokenizer.encode(f"Then add 5.{separator}The answer is 12.")

    rationale = Truncator(tokenizer, ["The answer is"], end_tokens(tokenizer), " => ").truncate(sampled_ids)
    answer_ids = encode_answer(
        rationale.ids, rationale.lead + "The answer is 12.", ContinuationDecoder(tokenizer), END
    )

    assert rationale.ids + answer_ids == [*sampled_ids, END]


@pytest.mark.parametrize(
    ("name", "rationale", "answer_text", "tokens"),
    [
        # The tokenizer of Llama-2 makes "▁" + "▁The" of the first, and "▁The" of the second.
        ("llama-2", [], " The answer", ["▁The", "▁answer"]),
        ("llama-2", [], "The answer", ["The", "▁answer"]),
        ("llama-2", ["▁step"], " The answer", ["▁The", "▁answer"]),
        ("llama-2", ["▁step", "<0x0A>"], "The answer", ["The", "▁answer"]),
        ("llama-2", ["▁step", "▁"], "The answer", ["The", "▁answer"]),
        ("llama-2", ["▁step"], "nswer", ["n", "sw", "er"]),  # behind the letter a it would be "▁answer"
        ("llama-2", [], " The▁answer", ["▁The", "▁answer"]),  # cannot be written; at least no second space
        ("llama-2", ["<0xC3>"], "\nThe", ["<0x0A>", "The"]),  # half a character spoils the byte tokens behind it
        ("mistral", [], " The answer", ["▁The", "▁answer"]),
        ("mistral", [], "The answer", ["The", "▁answer"]),
        ("mistral", ["<0x0A>"], "The answer", ["The", "▁answer"]),
        ("byte-level, prefix space", [], "The answer", ["The", "Ġanswer"]),
        ("byte-level, prefix space", ["Ċ"], "12", ["1", "2"]),
        ("byte-level", [], " The answer", ["ĠThe", "Ġanswer"]),
        ("byte-level", ["Ċ"], "The answer", ["The", "Ġanswer"]),
        ("wordpiece", [], " The answer", ["The", "answer"]),
        ("wordpiece", ["x"], "The answer", ["##T", "##he", "answer"]),
    ],
)
def test_an_answer_gets_no_space_that_is_not_in_its_text(name, rationale, answer_text, tokens):
    tokenizer = TOKENIZERS[name]

    answer_ids = encode_answer(ids_of(tokenizer, rationale), answer_text, ContinuationDecoder(tokenizer), END)

    assert tokenizer.convert_ids_to_tokens(answer_ids[:-1]) == tokens


# ---- where the template ends ----

templates = st.sampled_from(
    ["The answer is {answer}.", "Answer:\n{answer}", "答{answer}", "é{answer}é", "[{answer}]", "{answer}"]
)


@every_exact_tokenizer
@property_test
@given(data=st.data(), template=templates)
def test_the_templates_tokens_are_all_that_have_nothing_of_the_answer(tokenizer, data, template):
    answer = data.draw(texts.filter(lambda text: text.strip()))
    rationale = Rationale(data.draw(random_ids(tokenizer)), data.draw(st.sampled_from([" ", "", "\n", "é "])), True)
    decode = ContinuationDecoder(tokenizer)

    (((ids, length),),) = encode_answers([rationale], [answer], AnswerTemplate(template), decode, END)

    before, _, after = template.partition("{answer}")
    own_text = answer.strip() + after
    assert own_text in decode(ids[length:-1]), "the answer's tokens hold the answer"
    before_ids = decode(ids[:length])
    assert "\ufffd" not in before_ids and (rationale.lead + before).startswith(before_ids)
    # and the next token reaches into the answer
    assert not (rationale.lead + before).startswith(decode(ids[: length + 1]))


@pytest.mark.parametrize(
    ("name", "template", "answer", "tokens"),
    [
        ("byte-level", "The answer is {answer}.", "9", ["Ġ9", "."]),  # the space before the answer is in its token
        ("bytes", "The answer is {answer}.", "12", ["1", "2", "."]),
        ("bytes", "The answer is {answer}", "日", ["æ", "Ĺ", "¥"]),  # bytes of the first character
        ("bytes", "é: é{answer}", "é", ["Ã", "©"]),
        ("llama-2", "The answer is {answer}.", "日", ["<0xE6>", "<0x97>", "<0xA5>", "."]),
        ("llama-2", "\n{answer}", "日", ["<0xE6>", "<0x97>", "<0xA5>"]),  # behind another token of a byte
        ("llama-2", "The answer is {answer}.", "9", ["▁9."]),
        ("bytes", "{answer}.", "12", ["1", "2", "."]),
        ("byte-level", "{answer}.", "9", ["Ġ9", "."]),
        ("mistral", "Say: {answer}", "The answer", ["▁The", "▁answer"]),
        ("wordpiece", "The answer is {answer}.", "12", ["12", "."]),
        (
            "wordpiece, lower case",
            "the answer is {answer}.",
            "No",
            ["the", "answer", "is", "no", "."],
        ),  # loses the case
    ],
)
@pytest.mark.parametrize("rationale", [[], "Then add 5."])
def test_the_answers_own_tokens(name, template, answer, tokens, rationale):
    tokenizer = TOKENIZERS[name]
    rationale_ids = tokenizer.encode(rationale) if rationale else []

    (((ids, length),),) = encode_answers(
        [Rationale(rationale_ids, " ", True)], [answer], AnswerTemplate(template), ContinuationDecoder(tokenizer), END
    )

    assert tokenizer.convert_ids_to_tokens(ids[length:-1]) == tokens


def test_a_token_over_template_and_answer_is_the_answers():
    tokenizer = TOKENIZERS["byte-level"]
    ids = [*ids_of(tokenizer, ["Ġan", "sw", "er", "Ġ1", "2"]), END]
    decode = ContinuationDecoder(tokenizer)
    assert [count_template_tokens(ids, own, decode) for own in ("12", "er 12", "nswer 12")] == [3, 2, 0]


def encoded_texts(answers: list[str], **settings: int) -> list[str]:
    tokenizer = TOKENIZERS["byte-level"]
    decode = ContinuationDecoder(tokenizer)
    template, rationale = AnswerTemplate("It is {answer}."), Rationale([], " ", True)
    (of_row,) = encode_answers([rationale], [answers], template, decode, tokenizer.eos_token_id, **settings)
    assert all(decode(one.ids[: one.template_length]) == " It is" for one in of_row)
    return [decode(one.ids[one.template_length :]) for one in of_row]


def test_an_answer_counts_once():
    assert encoded_texts(["9", "14", " 9 ", "14"]) == [f" 9.{tiny.EOS}", f" 14.{tiny.EOS}"]


def test_a_truncated_answer_has_no_end_of_turn_token():
    # tokens are " 1" and "7"
    assert encoded_texts(["17"], max_length=4) == [f" 17.{tiny.EOS}"]
    assert encoded_texts(["17"], max_length=3) == [" 17."]
    assert encoded_texts(["17", "18"], max_length=2) == [" 17", " 18"]
    assert encoded_texts(["17", "18"], max_length=1) == [" 1"], "what is truncated to the same text counts once"


def test_a_truncated_answer_stands_for_those_that_begin_with_it():
    tokenizer = TOKENIZERS["byte-level"]
    decode, rationale = ContinuationDecoder(tokenizer), Rationale([], " ", True)
    answers = [["17", "1"]]
    how = (AnswerTemplate("{answer}"), decode, tokenizer.eos_token_id)
    ((both, short),) = encode_answers([rationale], answers, *how, 2)
    assert [decode(one.ids) for one in (both, short)] == [" 17", f" 1{tiny.EOS}"]
    ((short,),) = encode_answers([rationale], [["17", "1"]], *how, 1)
    assert decode(short.ids) == " 1"


# ---- rows ----

PAD = 3  # small, so that it is an ordinary token of the rows too
tokens = st.integers(0, 5)
rows = st.lists(
    st.tuples(
        st.lists(tokens, min_size=1, max_size=6),
        st.lists(tokens, max_size=6),
        st.lists(tokens, min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)
multiples = st.sampled_from([None, 1, 4, 8])


@property_test
@given(rows=rows, multiple=multiples)
def test_rows_have_no_hole_and_masks_from_lengths(rows, multiple):
    batch = pack_rows(*map(list, zip(*rows, strict=True)), PAD, multiple)

    longest = max(len(prompt) + len(rationale) + len(answer) for prompt, rationale, answer in rows)
    width = next(width for width in range(longest, longest + 8) if width % (multiple or 1) == 0)
    assert list(batch) == ["input_ids", "attention_mask", "rationale_mask", "answer_mask", "own_mask"]
    assert all(tensor.shape == (len(rows), width) and tensor.dtype == torch.long for tensor in batch.values())
    for index, (prompt, rationale, answer) in enumerate(rows):
        lengths = len(prompt), len(rationale), len(answer), width - len(prompt) - len(rationale) - len(answer)
        assert batch["input_ids"][index].tolist() == [*prompt, *rationale, *answer, *([PAD] * lengths[3])]
        for name, ones in [
            ("attention_mask", [1, 1, 1, 0]),
            ("rationale_mask", [0, 1, 0, 0]),
            ("answer_mask", [0, 0, 1, 0]),
            ("own_mask", [0, 0, 1, 0]),
        ]:
            expected = [one for one, length in zip(ones, lengths, strict=True) for _ in range(length)]
            assert batch[name][index].tolist() == expected


def test_the_answers_own_mask_leaves_out_the_template():
    batch = pack_rows([[1, 2], [1]], [[4], []], [[5, 6, 7], [5, 7]], PAD, template_lengths=[2, 0])
    assert batch["answer_mask"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]]
    assert batch["own_mask"].tolist() == [[0, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0]]


def test_log_probs_of_the_engine_stand_on_the_rationales_tokens():
    logps = [[-0.5, None], [], [-float("inf")]]
    batch = pack_rows([[1, 2], [1], [1]], [[4, 4], [], [4]], [[5], [5], [5]], PAD, 8, sampling_logps=logps)
    nan, inf = float("nan"), float("inf")
    expected = torch.tensor([[0, 0, -0.5, nan, 0, 0, 0, 0], [0] * 8, [0, -inf, 0, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(batch["sampling_logps"], expected, equal_nan=True)


@property_test
@given(rows=rows, multiple=multiples, data=st.data())
def test_trimmed_rows_are_those_packed_alone(rows, multiple, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=3))
    batch = pack_rows(*map(list, zip(*rows, strict=True)), PAD, multiple)
    advantages = torch.arange(len(chosen), dtype=torch.float)

    trimmed = trim_padding(
        {**{name: tensor[chosen] for name, tensor in batch.items()}, "advantages": advantages}, multiple
    )

    alone = pack_rows(*map(list, zip(*(rows[index] for index in chosen), strict=True)), PAD, multiple)
    assert trimmed.pop("advantages") is advantages
    assert trimmed.keys() == alone.keys()
    assert all(torch.equal(trimmed[name], alone[name]) for name in alone)


samples = st.lists(
    st.tuples(
        st.lists(tokens, min_size=1, max_size=6),
        st.lists(tokens, max_size=6),
        st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@property_test
@given(samples=samples, multiple=multiples)
def test_samples_with_several_answers_are_rows_with_one_each(samples, multiple):
    prompts, rationales, answers = map(list, zip(*samples, strict=True))
    batch = pack_samples(
        prompts, rationales, [[EncodedAnswer(ids, 1) for ids in one] for one in answers], PAD, multiple
    )

    for row, (prompt, rationale, of_sample) in enumerate(samples):
        flat = [token for ids in of_sample for token in ids]
        ids = [*prompt, *rationale, *flat]
        assert batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist() == ids
        assert batch["input_ids"][row][batch["rationale_mask"][row].bool()].tolist() == rationale
        assert batch["input_ids"][row][batch["answer_mask"][row].bool()].tolist() == flat
        own = [token for ids in of_sample for token in ids[1:]]
        assert batch["input_ids"][row][batch["own_mask"][row].bool()].tolist() == own
        for number, ids in enumerate(of_sample, start=1):
            assert batch["input_ids"][row][batch["answer_index"][row] == number].tolist() == ids

    unfolded = unfold_answers(batch, multiple)
    flat_rows = [(prompt, rationale, ids) for prompt, rationale, of_sample in samples for ids in of_sample]
    alone = pack_rows(*map(list, zip(*flat_rows, strict=True)), PAD, multiple)
    for name in ("attention_mask", "rationale_mask", "answer_mask"):
        assert torch.equal(unfolded[name], alone[name])
    is_token = alone["attention_mask"].bool()
    assert torch.equal(unfolded["input_ids"][is_token], alone["input_ids"][is_token])
    folded = fold_tokens(unfolded["input_ids"], unfolded, batch)
    is_token = batch["attention_mask"].bool()
    assert torch.equal(folded[is_token], batch["input_ids"][is_token])
    assert (unfolded is batch) == all(len(of_sample) == 1 for of_sample in answers), "nothing is computed twice"


def test_log_probs_of_the_engine_stand_on_the_rationale_of_a_sample_with_several_answers():
    answers = [[EncodedAnswer([5], 0), EncodedAnswer([6, 6], 0)], [EncodedAnswer([5], 0)]]
    batch = pack_samples([[1, 2], [1]], [[4, 4], [3]], answers, PAD, sampling_logps=[[-0.5, -0.25], [-2.0]])
    assert batch["sampling_logps"].tolist() == [[0, 0, -0.5, -0.25, 0, 0, 0], [0, -2.0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral", "phi3", "gpt2"])
def test_a_packed_row_has_the_logits_of_the_row_alone(kind):
    # Also where positions are absolute and no `position_ids` are given (GPT-2): on the left there is no padding.
    model = tiny.tiny_model(TOKENIZERS["byte-level"], kind)
    rows = [([5], [], [6, 7]), ([8, 9, 10], [11, 12, 13, 14], [15]), ([20, 21], [22] * 9, [23, 24])]
    batch = pack_rows(*map(list, zip(*rows, strict=True)), PAD, 8)

    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        for index, (prompt, rationale, answer) in enumerate(rows):
            ids = torch.tensor([[*prompt, *rationale, *answer]])
            torch.testing.assert_close(logits[index, : ids.size(1)], model(ids).logits[0], atol=1e-5, rtol=1e-5)
