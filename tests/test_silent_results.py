# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Inputs that trained or evaluated on something else than what was meant, and said nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import processors
from transformers import AutoModel, PreTrainedModel, T5Config, T5ForConditionalGeneration

import tiny
from given import STOP, TrainerGivenCompletions, cpu_config, lora_config, perturb, sample_ids, snapshot
from trl_latro import LaTROTrainer
from trl_latro.answer_template import AnswerTemplate
from trl_latro.evaluation import evaluate
from trl_latro.prompts import tokenize_prompts
from trl_latro.reference_model import copy_initial_model
from trl_latro.samples import check_groups


TOKENIZER = tiny.byte_level_tokenizer(num_merges=120)
CHAT = tiny.byte_level_tokenizer(num_merges=120, chat=True)


def make_trainer(
    path: Path, model: Any, rows: Any = None, tokenizer: Any = TOKENIZER, **settings: Any
) -> LaTROTrainer:
    args = cpu_config(str(path), **{"beta": 0.0, "max_completion_length": 8, "max_steps": 1, **settings})
    return LaTROTrainer(model, args, tiny.tiny_dataset(3) if rows is None else rows, processing_class=tokenizer)


# ---- the reference is the initial state of the model that was passed ----


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_the_reference_is_the_model_that_was_passed(tmp_path: Path, named: bool, changed: bool) -> None:
    tiny.save_model(TOKENIZER, tmp_path / "model")
    model: PreTrainedModel = tiny.tiny_model(TOKENIZER, kind="llama")
    if named:
        model.config._name_or_path = str(tmp_path / "model")
    if changed:
        perturb(model, seed=1, size=0.5)
    initial = snapshot(model)
    trainer = make_trainer(tmp_path, model, beta=0.5, learning_rate=0.1, max_steps=2)
    trainer.train()
    first, second, *_ = trainer.state.log_history
    assert abs(first["kl"]) < 1e-5
    assert abs(second["kl"]) > 1e-3, "the reference stays, the policy has moved"
    for name, tensor in snapshot(trainer.ref_model).items():
        torch.testing.assert_close(tensor, initial[name], rtol=0, atol=0)


def test_nothing_is_copied_without_need(tmp_path: Path) -> None:
    path = tiny.save_model(TOKENIZER, tmp_path / "model")
    args, without = (cpu_config(str(tmp_path / "out"), beta=beta, max_completion_length=8) for beta in (0.5, 0.0))
    model = tiny.tiny_model(TOKENIZER, kind="llama")
    assert copy_initial_model(model, args, None) is not None
    assert copy_initial_model(path, args, None) is None, "it is loaded a second time"
    assert copy_initial_model(model, without, None) is None
    assert copy_initial_model(model, args, lora_config()) is None
    assert copy_initial_model(get_peft_model(model, lora_config()), args, None) is None
    trainer = LaTROTrainer(path, args, tiny.tiny_dataset(3))
    assert trainer.ref_model is not None and trainer.beta == 0.5


def test_a_reference_that_follows_the_policy_still_does(tmp_path: Path) -> None:
    model = tiny.tiny_model(TOKENIZER, kind="llama")
    settings = {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1.0}
    trainer = make_trainer(tmp_path, model, beta=0.5, learning_rate=0.1, **settings)
    trainer.train()
    for name, tensor in snapshot(trainer.ref_model).items():
        torch.testing.assert_close(tensor, snapshot(trainer.model)[name])


# ---- something trains ----


def test_an_adapter_that_is_frozen_is_refused(tmp_path: Path) -> None:
    adapter = get_peft_model(tiny.tiny_model(TOKENIZER, kind="llama"), lora_config())
    adapter.save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(tiny.tiny_model(TOKENIZER, kind="llama"), tmp_path / "adapter")
    with pytest.raises(ValueError, match="without a trainable parameter. Load the adapter with `is_trainable=True`"):
        make_trainer(tmp_path, model)


def test_a_model_that_is_frozen_is_refused(tmp_path: Path) -> None:
    model = tiny.tiny_model(TOKENIZER).requires_grad_(False)
    with pytest.raises(ValueError, match="without a trainable parameter. Unfreeze some"):
        make_trainer(tmp_path, model)


def test_a_stream_with_too_few_rows_for_one_step_is_an_error(tmp_path: Path) -> None:
    rows = IterableDataset.from_generator(lambda: iter(tiny.tiny_dataset(2)))
    trainer = make_trainer(tmp_path, tiny.tiny_model(TOKENIZER), rows)
    with pytest.raises(ValueError, match="ended without a step"):
        trainer.train()


# ---- the model fits the tokenizer ----


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "wrapping",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
)
def test_the_embeddings_of_an_adapter_are_trained(tmp_path: Path, wrapping: dict[str, Any], tied: bool) -> None:
    model = tiny.tiny_model(TOKENIZER, kind="llama", tie_word_embeddings=tied)
    trainer = make_trainer(
        tmp_path, get_peft_model(model, LoraConfig(r=2, **wrapping)), learning_rate=0.1, max_steps=2
    )
    before = snapshot(trainer.model)
    trainer.train()
    trained = [name for name, one in snapshot(trainer.model).items() if not torch.equal(one, before[name])]
    assert any("embed" in name for name in trained)


def test_a_model_with_fewer_embeddings_than_tokens_is_refused(tmp_path: Path) -> None:
    model = tiny.tiny_model(TOKENIZER, kind="llama")
    model.resize_token_embeddings(len(TOKENIZER) - 3)
    with pytest.raises(ValueError, match=f"has {len(TOKENIZER) - 3} embeddings. Take the model's own tokenizer"):
        make_trainer(tmp_path, model)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=len(TOKENIZER), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration, an encoder-decoder"):
        make_trainer(tmp_path, T5ForConditionalGeneration(config))


def test_a_model_without_head_is_refused(tmp_path: Path) -> None:
    model = AutoModel.from_config(tiny.tiny_model(TOKENIZER, kind="llama").config)
    with pytest.raises(ValueError, match="LlamaModel, which has no LM head"):
        make_trainer(tmp_path, model)


# ---- prompts ----


@pytest.mark.parametrize("conversational", [False, True])
def test_a_tokenizer_that_ends_every_text_is_for_messages_only(tmp_path: Path, conversational: bool) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, chat=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {tiny.EOS}", special_tokens=[(tiny.EOS, tokenizer.eos_token_id)]
    )
    rows, model = tiny.tiny_dataset(3, conversational=conversational), tiny.tiny_model(tokenizer)
    if conversational:
        make_trainer(tmp_path, model, rows, tokenizer)
        return
    with pytest.raises(ValueError, match=r"EOS token '<\|eos\|>' behind every text"):
        make_trainer(tmp_path, model, rows, tokenizer)


def test_other_columns_do_not_say_what_kind_the_prompts_are(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, chat=True)
    tokenizer.chat_template = f"{tiny.CHAT_TEMPLATE}{{# <think> </think> #}}"  # of a model that thinks
    rows = tiny.tiny_dataset(3)
    for name in ("messages", "completion", "chosen", "rejected"):  # TRL's function takes any of them for the prompt
        rows = rows.add_column(name, [[{"role": "user", "content": "Hello"}]] * len(rows))
    trainer = make_trainer(tmp_path, tiny.tiny_model(tokenizer), rows, tokenizer)
    assert trainer.truncator.thinking is None
    trainer.train()
    assert all(isinstance(completion, str) for completion in trainer._logs["completion"])


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        ["a", "b"],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"content": "What is 1 + 2?"}],
        [{"role": "user", "content": [{"type": "image"}]}],
        5,
        None,
        "\ud800",
        [{"role": "user", "content": "half \udc00"}],
    ],
    ids=repr,
)
def test_a_prompt_that_is_no_text_and_no_messages_names_its_row(tmp_path: Path, prompt: Any) -> None:
    good = [{"role": "user", "content": "2 + 2?"}] if isinstance(prompt, list) else "2 + 2?"
    rows = [{"prompt": good, "answer": "4"}] * 3 + [{"prompt": prompt, "answer": "3"}]
    stream = IterableDataset.from_generator(
        lambda: iter(rows * 3)
    )  # as it is: a table would change or refuse the prompts
    trainer = make_trainer(
        tmp_path, tiny.tiny_model(CHAT), stream, CHAT, per_device_train_batch_size=16, shuffle_dataset=False
    )
    with pytest.raises(
        ValueError, match="A row of `train_dataset` .*has a prompt that is neither text nor a list of mess"
    ):
        trainer.train()


def test_a_prompt_that_the_chat_template_refuses_names_its_row(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level_tokenizer(num_merges=120, chat=True)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('No system messages') }}{% endif %}"
    tokenizer.chat_template = refuses + tokenizer.chat_template
    user = {"role": "user", "content": "2 + 2?"}
    rows = Dataset.from_list(
        [{"prompt": [user], "answer": "4"}] * 3 + [{"prompt": [{**user, "role": "system"}, user], "answer": "4"}]
    )
    with pytest.raises(ValueError, match=r"`train_dataset` row 3 .*cannot be tokenized: No system messages\. Remove"):
        make_trainer(tmp_path, tiny.tiny_model(tokenizer), rows, tokenizer)


PREFILLED = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "Let's see: 2"}]


def test_a_message_of_the_assistant_is_continued(tmp_path: Path) -> None:
    plain = PREFILLED[:1]
    ids = tokenize_prompts(CHAT, [PREFILLED, plain, PREFILLED])
    assert ids[0] == ids[2]
    begun = CHAT.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    assert CHAT.decode(ids[1]) == begun
    assert CHAT.decode(ids[0]) == begun + "Let's see: 2"
    rows = Dataset.from_list([{"prompt": PREFILLED, "answer": "4"}] * 3)
    trainer = make_trainer(tmp_path, tiny.tiny_model(CHAT), rows, CHAT)
    trainer.train()
    assert trainer._tokenize([PREFILLED]) == [ids[0]]
    evaluation = evaluate(trainer.model, CHAT, rows, num_samples=0, max_completion_length=8, progress=False)
    assert evaluation.generations[0].prompt == PREFILLED


def test_a_group_of_several_prompts_is_refused() -> None:
    table = [{"prompt": "7 + 7?"}] * 2 + [{"prompt": "3 + 3?"}] * 2
    check_groups(table, 2, "train")
    with pytest.raises(
        ValueError, match=r"samples of '7 \+ 7\?' and '3 \+ 3\?' where the 4 generations of one prompt"
    ):
        check_groups(table, 4, "train")
    with pytest.raises(ValueError, match="has 4 samples over all processes, which is not a multiple of the 3"):
        check_groups(table, 3, "eval")


# ---- answers ----


def test_white_space_at_an_answers_ends_is_no_part_of_it(tmp_path: Path) -> None:
    assert AnswerTemplate().fill(" 5\n") == "The answer is 5."
    assert AnswerTemplate().span(" 5\n") == (14, 15)
    losses = []
    for answer in ("5", " 5\n"):
        rows = Dataset.from_list([{"prompt": "2 + 3?", "answer": answer}] * 3)
        args = cpu_config(str(tmp_path), beta=0.0, max_completion_length=8)
        completions = {tuple(TOKENIZER("2 + 3?")["input_ids"]): [sample_ids(TOKENIZER, "The answer is 5.", STOP)] * 4}
        trainer = TrainerGivenCompletions(
            tiny.tiny_model(TOKENIZER), args, rows, rows, processing_class=TOKENIZER, completions=completions
        )
        metrics = trainer.evaluate()
        assert metrics["eval_accuracy"] == 1.0
        losses.append(metrics["eval_loss"])
    assert losses[0] == losses[1]


def test_a_special_token_in_the_template_is_found_in_the_completion(tmp_path: Path) -> None:
    """Training and `trl-latro evaluate` decode completions in one way."""
    tokenizer = tiny.byte_level_tokenizer(num_merges=120)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|final|>"]})
    template = "<|final|>The answer is {answer}."
    rows = Dataset.from_list([{"prompt": "2 + 3?", "answer": "5"}] * 3)
    args = cpu_config(str(tmp_path), beta=0.0, max_completion_length=24, answer_template=template)
    text = f"2 + 3 = 5. {'<|final|>The answer is 5.'}"
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.convert_tokens_to_ids("<|final|>") in ids
    trainer = TrainerGivenCompletions(
        tiny.tiny_model(tokenizer),
        args,
        rows,
        rows,
        processing_class=tokenizer,
        completions={tuple(tokenizer("2 + 3?")["input_ids"]): [ids] * 4},
    )
    metrics = trainer.evaluate()
    assert metrics["eval_accuracy"] == 1.0 and metrics["eval_no_answer"] == 0.0


def test_an_end_of_turn_that_is_no_eos_token_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from trl_latro.end_of_turn import find_end_of_turn, logger

    logger.parent.propagate = True
    end = CHAT.convert_tokens_to_ids(tiny.END_OF_TURN)
    assert find_end_of_turn(CHAT, [CHAT.eos_token_id, end], {}) == end
    assert caplog.text == ""
    assert find_end_of_turn(CHAT, [CHAT.eos_token_id], {}) == CHAT.eos_token_id
    assert f"ends the assistant's turn with '{tiny.END_OF_TURN}'" in caplog.text
