# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Completions are those of the model itself, and the answer's likelihood is that of a plain forward."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from tiny import END_OF_TURN, byte_level_tokenizer, tiny_model
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation.likelihood import logps_of
from trl_latro.evaluation.model import ScoredRow, find_eos_token_ids
from trl_latro.evaluation.transformers_model import TransformersModel
from trl_latro.prompts import tokenize_prompts
from trl_latro.rollout.row_draws import RowDraws
from trl_latro.truncation import RationaleStop, Truncator


ARCHITECTURES = ["llama", "qwen2", "mistral", "phi3", "gemma3", "gpt2"]
TEMPLATE = AnswerTemplate()
BASE_MODEL = Path(__file__).parents[1] / "examples" / "puzzles" / "dial_base_model"
PUZZLE = "The dial shows 2. Turn right 4. Turn left 5. What does it show?"


def evaluated(model: PreTrainedModel, tokenizer: Any, length: int = 12, answer_budget: int = 0) -> TransformersModel:
    return TransformersModel(model, tokenizer, TEMPLATE, length, answer_budget)


def plain_logp(model: PreTrainedModel, context: list[int], answer: list[int]) -> float:
    """One row, without padding, token by token."""
    with torch.no_grad():
        logps = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
    return sum(logps[len(context) + position - 1, token].item() for position, token in enumerate(answer))


def plain_greedy(model: PreTrainedModel, prompt: list[int], length: int, eos_token_ids: list[int]) -> list[int]:
    ids = list(prompt)
    for _ in range(length):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in eos_token_ids:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_likelihood_and_greedy_completions_do_not_depend_on_the_rows_beside_them(kind: Any, pad_is_eos: bool) -> None:
    tokenizer = byte_level_tokenizer(pad_is_eos=pad_is_eos)
    model = tiny_model(tokenizer, kind=kind)
    prompts = [tokenizer.encode(text) for text in ("What is 1 + 2?", "What is 1 + 2?", "Why?\n", "So " * 20, "9")]
    rationales = [tokenizer.encode(text) for text in ("It is three.", "", "No", "Then " * 9, "")]
    answers = [tokenizer.encode(text) + [tokenizer.eos_token_id] for text in (" It is 3.", " 3", " 9", " No.", "")]
    made = evaluated(model, tokenizer)

    rows = [ScoredRow(*row) for row in zip(prompts, rationales, answers, strict=True)]
    attention = model.config._attn_implementation
    expected = [plain_logp(model, row.prompt + row.rationale, row.answer) for row in rows]
    assert made.answer_logps(rows) == pytest.approx(expected, abs=1e-4)
    assert model.config._attn_implementation == attention

    completions = made.generate(prompts, num_samples=1, greedy=True, seed=0)
    assert completions == [[plain_greedy(model, ids, 12, made.eos_token_ids)] for ids in prompts]


def memory_for(tokens: int, model: PreTrainedModel) -> list[int]:
    """From now on the model runs out of memory above this number of tokens; the list gets those of each forward."""
    seen: list[int] = []

    def check(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        input_ids = kwargs["input_ids"]
        # Those in the cache are held too
        held = max(input_ids.numel(), input_ids.size(0) * (int(kwargs["position_ids"].max()) + 1))
        if held > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        seen.append(held)

    model.register_forward_pre_hook(check, with_kwargs=True)
    return seen


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_does_not_fit_into_memory_is_halved_and_the_results_stay(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = byte_level_tokenizer()
    model, small = tiny_model(tokenizer, kind=kind), tiny_model(tokenizer, kind=kind)
    prompts = [tokenizer.encode(text) for text in ("What is 1 + 2?", "What is 2 + 2?", "Why is it so?")]
    rows = [ScoredRow(prompt, [40 + number] * 9, [50, 51]) for prompt in prompts for number in range(4)]
    seen = memory_for(100, small)  # of 12 prompts it holds 6, but not with what is sampled after them
    large, halved = evaluated(model, tokenizer), evaluated(small, tokenizer)
    for greedy in (True, False):
        assert halved.generate(prompts, 4, greedy, seed=3) == large.generate(prompts, 4, greedy, seed=3)
    assert "A batch of 12 completions does not fit into memory: 6 at a time from here on." in caplog.text
    assert "A batch of 6 completions does not fit into memory: 3 at a time from here on." in caplog.text
    assert len(caplog.messages) == 2, "what has not fitted is not tried again"
    seen.clear()
    caplog.clear()
    assert halved.answer_logps(rows) == pytest.approx(large.answer_logps(rows), abs=1e-5)
    assert "A forward of 12 completions does not fit into memory: 6 at a time from here on." in caplog.text
    assert len(seen) >= 2

    memory_for(10, small)
    with pytest.raises(torch.OutOfMemoryError):
        halved.generate(prompts, 4, greedy=True, seed=0)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_completions_with_stop_strings_are_those_of_generate_one_by_one(kind: Any, greedy: bool) -> None:
    tokenizer = byte_level_tokenizer(num_merges=120)
    model = tiny_model(tokenizer, kind=kind, seed=3)
    template = AnswerTemplate("t {answer}")
    made = TransformersModel(model, tokenizer, template, 40, 3)
    prompts = [tokenizer.encode(f"{number} + {number * number} is") for number in range(24)]
    seeds = np.random.SeedSequence(5).generate_state(len(prompts), np.uint64).tolist()
    expected = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        stop = RationaleStop(Truncator(tokenizer, template.stop_strings, made.eos_token_ids))
        stop.start(len(prompt), 3)
        output = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            max_new_tokens=43,
            stopping_criteria=StoppingCriteriaList([stop]),
            logits_processor=LogitsProcessorList([] if greedy else [RowDraws([seed], 43, model.device)]),
        )
        # A padding token that was sampled at the end of the answer budget cannot be told from padding
        expected.append([made.truncator.without_padding(output[0, len(prompt) :].tolist())])
    assert made.generate(prompts, 1, greedy, seed=5) == expected
    assert len({len(ids) for (ids,) in expected}) > 1, "rows of one length would prove nothing"


def test_half_precision_weights_are_normalized_in_float32() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer).bfloat16()
    context, answer = tokenizer.encode("What is 1 + 2?"), tokenizer.encode(" The answer is 3.")
    with torch.no_grad():
        logits = model(torch.tensor([context + answer])).logits[0, len(context) - 1 : -1]
    logps = logits.double().log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
    assert logits.dtype == torch.bfloat16
    assert logps_of(logits, torch.tensor(answer)).sum().item() == pytest.approx(logps.sum().item(), abs=1e-3)


def test_samples_are_distributed_as_the_model_says() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, initializer_range=0.1)  # flat: far more than 50 tokens are likely
    prompt = tokenizer.encode("What is 1 + 2?")
    with torch.no_grad():
        probabilities = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    (samples,) = evaluated(model, tokenizer, length=1).generate([prompt], num_samples=4000, greedy=False, seed=0)
    counts = Counter(ids[0] if ids else tokenizer.pad_token_id for ids in samples)
    found = torch.tensor([counts[token] / 4000 for token in range(len(probabilities))])
    exact = torch.multinomial(probabilities, 4000, replacement=True, generator=torch.Generator().manual_seed(1))
    chance = (torch.bincount(exact, minlength=len(probabilities)) / 4000 - probabilities).abs().sum()
    assert (found - probabilities).abs().sum() < 1.2 * chance
    assert len(counts) > 200


@pytest.mark.parametrize("peft", [False, True])
def test_the_models_generation_config_changes_nothing_but_its_eos_tokens(peft: bool) -> None:
    tokenizer = byte_level_tokenizer(chat=True)
    prompts = [tokenizer.encode(text) for text in ("What is 1 + 2?", "So?")]
    model, configured = tiny_model(tokenizer), tiny_model(tokenizer)
    configured.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.1,
        top_k=3,
        top_p=0.5,
        min_p=0.3,
        typical_p=0.4,
        epsilon_cutoff=0.1,
        repetition_penalty=3.0,
        no_repeat_ngram_size=1,
        num_beams=2,
        min_new_tokens=5,
        suppress_tokens=[70, 71],
        bad_words_ids=[[72]],
        max_length=3,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)],
    )
    if peft:
        configured = get_peft_model(configured, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    own_config = configured.generation_config
    for greedy in (True, False):
        expected = evaluated(model, tokenizer).generate(prompts, 3, greedy, seed=0)
        assert evaluated(configured, tokenizer).generate(prompts, 3, greedy, seed=0) == expected
    assert configured.generation_config is own_config


def test_seeds_choose_the_samples_and_leave_no_trace() -> None:
    tokenizer = byte_level_tokenizer()
    made = evaluated(tiny_model(tokenizer), tokenizer)
    prompts = [tokenizer.encode("What is 1 + 2?")]
    before = torch.get_rng_state()
    first = made.generate(prompts, 4, greedy=False, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert made.generate(prompts, 4, greedy=False, seed=0) == first
    assert made.generate(prompts, 4, greedy=False, seed=1) != first
    assert len({tuple(ids) for ids in first[0]}) == 4


@pytest.mark.parametrize("answer_budget", [0, 2, 40])
def test_completions_go_on_for_the_answer_and_no_further(answer_budget: int) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE_MODEL), AutoTokenizer.from_pretrained(BASE_MODEL)
    made = evaluated(model, tokenizer, length=64, answer_budget=answer_budget)
    (samples,) = made.generate([tokenizer.encode(PUZZLE)], num_samples=16, greedy=False, seed=0)
    lengths = set()
    for ids in samples:
        before, stop, after = tokenizer.decode(ids).partition("The answer is")
        assert stop
        if answer_budget == 40:  # " 5", "." and the EOS token come first
            assert ids[-1] in made.eos_token_ids and after.startswith(" ")
        else:
            assert len(tokenizer.encode(after, add_special_tokens=False)) == answer_budget
        lengths.add(len(ids))
    assert len(lengths) > 1


def test_eos_tokens_are_those_of_the_generation_config_and_the_tokenizers_own() -> None:
    tokenizer = byte_level_tokenizer()
    own = tokenizer.eos_token_id
    for declared, expected in [(None, [own]), (5, [own, 5]), ([5, own], [5, own]), (own, [own])]:
        assert find_eos_token_ids(GenerationConfig(eos_token_id=declared), tokenizer) == expected


def test_prompts_are_tokenized_as_in_training_and_the_longest_answer_makes_the_token_budget() -> None:
    tokenizer = byte_level_tokenizer(chat=True)
    message = [{"role": "user", "content": "Why?"}]
    expected = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(tokenize_prompts(tokenizer, [message])[0]) == expected
    assert tokenize_prompts(tokenizer, ["Why?"]) == tokenizer(["Why?"])["input_ids"]
    longest = "The answer is 123456."
    assert TEMPLATE.token_budget(tokenizer, ["1", "123456"]) == len(tokenizer.tokenize(longest)) + 16
    assert TEMPLATE.stop_strings == ["The answer is"] and AnswerTemplate("{answer}").stop_strings == []
