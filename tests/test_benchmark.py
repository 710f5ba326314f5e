# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The benchmark's contenders compute the same training step: without that, their times would say nothing."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    TrainerCallback,
)
from trl.import_utils import is_vllm_available

from given import perturb


sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import report
import run
from colocate import SampledSteps
from contenders import CONTENDERS, released
from contenders.floor import Floor
from evaluation import EVALUATIONS, MeasuredEvaluation
from meter import Meter, ProcessMemory
from models import Case
from rollout import ROLLOUTS, Rollout, kept_tokens
from rows import Lengths, count_tokens, draw_groups
from shapes import SHAPES, Shape
from tokenizer import STOP, build_tokenizer, filler_ids, stop_ids


CPU = torch.device("cpu")
MICRO_BATCH = 4


def micro_case(folder: Path, config_class: type[PreTrainedConfig] = LlamaConfig, lora: bool = False) -> Case:
    shape = Shape(config_class, 512, 32, 64, 2, 4, 2, dtype=torch.float32, gradient_checkpointing=False)
    tokenizer = build_tokenizer(shape.vocab_size)
    groups = draw_groups(tokenizer, prompts=2, num_generations=4, lengths=Lengths(prompt_tokens=9))
    return Case(shape, tokenizer, groups, 500, MICRO_BATCH, beta=0.1, lora=lora, device=CPU, folder=folder)


class Gradients(TrainerCallback):
    """What a trainer is about to take a step with."""

    def __init__(self) -> None:
        self.seen: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        self.seen = gradients(model)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def first_gradient(name: str, case: Case, prepare: Callable[[Any], None] = lambda contender: None) -> dict:
    """The gradient of a contender's first step, with the policy moved away from the reference beforehand."""
    contender = CONTENDERS[name](case, Meter(CPU))
    move_policy(contender.model)
    prepare(contender)
    seen = Gradients()
    if isinstance(contender, Floor) or name == "released":
        contender.policy.optimizer.register_step_pre_hook(
            lambda optimizer, args, kwargs: seen.seen.update(gradients(contender.model))
        )
    else:
        contender.trainer.add_callback(seen)
    contender.run(1)
    return seen.seen


@torch.no_grad()
def move_policy(model: nn.Module) -> None:
    """Away from the reference, to the same point for all contenders: an adapter begins with random numbers."""
    if isinstance(model, PeftModel):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    perturb(model, seed=1)


def advantages_of(case: Case) -> torch.Tensor:
    """Those of the released formulation, in the order of the rows: the floor is given them."""
    contender = CONTENDERS["released"](case, Meter(CPU))
    move_policy(contender.model)
    rows = contender.rows
    with torch.no_grad():
        rewards = released.answer_logps(contender.model, rows, case)
        rewards -= case.beta * released.rationale_logps(contender.model, rows, case)
        with contender.policy.as_reference() as reference:
            rewards += case.beta * released.rationale_logps(reference, rows, case)
    return released.leave_one_out(rewards, case.num_generations)


@pytest.mark.parametrize(
    "config_class, lora",
    [(LlamaConfig, False), (LlamaConfig, True), (MistralConfig, False), (Phi3Config, False), (Qwen2Config, False)],
)
def test_all_contenders_have_the_same_gradient(
    tmp_path: Path, config_class: type[PreTrainedConfig], lora: bool
) -> None:
    case = micro_case(tmp_path, config_class, lora)
    advantages = advantages_of(case)
    assert advantages.abs().min() > 1e-3

    def give_advantages(contender: Any) -> None:
        if isinstance(contender, Floor):
            contender.advantages = advantages

    all_gradients = {name: first_gradient(name, case, give_advantages) for name in CONTENDERS}
    expected = all_gradients.pop("released")
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in all_gradients.items():
        assert gradient.keys() == expected.keys(), name
        for parameter in expected:
            torch.testing.assert_close(
                gradient[parameter],
                expected[parameter],
                rtol=1e-4,
                atol=1e-5 * float(largest),
                msg=lambda text, name=name, parameter=parameter: f"{name}, {parameter}: {text}",
            )


@pytest.mark.parametrize("name, count", [("floor_unshared", "row_tokens"), ("floor_shared", "shared_tokens")])
def test_the_floor_runs_over_the_tokens_it_is_said_to(tmp_path: Path, name: str, count: str) -> None:
    case = micro_case(tmp_path)
    contender = CONTENDERS[name](case, Meter(CPU))
    body, head = [], []
    for model in (contender.model, contender.policy.reference):
        model.get_input_embeddings().register_forward_hook(lambda module, args, out: body.append(args[0].numel()))
        model.get_output_embeddings().register_forward_hook(lambda module, args, out: head.append(len(args[0])))
    contender.run(1)
    counts = count_tokens(case.groups)
    assert counts["scored_tokens"] < counts["shared_tokens"] < counts["row_tokens"]
    assert sum(body) == 2 * counts[count]  # the reference, and the policy with its backward
    assert sum(head) == 2 * counts["scored_tokens"]


def test_rows_are_those_of_the_tokenizer_and_their_lengths_those_of_gsm8k(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(2048)
    assert len(tokenizer) == 2048
    groups = draw_groups(tokenizer, prompts=300, num_generations=4, lengths=Lengths())
    rationales = [rationale for group in groups for rationale in group.rationales]
    assert 50 < fmean(len(group.prompt_ids) for group in groups) < 60
    assert 71 < fmean(map(len, rationales)) < 79
    assert all(len(group.prompt_ids) == len(group.prompt) for group in groups)
    text = tokenizer.decode(rationales[0] + stop_ids(tokenizer))
    assert text.startswith("~") and text.endswith(STOP)
    assert groups[0].answer_ids[:3] == stop_ids(tokenizer) and groups[0].answer_ids[-1] == tokenizer.eos_token_id
    assert set(rationales[0]) <= set(filler_ids(tokenizer))


def test_what_is_varied_changes_nothing_else() -> None:
    tokenizer = build_tokenizer(2048)
    few = draw_groups(tokenizer, 2, 4, Lengths())
    many = draw_groups(tokenizer, 2, 16, Lengths())
    long = draw_groups(tokenizer, 2, 4, Lengths(stretch=4))
    assert [group.prompt_ids for group in few] == [group.prompt_ids for group in many]
    for index in range(2):
        assert many[index].rationales[:4] == few[index].rationales
        assert [len(z) for z in long[index].rationales] == [4 * len(z) for z in few[index].rationales]


def test_the_shapes_are_those_of_the_models() -> None:
    """Parameters in billions, as the models' cards have them."""
    sizes = {
        "llama-3.1-8b": 8.03,
        "mistral-7b": 7.25,
        "phi-3.5-mini": 3.82,
        "qwen2.5-0.5b": 0.494,
        "smollm2-135m": 0.1345,
    }
    for name, billions in sizes.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(SHAPES[name].config(0, 1))
        assert model.num_parameters() / 1e9 == pytest.approx(billions, rel=5e-3), name


def test_the_model_that_counts_down_writes_lengths_like_gsm8k_s(tmp_path: Path) -> None:
    case = micro_case(tmp_path)
    case = replace(case, longest_rationale=150)
    case = replace(case, shape=replace(case.shape, vocab_size=2048, layers=1))
    tokenizer = build_tokenizer(2048)
    groups = draw_groups(tokenizer, prompts=4, num_generations=16, lengths=Lengths())
    case = replace(case, tokenizer=tokenizer, groups=groups, micro_batch=16)
    lengths, counts = {}, {}
    for name, rollout_class in ROLLOUTS.items():
        meter = Meter(CPU)
        contender = rollout_class(case, meter)
        seen = record_completions(contender)
        contender.run(1)
        lengths[name] = [kept_tokens(ids, stop_ids(tokenizer)) for ids in seen]
        counts[name] = contender.counts[0]
        assert meter.steps[0]["seconds"]["rollout"] > 0
        assert all(ids[:n][-3:] == stop_ids(tokenizer) for ids, n in zip(seen, lengths[name], strict=True))
        assert 57 < fmean(lengths[name]) - 3 < 83  # 70 without those above 146, give or take three standard errors
        assert counts[name]["kept"] == sum(lengths[name])
    assert counts["released"]["decoded"] == 64 * 150
    assert counts["rloo"]["decoded"] == 64 * (max(lengths["rloo"]) + 1)  # every row until the last has its EOS token
    assert counts["ours"]["kept"] <= counts["ours"]["decoded"] <= 64 * max(lengths["ours"])


def record_completions(contender: Rollout) -> list[list[int]]:
    seen: list[list[int]] = []
    count = contender.count

    def counted(rule: Any, completions: list[list[int]]) -> None:
        seen.extend(completions)
        count(rule, completions)

    contender.count = counted
    return seen


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a run that takes seconds."""
    shape = Shape(LlamaConfig, 1024, 32, 64, 1, 4, 2, dtype=torch.float32, gradient_checkpointing=True)
    monkeypatch.setattr(run, "SHAPES", {"micro": shape})
    options = "--shape micro --device cpu --generations 4 --rounds 1 --steps 1 --output"
    return [*options.split(), str(tmp_path)]


def test_modes_fill_a_result(small: list[str]) -> None:
    results = {}
    modes = {"training": [], "rollout": ["--contenders", "rloo", "ours"], "profile": []}
    for mode, options in modes.items():
        path = run.main([*small, "--mode", mode, *options])
        chosen = "-contendersrloo+ours" if options else ""
        assert path.name == f"micro-{mode}-cpu{chosen}-generations4.json"
        results[mode] = json.loads(path.read_text())
    for name in CONTENDERS:
        contender = results["training"]["contenders"][name]
        assert len(contender["steps"]) == 1
        (step,) = contender["steps"]
        assert contender["median"]["total"] == step["seconds"]["scoring"] + step["seconds"]["training"]
        assert min(step["seconds"][phase] for phase in ("scoring", "training")) > 0
    written = results["training"]["versions"]["torch"]
    assert written.partition("+")[0] == torch.__version__.partition("+")[0]  # a wheel may not name its build
    assert results["rollout"]["contenders"]["ours"]["median"]["decoded_per_kept"] >= 1
    shares = [operation["share"] for operation in results["profile"]["operations"]]
    assert shares == sorted(shares, reverse=True) and 0.5 < sum(shares) <= 1


@pytest.mark.parametrize("option", ["--prompts", "--micro-batch", "--prompt-tokens", "--rounds", "--steps"])
def test_sizes_without_meaning_are_refused(option: str, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main([*small, "--mode", "training", option, "0"])
    assert f"{option} must be at least 1, not 0" in capsys.readouterr().err


def test_colocate_without_vllm_is_refused(small: list[str], capsys: pytest.CaptureFixture) -> None:
    if is_vllm_available():
        pytest.skip("vLLM is installed")
    with pytest.raises(SystemExit):
        run.main([*small, "--mode", "colocate"])
    assert "--mode colocate needs vLLM, which is not installed" in capsys.readouterr().err


def test_sampled_steps_have_the_longest_length(tmp_path: Path) -> None:
    case = replace(micro_case(tmp_path), longest_rationale=12)
    meter = Meter(CPU)
    sampled = SampledSteps("transformers", case, meter)
    sampled.run(2)
    assert len(sampled.decoded) == 2
    assert all(8 * 12 * 0.8 < tokens <= 8 * 12 for tokens in sampled.decoded)  # few rows reach the EOS token, of 512
    for step in meter.steps:
        assert min(step["seconds"][phase] for phase in ("rollout", "scoring", "training")) > 0


def test_both_ways_to_evaluate_make_completions_of_gsm8k_s_lengths(small: list[str]) -> None:
    path = run.main([*small, "--mode", "evaluation", "--prompts", "12", "--micro-batch", "16"])
    result = json.loads(path.read_text())
    assert result["same_greedy_completions"] == result["questions"] == 12
    (plain,), (ours,) = (result["contenders"][name]["steps"] for name in ("plain", "ours"))
    assert all(60 < way["kept"] / 60 < 100 for way in (plain, ours))
    assert ours["kept"] <= ours["decoded"] < 1.1 * ours["kept"] and plain["decoded"] > 1.5 * plain["kept"]
    assert min(way[phase] for way in (plain, ours) for phase in ("generation", "scoring", "training")) > 0


def test_the_plain_evaluation_scores_as_the_package_does(tmp_path: Path) -> None:
    case = micro_case(tmp_path)
    generations = [MeasuredEvaluation(name, case, Lengths(), Meter(CPU)).run() for name in EVALUATIONS]
    for one, other in zip(*(lines[:2] for lines in generations), strict=True):
        assert one.kind == "greedy" and one.completion == other.completion
        for name in ("answer_logp", "answer_logp_none", "answer_logp_gold"):
            assert one._asdict()[name] == pytest.approx(other._asdict()[name], abs=1e-4)


def test_a_contender_that_runs_out_of_memory_leaves_the_others_their_metrics(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(case: Case, meter: Meter) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setitem(CONTENDERS, "released", run_out)
    path = run.main([*small, "--mode", "training", "--contenders", "released", "floor_shared"])
    result = json.loads(path.read_text())
    assert result["out_of_memory"] == ["released"]
    assert list(result["contenders"]) == ["floor_shared"]


def test_runs_that_differ_in_what_they_measure_differ_in_name() -> None:
    parser = run.make_parser()
    usual = ["--shape", "tiny", "--mode", "training", "--device", "cpu"]
    options = ["", "--beta 0", "--lora", "--prompts 2", "--generations 8", "--micro-batch 4", "--contenders ours"]
    names = [run.name_of(parser.parse_args(usual + option.split()), parser) for option in options]
    assert len(set(names)) == len(options)
    assert names[0] == "tiny-training-cpu" and names[1] == "tiny-training-cpu-beta0.0" and names[2].endswith("-lora")
    same = parser.parse_args([*usual, "--rounds", "1", "--steps", "9", "--output", "elsewhere"])
    assert run.name_of(same, parser) == names[0]


def test_peak_memory_sees_a_tensor_that_lives_in_one_phase() -> None:
    if sys.platform != "linux":
        pytest.skip("peak memory on a CPU is read from Linux's /proc")
    meter = Meter(CPU, ProcessMemory())
    meter.start()
    with meter.phase("scoring"):
        torch.ones(50_000_000)  # 200 MB
    torch.ones(10_000_000)  # 40 MB
    meter.stop()
    (step,) = meter.steps
    assert 180e6 < step["peak"]["scoring"] - step["held"] < 230e6
    assert 30e6 < step["peak"]["training"] - step["held"] < 80e6


def written_result(folder: Path, mode: str, **metrics: Any) -> None:
    settings = {"dtype": "float32", "gradient_checkpointing": False, "body_to_head": 16.0, "prompts": 1}
    settings |= {"generations": 16, "micro_batch": 16, "prompt_tokens": None, "rationale_tokens": 75}
    settings |= {"beta": 0.05, "lora": False, "steps": 3, "questions": 100, "learning_rate": 2e-6}
    result = {"shape": "tiny", "mode": mode, "device": "cpu", "date": "2026-01-01", "settings": settings}
    result["machine"] = {"processor": "a processor", "threads": 2}
    result["versions"] = {"torch": "2", "transformers": "5", "trl": "1"}
    (folder / f"tiny-{mode}-cpu.json").write_text(json.dumps(result | metrics))


def with_seconds(**seconds: float) -> dict[str, Any]:
    """Contenders whose scoring takes a quarter of their seconds."""
    return {
        name: {
            "steps": [{}, {}],
            "median": {
                "scoring": total / 4,
                "training": 3 * total / 4,
                "total": total,
                "tokens_per_second": 1200 / total,
                "steps_per_hour": 3600 / total,
            },
        }
        for name, total in seconds.items()
    }


def test_the_report_has_the_ratios(tmp_path: Path) -> None:
    counts = {"samples": 16, "row_tokens": 1200, "shared_tokens": 900, "scored_tokens": 800}
    written_result(
        tmp_path,
        "training",
        counts=counts,
        contenders=with_seconds(rloo=9, ours=4, floor_shared=2),
        out_of_memory=["released"],
    )
    points = [
        {
            "num_generations": k,
            "stretch": stretch,
            "counts": {"samples": k, "shared_tokens": 100 + stretch * 50 * k},
            "contenders": with_seconds(**seconds),
        }
        for k, stretch, seconds in [
            (4, 1, {"ours": 2, "floor_shared": 1}),
            (16, 1, {"ours": 6, "floor_shared": 4}),
            (64, 1, {"ours": 30}),
            (16, 4, {"ours": 30, "floor_shared": 16}),
        ]
    ]
    written_result(tmp_path, "scaling", points=points)
    peaks = {"released": 10, "ours": 4}
    written_result(
        tmp_path,
        "memory",
        method="by hand",
        out_of_memory=["rloo"],
        counts=counts,
        contenders={
            name: {"median": {"peak_bytes": peak * report.GIB, "held_bytes": 2 * report.GIB}}
            for name, peak in peaks.items()
        },
        samples=[
            {
                "samples": 16,
                "micro_batch": 16,
                "held": 2 * report.GIB,
                "peak": {"scoring": 3 * report.GIB, "training": 4 * report.GIB},
            }
        ],
    )
    phases = {"rollout": 8, "scoring": 1, "training": 2, "decoded_per_second": 2048}
    engines = {
        "transformers": {"median": phases},
        "vllm": {"median": phases | {"rollout": 1, "sync": 0.5, "decoded_per_second": 16384}},
    }
    written_result(tmp_path, "colocate", samples=64, engines=engines, out_of_memory=[])
    change = {"before": 0.05, "after": 0.1, "change": {"value": 0.05, "low": -0.01, "high": 0.11}}
    log = [{"step": step, "step_time": seconds} for step, seconds in ((1, 9), (2, 3), (3, 4))]
    written_result(tmp_path, "gsm8k", differences={"greedy_accuracy": change}, log=log)
    written_result(
        tmp_path,
        "evaluation",
        questions=16,
        same_greedy_completions=15,
        contenders={
            name: {
                "steps": [{}, {}],
                "median": {
                    "seconds": seconds,
                    "processor_seconds": 2 * seconds,
                    "generation": seconds / 2,
                    "scoring": seconds / 4,
                    "decoded_per_kept": decoded,
                    "kept": kept,
                },
            }
            for name, seconds, decoded, kept in (("plain", 12, 2.5, 1200), ("ours", 4, 1.02, 1000))
        },
    )
    page = tmp_path / "speed.md"
    page.write_text(f"Above.\n{report.BEGIN}\nold\n{report.END}\nBelow.\n")
    report.main(tmp_path, tmp_path)
    text = page.read_text()
    assert text.startswith("Above.") and text.endswith("Below.\n") and "old" not in text
    lines = {
        "| (a) released formulation | out of memory | - | - | - | - | - |",
        "| (b) `RLOOTrainer` + reward + answer term | 2.25 | 6.75 | 9.00 | 133 | 4.50 | 2.25 |",
        "| (c) `LaTROTrainer` | 1.00 | 3.00 | 4.00 | 300 | 2.00 | 1.00 |",
        "| 64 | x1 | 30.00 | out of memory | 16 | 11.00 | 15.00 | - | - |",
        "| 16 | x4 | 30.00 | 16.00 | 1 | 3.67 | 5.00 | 4.00 | 1.25 |",
        "| (c) `LaTROTrainer` | 2.00 | 4.00 | 2.00 | 0.40 | 0.25 |",
        "| (b) `RLOOTrainer` + reward + answer term | out of memory | - | - | - | - |",
        "| 16 | 16 | 1.00 | 2.00 |",
        "| transformers | 8.00 | - | 3.00 | 2,048 |",
        "| vllm | 1.00 | 0.50 | 3.00 | 16,384 |",
        "| greedy accuracy | 0.050 | 0.100 | +0.050 | [-0.010, +0.110] |",
        "A step took 4.0 s (median), sampling included.",
        "| `trl-latro evaluate` | 2.0 | 1.0 | 4.0 | 8.0 | 1.02 | 2.50 | 2.50 |",
        "Evaluations measured: 2 of each, in turns. Speeds compare the time per token kept. 15 of 16 greedy completions are the "
        "same.",
        "Not run on a GPU.",
    }
    assert lines <= set(text.splitlines())
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_docs_speed_has_the_marks_that_the_report_writes_between() -> None:
    text = (Path(__file__).parents[1] / "docs" / "speed.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
