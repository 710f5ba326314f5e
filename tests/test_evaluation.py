# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Evaluations as a whole: in memory, and `trl-latro evaluate` with its files, stops, processes and comparisons."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from tiny import END_OF_TURN, byte_level_tokenizer, save_model, tiny_dataset, tiny_model
from trl_latro.cli.compare import main as compare_main
from trl_latro.cli.evaluate import main
from trl_latro.evaluation import Evaluation, evaluate
from trl_latro.evaluation.batches import plan_batches
from trl_latro.evaluation.comparison import compare
from trl_latro.evaluation.generation import Generation
from trl_latro.evaluation.intervals import mean_metric


ROOT = Path(__file__).parents[1]
BASE_MODEL = ROOT / "examples" / "puzzles" / "dial_base_model"
DATA = ROOT.parent / "shared" / "data"

# Question, answer, rationale: puzzles that the example's base model was trained for
PUZZLES = [
    (
        "The dial shows 2. Turn right 4. Turn left 5. What does it show?",
        "1",
        "Right 4 from 2 is 6. Left 5 from 6 is 1.",
    ),
    ("The dial shows 9. Double it. Turn left 7. What does it show?", "1", "Double 9 is 8. Left 7 from 8 is 1."),
    (
        "The dial shows 0. Turn right 1. Turn right 1. What does it show?",
        "2",
        "Right 1 from 0 is 1. Right 1 from 1 is 2.",
    ),
    (
        "The dial shows 5. Turn left 6. Double it. Turn left 1. What does it show?",
        "7",
        "Left 6 from 5 is 9. Double 9 is 8. Left 1 from 8 is 7.",
    ),
    ("The dial shows 3. Double it. Double it. What does it show?", "2", "Double 3 is 6. Double 6 is 2."),
]


def dial() -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Dataset]:
    rows = [{"prompt": puzzle, "answer": answer, "rationale": f" {why}"} for puzzle, answer, why in PUZZLES]
    return (
        AutoModelForCausalLM.from_pretrained(BASE_MODEL),
        AutoTokenizer.from_pretrained(BASE_MODEL),
        Dataset.from_list(rows),
    )


def plain_logp(model: PreTrainedModel, context: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        logps = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
    return sum(logps[len(context) + position - 1, token].item() for position, token in enumerate(answer))


def plain(evaluation: Evaluation) -> list[tuple[Any, ...]]:
    """Generations without what batches of another size change."""
    return [
        (
            one.question,
            one.kind,
            one.sample,
            one.completion,
            one.extracted,
            one.correct,
            one.finished,
            one.tokens_to_end,
        )
        for one in evaluation.generations
    ]


# ---- in memory ----


def test_every_line_is_what_one_computes_from_its_text() -> None:
    model, tokenizer, dataset = dial()
    metrics, generations = evaluate(model, tokenizer, dataset, num_samples=4, max_completion_length=64, batch_size=7)
    positions = [(one.question, one.kind, one.sample) for one in generations]
    assert positions == [
        (q, kind, i) for q in range(5) for kind, n in (("greedy", 1), ("sample", 4)) for i in range(n)
    ]

    for one in generations:
        row = dataset[one.question]
        assert (one.prompt, one.answer) == (row["prompt"], row["answer"])
        rationale, stop, answer = one.completion.partition(" The answer is ")
        assert stop and one.finished and answer.endswith(".")
        assert one.extracted == one.vote == answer[:-1] and one.correct == (answer[:-1] == row["answer"])
        # every word and full stop is a token of this tokenizer
        assert one.rationale_tokens == len(tokenizer.tokenize(rationale)) == one.tokens_to_end - 3
        prompt, reference = tokenizer.encode(one.prompt), tokenizer.encode(f" The answer is {one.answer}.")
        reference += [tokenizer.eos_token_id]
        contexts = {"": rationale} | ({"_none": "", "_gold": row["rationale"]} if one.kind == "greedy" else {})
        for name, text in contexts.items():
            expected = plain_logp(model, prompt + tokenizer.encode(text), reference)
            assert one._asdict()[f"answer_logp{name}"] == pytest.approx(expected, abs=1e-3)
            assert one._asdict()[f"answer_tokens{name}"] == len(reference)
        if one.kind == "sample":
            assert one.answer_logp_none is None and one.answer_logp_gold is None

    assert {one.correct for one in generations} == {True, False}
    per_question = [sum(one.correct for one in generations[5 * q + 1 : 5 * q + 5]) / 4 for q in range(5)]
    assert metrics["sample_accuracy"].value == pytest.approx(sum(per_question) / 5)
    assert metrics["answer_logp_gold_rationale"].value > metrics["answer_logp_no_rationale"].value


def test_several_right_answers_are_scored_together_and_any_is_right() -> None:
    model, tokenizer, dataset = dial()
    lists = [[one, *sorted({"1", "2", "3"} - {one})[:row]] for row, one in enumerate(dataset["answer"][:3])]
    several = dataset.select(range(3)).remove_columns("answer").add_column("answer", lists)
    settings = {"num_samples": 4, "max_completion_length": 64}
    _, generations = evaluate(model, tokenizer, several, **settings)
    assert sorted({len(one.answer) for one in generations}) == [1, 2, 3]
    generations = [one for one in generations if "\ufffd" not in one.completion]  # tokens that are no text
    assert len(generations) > 10
    for one in generations:
        assert one.correct == (one.extracted in one.answer)
        prompt, rationale = tokenizer.encode(one.prompt), one.completion.partition(" The answer is ")[0]
        references = [
            tokenizer.encode(f" The answer is {answer}.") + [tokenizer.eos_token_id] for answer in one.answer
        ]
        logps = [plain_logp(model, prompt + tokenizer.encode(rationale), reference) for reference in references]
        assert one.answer_logp == pytest.approx(math.log(sum(map(math.exp, logps))), abs=1e-3)
        assert one.answer_tokens == len(references[logps.index(max(logps))])


@pytest.mark.parametrize("limit", [8, 16])
def test_accuracy_within_a_limit_is_that_of_generation_with_this_limit(limit: int) -> None:
    model, tokenizer, dataset = dial()
    settings = {"num_samples": 16, "batch_size": 6, "progress": False}
    whole, _ = evaluate(model, tokenizer, dataset, max_completion_length=64, **settings)
    short, lines = evaluate(model, tokenizer, dataset, max_completion_length=limit, **settings)
    for kind in ("greedy", "sample"):
        assert whole[f"{kind}_accuracy_within_{limit}_tokens"] == short[f"{kind}_accuracy"]
    assert 0 < short["sample_accuracy"].value < whole["sample_accuracy"].value
    unfinished = [one for one in lines if not one.finished]
    assert unfinished and all(one.extracted is None and not one.correct for one in unfinished)
    # The lenient reading sees the text up to the limit as it is, and the strict one's answer where there is one
    assert any(one.flexible_extracted is not None and one.flexible_extracted.isdigit() for one in unfinished)
    assert all(
        one.flexible_extracted == one.extracted and one.flexible_correct == one.correct
        for one in lines
        if one.extracted is not None
    )
    assert all(one.rationale_tokens == limit and one.tokens_to_end is None for one in unfinished)


def test_greedy_completions_do_not_depend_on_the_batch_and_samples_on_its_seed_only() -> None:
    model, tokenizer, dataset = dial()
    first, other, again, reseeded = (
        evaluate(model, tokenizer, dataset, num_samples=2, max_completion_length=64, batch_size=size, seed=seed)
        for size, seed in ((3, 0), (64, 0), (3, 0), (3, 1))
    )
    greedy = [line for line in plain(first) if line[1] == "greedy"]
    assert greedy == [line for line in plain(other) if line[1] == "greedy"]
    assert again == first
    assert plain(reseeded) != plain(first)


def test_the_model_is_evaluated_without_dropout_and_left_as_it_was() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, kind="gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    settings = {"num_samples": 1, "max_completion_length": 6, "progress": False}
    expected = evaluate(model, tokenizer, tiny_dataset(), **settings)
    model.train()
    before = torch.get_rng_state()
    assert evaluate(model, tokenizer, tiny_dataset(), **settings) == expected
    assert model.training and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_messages_are_scored_with_the_token_that_ends_a_turn(kind: Any) -> None:
    tokenizer = byte_level_tokenizer(chat=True, pad_is_eos=True)
    model = tiny_model(tokenizer, kind=kind)
    dataset = tiny_dataset(3, conversational=True)
    _, generations = evaluate(model, tokenizer, dataset, num_samples=0, max_completion_length=6, progress=False)
    for one, row in zip(generations, dataset, strict=True):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        answer = [*tokenizer.encode(f" The answer is {row['answer']}."), end]
        assert one.answer_logp_none == pytest.approx(plain_logp(model, prompt, answer), abs=1e-3)
        assert one.answer_logp_gold is None


def test_the_separator_of_the_training_stands_before_the_answer() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, kind="llama")
    dataset = tiny_dataset(3)
    _, generations = evaluate(
        model,
        tokenizer,
        dataset,
        answer_separator="\n\n",
        num_samples=0,
        max_completion_length=6,
        progress=False,
    )
    for one, row in zip(generations, dataset, strict=True):
        answer = [*tokenizer.encode(f"\n\nThe answer is {row['answer']}."), tokenizer.eos_token_id]
        prompt = tokenizer.encode(row["prompt"])
        assert one.answer_logp_none == pytest.approx(plain_logp(model, prompt, answer), abs=1e-3)


def test_gold_rationales_follow_a_text_prompt_on_a_line_of_their_own_and_a_message_at_once() -> None:
    for chat in (False, True):
        tokenizer = byte_level_tokenizer(chat=chat)
        model = tiny_model(tokenizer)
        dataset = tiny_dataset(3, conversational=chat).add_column("rationale", ["So.", "Add.", "Then 5."])
        _, generations = evaluate(model, tokenizer, dataset, num_samples=0, max_completion_length=6, progress=False)
        for one, row in zip(generations, dataset, strict=True):
            if chat:
                prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
                gold, end = tokenizer.encode(row["rationale"]), tokenizer.convert_tokens_to_ids(END_OF_TURN)
            else:
                prompt, gold = tokenizer.encode(row["prompt"]), tokenizer.encode("\n" + row["rationale"])
                end = tokenizer.eos_token_id
            answer = [*tokenizer.encode(f" The answer is {row['answer']}."), end]
            assert one.answer_logp_gold == pytest.approx(plain_logp(model, prompt + gold, answer), abs=1e-3)


def test_a_grader_of_ones_own_gets_the_row_and_the_template_is_followed() -> None:
    model, tokenizer, dataset = dial()
    seen = []

    def always(extracted: str, row: dict[str, Any]) -> bool:
        seen.append((extracted, row["answer"], row["rationale"]))
        return True

    metrics, generations = evaluate(
        model, tokenizer, dataset, "The answer is {answer}", always, num_samples=2, max_completion_length=64
    )
    assert metrics["greedy_accuracy"] == metrics["maj@2"] == (1.0, 1.0, 1.0)
    assert len(seen) == len(generations) and all(extracted.endswith(".") for extracted, _, _ in seen)
    assert {one.answer_tokens for one in generations} == {5}  # no full stop: " The answer is 1" and the EOS token


def test_what_does_not_fit_into_the_model_is_said_before_generating() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(tokenizer, max_position_embeddings=64)
    with pytest.raises(ValueError, match="Question 1 .* needs 69 positions, but the model has 64"):
        evaluate(model, tokenizer, tiny_dataset(3), max_completion_length=2)
    model = tiny_model(tokenizer, max_position_embeddings=128)
    dataset = tiny_dataset(3).add_column("rationale", ["So.", "So. " * 30, "So."])
    with pytest.raises(ValueError, match="Question 1 with its gold rationale of 121 tokens needs"):
        evaluate(model, tokenizer, dataset, max_completion_length=2)
    with pytest.raises(ValueError, match="has no column 'answer'"):
        evaluate(model, tokenizer, tiny_dataset(3).remove_columns("answer"))


def test_batches_hold_every_completion_once_the_longest_prompts_first() -> None:
    lengths = [5, 9, 9, 2]
    batches = plan_batches(lengths, num_samples=3, batch_size=5)
    assert [batch.number for batch in batches] == list(range(4))
    assert [batch.kind for batch in batches] == ["greedy", "sample", "sample", "sample"]
    assert [len(batch.questions) for batch in batches] == [4, 5, 5, 2]
    rows = [(b.kind, q, s) for b in batches for q, s in zip(b.questions, b.samples, strict=True)]
    assert sorted(rows) == sorted(
        [("greedy", q, 0) for q in range(4)] + [("sample", q, s) for q in range(4) for s in range(3)]
    )
    assert batches[0].questions == [1, 2, 0, 3]
    assert len({batch.seed(0) for batch in batches} | {batch.seed(1) for batch in batches}) == 8


# ---- from the command line ----


def arguments(folder: Path, output: str, **changed: Any) -> list[str]:
    path = folder / "puzzles.jsonl"
    rows = [{"question": puzzle, "answer": answer, "why": why} for puzzle, answer, why in PUZZLES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = {
        "model_name_or_path": BASE_MODEL,
        "task": path,
        "rationale_column": "why",
        "prompt_template": "{question}",
        "num_samples": 3,
        "max_completion_length": 64,
        "batch_size": 4,
        "output_dir": folder / output,
        **changed,
    }
    return [text for name, value in args.items() for text in (f"--{name}", str(value))]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_writes_what_evaluate_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(tmp_path, "run"))
    printed = capsys.readouterr().out
    model, tokenizer, dataset = dial()
    metrics, generations = evaluate(model, tokenizer, dataset, num_samples=3, max_completion_length=64, batch_size=4)

    assert set(files(tmp_path / "run")) == {"settings.json", "generations-0.jsonl", "results.json"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "generations-0.jsonl").read_text().splitlines()]
    written = sorted((Generation(**line) for line in lines), key=lambda one: (one.question, one.kind, one.sample))
    # The file's gold rationales come without the space that those above begin with
    assert [one._replace(answer_logp_gold=0, answer_tokens_gold=0) for one in written] == [
        one._replace(answer_logp_gold=0, answer_tokens_gold=0) for one in generations
    ]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["questions"] == 5 and results["settings"]["answer_template"] == "The answer is {answer}."
    assert "gold" in " ".join(results["metrics"])
    for name, metric in metrics.items():
        if "gold" not in name:
            assert results["metrics"][name] == metric._asdict()
    value, low, high = (f"{100 * number:.1f}" for number in metrics["sample_accuracy"])
    (line,) = (line for line in printed.splitlines() if line.startswith("sample accuracy (%)"))
    assert line.split() == ["sample", "accuracy", "(%)", value, f"[{low},", f"{high}]"]
    assert "\ngreedy flexible accuracy (%) " in printed and "\nsample flexible accuracy (%) " in printed
    assert {"greedy_flexible_accuracy", "sample_flexible_accuracy"} <= set(results["metrics"])


def test_a_stopped_evaluation_continues_to_the_same_files(tmp_path: Path) -> None:
    main(arguments(tmp_path, "whole"))
    whole = files(tmp_path / "whole")
    lines = whole["generations-0.jsonl"]
    ends = [position + 1 for position, byte in enumerate(lines) if byte == ord("\n")]
    # at the end of a batch, of a line within a batch, in a line, before its line break, and before anything
    for kept in (ends[4], ends[6], ends[6] + 100, ends[7] - 1, 0, len(lines)):
        folder = tmp_path / f"stopped-{kept}"
        folder.mkdir()
        (folder / "settings.json").write_bytes(whole["settings.json"])
        (folder / "generations-0.jsonl").write_bytes(lines[:kept])
        main(arguments(tmp_path, folder.name))
        assert files(folder) == whole


def test_a_line_may_break_off_within_a_character(tmp_path: Path) -> None:
    main(arguments(tmp_path, "run", num_samples=0, batch_size=1))
    path = tmp_path / "run" / "generations-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 1] + '{"prompt": "é'.encode()[:-1])
    main(arguments(tmp_path, "run", num_samples=0, batch_size=1))
    assert path.read_bytes() == whole


def test_two_processes_give_what_one_gives_and_finish_what_it_began(tmp_path: Path) -> None:
    main(arguments(tmp_path, "one"))
    one = files(tmp_path / "one")
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "settings.json").write_bytes(one["settings.json"])
    (folder / "generations-0.jsonl").write_bytes(one["generations-0.jsonl"][:2000])  # somewhere in the first batch
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "trl_latro"]
    command = [*launcher, "evaluate", *arguments(tmp_path, "two")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    two = files(folder)
    assert two["results.json"] == one["results.json"]
    halves = [two[f"generations-{rank}.jsonl"].splitlines() for rank in (0, 1)]
    assert all(halves) and sorted(halves[0] + halves[1]) == sorted(one["generations-0.jsonl"].splitlines())


def test_other_settings_other_data_and_other_weights_do_not_continue(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    model = Path(save_model(tokenizer, tmp_path / "model"))
    args = {"model_name_or_path": model, "num_samples": 0, "max_completion_length": 4}
    main(arguments(tmp_path, "run", **args))
    with pytest.raises(ValueError, match="was begun with seed 0, now it is 1. Continue with the same settings"):
        main(arguments(tmp_path, "run", **args, seed=1))
    same = arguments(tmp_path, "run", **args)
    data = tmp_path / "puzzles.jsonl"
    data.write_text(data.read_text().replace("Double 9 is 8", "Double 9 is 18"))
    with pytest.raises(ValueError, match="was begun with questions_sha256"):
        main(same)
    weights = model / "model.safetensors"
    os.utime(weights, (weights.stat().st_atime, weights.stat().st_mtime + 60))
    with pytest.raises(ValueError, match="was begun with weights_modified '20"):
        main(arguments(tmp_path, "run", **args))


def test_one_that_failed_before_its_first_batch_begins_anew_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="positions, but the model has"):
        main(arguments(tmp_path, "run", max_completion_length=100_000))
    main(arguments(tmp_path, "run"))
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["max_completion_length"] == 64


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_lora_adapter_is_evaluated_with_its_base_model(tmp_path: Path, use_dora: bool) -> None:
    tokenizer = byte_level_tokenizer(num_merges=40)
    base = save_model(tokenizer, tmp_path / "base")
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False, use_dora=use_dora
    )
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in adapted.named_parameters():
        if "magnitude" in name:  # they begin as the norms that anything made anew has too
            parameter.data *= 2
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    settings = {"num_samples": 1, "max_completion_length": 6}
    for name in ("base", "adapter"):
        main(arguments(tmp_path, f"of_{name}", model_name_or_path=tmp_path / name, **settings))
    found, of_base = (
        json.loads((tmp_path / f"of_{name}" / "results.json").read_text())["metrics"] for name in ("adapter", "base")
    )

    rows = [{"prompt": puzzle, "answer": answer, "rationale": why} for puzzle, answer, why in PUZZLES]
    metrics, _ = evaluate(adapted, tokenizer, Dataset.from_list(rows), batch_size=4, **settings)
    for name, metric in metrics.items():
        assert found[name] == pytest.approx(metric._asdict(), abs=1e-4)
    assert found["answer_logp_no_rationale"] != of_base["answer_logp_no_rationale"]


def test_a_comparison_gives_both_values_and_the_paired_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(tmp_path, "a"))
    main(arguments(tmp_path, "b", seed=1, num_samples=2, max_completion_length=16))
    capsys.readouterr()
    before = files(tmp_path / "a")
    compare_main([str(tmp_path / "a"), str(tmp_path / "b")])
    printed = capsys.readouterr().out
    assert files(tmp_path / "a") == before and len(files(tmp_path / "b")) == 3

    results = [json.loads((tmp_path / run / "results.json").read_text())["metrics"] for run in ("a", "b")]
    differences = compare(tmp_path / "a", tmp_path / "b")
    assert set(differences) == set(results[0]) & set(results[1])
    assert "maj@2" in differences and "maj@3" not in differences
    assert "sample_flexible_accuracy" in differences and "\nsample flexible accuracy (%) " in printed
    for name, (first, second, difference) in differences.items():
        assert (first, second) == (results[0][name]["value"], results[1][name]["value"])
        assert difference.value == pytest.approx(second - first)

    for name, column in (("sample_accuracy", "correct"), ("answer_logp_sample_rationale", "answer_logp")):
        means = []  # of the questions
        for run in ("a", "b"):
            lines = [json.loads(line) for line in (tmp_path / run / "generations-0.jsonl").read_text().splitlines()]
            samples = [line for line in lines if line["kind"] == "sample"]
            means.append(
                np.array([np.mean([line[column] for line in samples if line["question"] == q]) for q in range(5)])
            )
        assert tuple(differences[name].difference) == pytest.approx(tuple(mean_metric(means[1] - means[0])))
    expected = differences["sample_accuracy"].difference
    (line,) = (line for line in printed.splitlines() if line.startswith("sample accuracy (%)"))
    assert line.split()[-3:] == [
        f"{100 * expected.value:+.1f}",
        f"[{100 * expected.low:+.1f},",
        f"{100 * expected.high:+.1f}]",
    ]


def test_a_run_compared_with_itself_differs_in_nothing(tmp_path: Path) -> None:
    main(arguments(tmp_path, "a"))
    for _, _, difference in compare(tmp_path / "a", tmp_path / "a").values():
        assert difference == (0.0, 0.0, 0.0)


def test_only_finished_evaluations_of_the_same_questions_are_compared(tmp_path: Path) -> None:
    for output, changed in (
        ("a", {}),
        ("fewer", {"max_questions": 4}),
        ("others", {"prompt_template": "Well. {question}"}),
    ):
        main(arguments(tmp_path, output, num_samples=0, **changed))
    with pytest.raises(ValueError, match="has 5 questions, .* has 4: only evaluations of the same questions"):
        compare(tmp_path / "a", tmp_path / "fewer")
    with pytest.raises(ValueError, match="Question 0 differs: .*The dial shows 2.*Well. The dial shows 2"):
        compare(tmp_path / "a", tmp_path / "others")
    with pytest.raises(ValueError, match="is no folder of an evaluation: it has no settings.json"):
        compare(tmp_path / "a", tmp_path)
    (tmp_path / "others" / "results.json").unlink()
    with pytest.raises(ValueError, match="is not finished: it has no results.json"):
        compare(tmp_path / "a", tmp_path / "others")
    with pytest.raises(ValueError, match=r"Two folders of evaluations are compared \(.*\), got 1"):
        compare_main([str(tmp_path / "a")])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_name_or_path": "no/such/model"}, "--model_name_or_path 'no/such/model': no model and tokenizer"),
        ({"model_name_or_path": ROOT / "tests"}, "holds no model: it has neither config.json nor adapter_config.json"),
        ({"num_samples": -1}, "--num_samples is -1, but must be 0 or more"),
        ({"batch_size": 0}, "--batch_size is 0, but must be 1 or more"),
        ({"seed": -1}, "--seed is -1, but must be 0 or more"),
        ({"max_questions": 0}, "--max_questions is 0, but must be 1 or more"),
        ({"answer_template": "So"}, "`answer_template` is 'So' and has no `{answer}`"),
        ({"use_vllm": "true"}, "--use_vllm: vLLM is not installed"),
        ({"output_dir": ROOT / "tests"}, "is no folder of an evaluation .* and not empty"),
        ({"split": "dev"}, "no split 'dev'"),
    ],
)
def test_bad_input_gets_a_clear_sentence(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(arguments(tmp_path, "run", **changed))
    assert not (tmp_path / "run").exists()


def test_a_config_file_gives_arguments_and_missing_ones_are_named(tmp_path: Path) -> None:
    config = tmp_path / "evaluation.yaml"
    config.write_text(f"model_name_or_path: {BASE_MODEL}\ntask: {tmp_path / 'puzzles.jsonl'}\nnum_samples: 0\n")
    with pytest.raises(ValueError, match="--output_dir is missing"):
        main(["--config", str(config)])
    arguments(tmp_path, "run")  # writes the data
    main(["--config", str(config), "--output_dir", str(tmp_path / "run"), "--max_completion_length", "8"])
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["num_samples"] == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not beside this checkout (../shared/data)")
@pytest.mark.parametrize("task", ["gsm8k", "arc_challenge"])
def test_the_papers_tasks_are_evaluated(tmp_path: Path, task: str) -> None:
    model = save_model(
        byte_level_tokenizer(num_merges=60, chat=True), tmp_path / "model", max_position_embeddings=2048
    )
    args = {
        "model_name_or_path": model,
        "task": task,
        "dataset_path": DATA / task,
        "max_questions": 6,
        "num_samples": 2,
    }
    args |= {"max_completion_length": 8, "output_dir": tmp_path / "run"}
    main([text for name, value in args.items() for text in (f"--{name}", str(value))])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["questions"] == 6
    assert ("answer_logp_gold_rationale" in results["metrics"]) == (task == "gsm8k")
