# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Mistakes that would show late, or as a traceback: one sentence from every command, before anything expensive."""

import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, T5Config

from cli_worker import Run, run_all
from tiny import byte_level_tokenizer, save_model
from trl_latro.cli import main as cli
from trl_latro.cli.task_arguments import CheckedGrader, find_grader, try_grader
from trl_latro.cli.train import make_parser
from trl_latro.durability.lock import locked
from trl_latro.evaluation.batches import Batch
from trl_latro.evaluation.comparison import compare
from trl_latro.evaluation.files import keep_complete_batches, open_folder, read_generations, read_settings
from trl_latro.loading import check_weights
from trl_latro.planning.zero import read_zero


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_model(byte_level_tokenizer(num_merges=60), tmp_path_factory.mktemp("model")))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The one sentence with which a command ends; another error than `SystemExit` is a traceback and fails the test."""
    write_questions(tmp_path / "mine.jsonl")

    def run(command: str, *arguments: object) -> str:
        tiny = ("--task", tmp_path / "mine.jsonl", "--output_dir", tmp_path / "run")
        if command != "evaluate":
            tiny += ("--validation_size", 2, "--num_generations", 2, "--per_device_train_batch_size", 2)
            tiny += ("--per_device_eval_batch_size", 2, "--gradient_accumulation_steps", 1, "--report_to", "none")
            tiny += ("--max_completion_length", 4, "--max_steps", 1)
        monkeypatch.setattr(sys, "argv", ["trl-latro", command, *map(str, [*tiny, *arguments])])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, str) and "\n" not in end.value.code
        assert end.value.code.startswith(f"trl-latro {command}: ")
        return end.value.code

    return run


def write_questions(path: Path, number: int = 6) -> None:
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- 20: the model ----


def cut(name: str) -> Callable[[Path], None]:
    def cut_file(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return cut_file


def replace(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return change


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "layers.1." not in name}, folder / "model.safetensors")


def without_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")


def without_a_shard(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def pickled_and_cut(folder: Path) -> None:
    torch.save(AutoModelForCausalLM.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    cut("pytorch_model.bin")(folder)


QUANTIZED = {"quant_method": "bitsandbytes", "load_in_4bit": True}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"  # a clone without Git LFS


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("model.safetensors"), "Not whole, or not what the name says: model.safetensors"),
        (replace("model.safetensors", ""), "Not whole, or not what the name says: model.safetensors"),
        (replace("model.safetensors", POINTER), "Not whole, or not what the name says: model.safetensors"),
        (pickled_and_cut, "Not whole, or not what the name says: pytorch_model.bin"),
        (remove("model.safetensors"), "no file named model.safetensors"),
        (without_a_shard, "model-00002-of-"),
        (without_a_layer, "its files lack weights of a causal language model: model.layers.1.input_layernorm.weight"),
        (without_head, "its files lack weights of a causal language model: lm_head.weight."),
        (
            change_config(hidden_size=32),
            "weights have other shapes in its files than config.json says: lm_head.weight",
        ),
        (change_config(hidden_size="wide"), "Field 'hidden_size' expected int, got str"),
        (
            change_config(model_type="no_such_type"),
            "has model type `no_such_type` but Transformers does not recognize",
        ),
        (change_config(quantization_config=QUANTIZED), "requires bitsandbytes"),
        (cut("config.json"), "config.json' is not a valid JSON file"),
        (replace("config.json", "[1]"), "Not whole, or not what the name says: config.json"),
        (remove("config.json"), "holds no model: it has neither config.json nor adapter_config.json"),
        (cut("tokenizer.json"), "the tokenizer cannot be loaded: .* the name says: tokenizer.json"),
        (remove("tokenizer.json"), "the tokenizer cannot be loaded: Couldn't instantiate the backend tokenizer"),
        (lambda folder: T5Config(num_layers=1).save_pretrained(folder), "the model cannot be loaded: Unrecognized"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_said_before_anything_is_written(
    model: Path, tmp_path: Path, say: Callable[..., str], command: str, damage: Callable[[Path], Any], message: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    damage(broken)
    said = say(command, "--model_name_or_path", broken)
    assert re.search(message, said), said
    assert f"'{broken}'" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "plan"])
def test_a_model_that_is_not_there_is_said(tmp_path: Path, say: Callable[..., str], command: str, model: Path) -> None:
    for name, message in (
        (tmp_path / "nowhere", "no such folder is seen from"),
        ("a/b/c", "no such folder is seen from"),
        (model / "config.json", "is a file: give the folder"),
        (tmp_path, "holds no model: it has neither config.json nor adapter_config.json"),
        ("nobody/nothing", "(HF_HUB_OFFLINE is set), and its cache has no whole copy of"),
    ):
        assert message in say(command, "--model_name_or_path", name)


def test_an_adapter_says_which_of_its_two_models_is_missing(
    model: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    adapter = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(r=2)).save_pretrained(adapter)
    byte_level_tokenizer(num_merges=60).save_pretrained(adapter)
    check_weights(str(adapter))
    assert "is an adapter, but training starts from a whole model" in say("train", "--model_name_or_path", adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "no/base"}))
    said = say("evaluate", "--model_name_or_path", adapter)
    assert "'no/base'" in said and f"the base model of the adapter '{adapter}'" in said


def test_an_adapter_that_cannot_be_evaluated_is_said(model: Path, tmp_path: Path, say: Callable[..., str]) -> None:
    def save(name: str, config: PeftConfig) -> Path:
        get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(tmp_path / name)
        byte_level_tokenizer(num_merges=60).save_pretrained(tmp_path / name)
        return tmp_path / name

    prompt = save("prompt", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert "of the kind PROMPT_TUNING, which puts vectors" in say("evaluate", "--model_name_or_path", prompt)
    adapter = save("dora", LoraConfig(r=2, use_dora=True))
    weights = load_file(adapter / "adapter_model.safetensors")
    magnitude = next(name for name in weights if "lora_magnitude_vector" in name)
    del weights[magnitude]
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    said = say("evaluate", "--model_name_or_path", adapter)
    assert f"the adapter's file lacks weights: {magnitude}" in said and "would be random numbers" in said


def test_a_missing_package_is_said_before_the_model_is_loaded(model: Path, say: Callable[..., str]) -> None:
    for option, message in (
        (("--load_in_4bit", "--use_peft"), "--load_in_4bit needs bitsandbytes, which is not installed"),
        (("--load_in_8bit", "--use_peft"), "--load_in_8bit needs bitsandbytes, which is not installed"),
        (("--optim", "adamw_8bit"), "--optim adamw_8bit needs bitsandbytes"),
        (("--optim", "paged_adamw_32bit"), "--optim paged_adamw_32bit needs bitsandbytes"),
        (("--use_vllm",), "vLLM is not installed"),
        (("--attn_implementation", "flash_attention_2"), "FlashAttention2 has been toggled on, but"),
    ):
        assert message in say("train", "--model_name_or_path", model, *option)


def test_checkpoints_are_kept_where_the_new_training_cannot_start(
    model: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    state = tmp_path / "run" / "checkpoint-1" / "trainer_state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    for arguments in (
        ("--model_name_or_path", tmp_path / "nowhere"),
        ("--model_name_or_path", model, "--task", tmp_path / "no.jsonl"),
        ("--model_name_or_path", model, "--answer_column", "reply"),
        ("--model_name_or_path", model, "--validation_size", 100),
    ):
        say("train", "--overwrite_output_dir", *arguments)
        assert state.is_file()


def test_checkpoints_of_a_training_under_way_are_kept(model: Path, tmp_path: Path, say: Callable[..., str]) -> None:
    state = tmp_path / "run" / "checkpoint-1" / "trainer_state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    with ThreadPoolExecutor(1) as other, locked(tmp_path / "run"):
        said = other.submit(say, "train", "--model_name_or_path", model, "--overwrite_output_dir").result()
    assert "is in use by another training" in said
    assert state.is_file()


def test_a_hub_that_is_not_reached_is_said_at_once_and_its_cache_is_used(model: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens there once it is closed
    cache = tmp_path / "hub" / "models--me--tiny"
    shutil.copytree(model, cache / "snapshots" / "0123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123")
    write_questions(tmp_path / "mine.jsonl")
    data, output = ("--task", str(tmp_path / "mine.jsonl")), ("--output_dir", str(tmp_path / "run"))
    hub = ("--model_name_or_path", "nobody/nothing")
    quick = ("--max_questions", "1", "--num_samples", "0", "--max_completion_length", "2")
    runs = {
        "train": Run(["train", *hub, *data, *output]),
        "evaluate": Run(["evaluate", *hub, *data, *output]),
        "plan": Run(["plan", *hub]),
        "dataset": Run(["train", "--model_name_or_path", str(model), "--task", "nobody/data", *output]),
        "named": Run(["evaluate", "--model_name_or_path", str(model), "--task", "gsm8k", *output]),
        "cached": Run(["evaluate", "--model_name_or_path", "me/tiny", *data, *output, *quick]),
    }
    env = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
    }
    start = time.perf_counter()
    outcomes = run_all(runs, tmp_path, env)
    assert time.perf_counter() - start < 120, "huggingface_hub's retries take 23 seconds for each file"
    for name, outcome in outcomes.items():
        assert "Retrying" not in outcome.output and "Traceback" not in outcome.output, outcome.output
        if name == "cached":
            assert outcome.status == 0 and "Written to" in outcome.output
            continue
        last = outcome.output.strip().splitlines()[-1]
        assert outcome.status == 1
        assert (
            f"the Hugging Face Hub (http://127.0.0.1:{port}) is not reached ([Errno 111] Connection refused)" in last
        )
    assert "The dataset openai/gsm8k (main) is not in the cache" in outcomes["named"].output


# ---- 20: the file of settings ----


@pytest.mark.parametrize("command", ["train", "evaluate", "plan"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nanswer_template: [\n", "is not YAML: line 3, column 1"),
        ("seed: 1\n\tnum_shots: 2\n", "is not YAML: line 2, column 1: found character '\\t'"),
        ("seed: {{x}}: 3", "is not YAML: line 1"),
        ("- seed\n", "should hold lines like `max_steps: 100`, but holds list ['seed']"),
        ("", "should hold lines like `max_steps: 100`, but holds NoneType None"),
        ("seed: 1\nnum_shots: 2\nseed: 3\n", "names 'seed' twice"),
        ("seed: 1.5\n", "seed is 1.5: invalid int value: '1.5'"),
        ("seed: [1]\n", "seed is [1]: invalid int value"),
        ("num_shots: many\n", "num_shots is 'many': invalid int value"),
        ("trust_remote_code: 7\n", "trust_remote_code is 7: "),
        ("dtype: float8\n", "dtype is 'float8', but must be one of ['auto'"),
        ("sead: 1\n", "There is no option '--sead': did you mean --seed?"),
        (b"seed: \xff\n", "is not a text in UTF-8"),
        (None, "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_a_settings_file_is_held_to_what_the_command_line_is_held_to(
    model: Path, tmp_path: Path, say: Callable[..., str], command: str, text: str | bytes | None, message: str
) -> None:
    path = tmp_path / "settings.yaml"
    if text == "folder":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = say(command, "--model_name_or_path", model, "--config", path)
    assert message in said
    assert "There is no option" in message or f"--config {path}" in said


def test_an_option_that_there_is_not_is_named_with_one_that_there_is(model: Path, say: Callable[..., str]) -> None:
    for typed, message in (
        (("--learning-rates", 1), "There is no option '--learning-rates': did you mean --learning_rate?"),
        (("--num_epochs=3",), "There is no option '--num_epochs': did you mean --num_"),
        (("--temprature", 1), "There is no option '--temprature': did you mean --temperature?"),
        (("--xyz",), "There is no option '--xyz': see --help."),
        (("data.jsonl",), "There is no option 'data.jsonl': see --help."),
    ):
        assert message in say("train", "--model_name_or_path", model, *typed)


def test_a_settings_file_may_say_no_and_hold_what_only_a_file_can(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "learning_rate: 5e-7\nsave_strategy: 'no'\nreport_to: [none]\nrationale_stop_strings: [So, Thus]\nbeta: 0\n"
        "lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 1}\nreward_clip_range: [-5.0, 5.0]\nbf16: false\nmin_p: null\n"
    )
    _, args, _ = make_parser().parse_args_and_config([f"--config={path}"])
    assert (args.learning_rate, args.rationale_stop_strings, args.beta) == (5e-7, ["So", "Thus"], 0)
    for arguments in (["--config"], ["--config", "--seed", "3"]):
        with pytest.raises(ValueError, match="--config needs a file"):
            make_parser().parse_args_and_config(arguments)


# ---- 21, 29: the grader ----

GRADERS = """
import functools
from builtins import eval as hidden

class Both:
    def __call__(self, extracted, row): return True

def right(extracted, row): return extracted == row["answer"]
def more(extracted, row, tolerance=0.1): return True
def any_number(*arguments, **options): return True
def one(extracted): return True
def three(extracted, row, tolerance): return True
def by_name(extracted, *, row): return True
def nothing(extracted, row): extracted == row["answer"]
def text(extracted, row): return "yes"
def score(extracted, row): return 0.5
def found(extracted, row): return [extracted]
def number(extracted, row): return 1
def two(extracted, row): return 2
def fails(extracted, row): return row["reference"] == extracted
async def later(extracted, row): return True
both, part, alias = Both(), functools.partial(three, tolerance=1), functools.partial(hidden)
cached = functools.lru_cache(hidden)
method = "yes".startswith
constant = 5
"""


@pytest.fixture
def graders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "graders_of_mine.py").write_text(GRADERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "graders_of_mine", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["right", "more", "any_number", "both", "part", "number"])
def test_a_grader_takes_an_answer_and_its_row(graders: Path, name: str) -> None:
    grader = find_grader(f"graders_of_mine.{name}")
    assert grader("5", {"answer": "5"}) is True
    try_grader(grader, {"answer": "5"})


@pytest.mark.parametrize("name", ["one", "three", "by_name", "constant"])
def test_a_grader_that_takes_something_else_is_refused_when_it_is_named(graders: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"grader is 'graders_of_mine.{name}', (whose arguments are|but that is 5)"):
        find_grader(f"graders_of_mine.{name}")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("name", ["nothing", "text", "score", "found", "two", "later"])
def test_a_grader_returns_true_or_false_whenever_it_is_called(graders: Path, name: str) -> None:
    grader = find_grader(f"graders_of_mine.{name}")
    for call in (grader, lambda answer, row: try_grader(grader, row)):
        with pytest.raises(ValueError, match=rf"'graders_of_mine.{name}' returned .* should return True or False"):
            call("5", {"answer": "5"})


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_grader_is_tried_before_anything_is_generated(
    graders: Path, model: Path, say: Callable[..., str], command: str
) -> None:
    said = say(command, "--model_name_or_path", model, "--grader", "graders_of_mine.nothing")
    assert "The grader 'graders_of_mine.nothing' returned None for the answer" in said
    said = say(command, "--model_name_or_path", model, "--grader", "graders_of_mine.fails")
    assert "KeyError: 'reference'" in said and "graders_of_mine.py, line 20)" in said
    said = say(command, "--model_name_or_path", model, "--grader", "graders_of_mine.one")
    assert "whose arguments are (extracted), but it should take an answer and its row" in said
    assert not (graders / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("builtins.eval", "builtins.exec", "os.system", "subprocess.call", "operator.eq", "xml.dom.minidom.parse"),
        *(f"graders_of_mine.{name}" for name in ("hidden", "alias", "cached", "method")),
    ],
)
def test_nothing_of_pythons_own_grades_what_a_model_wrote(graders: Path, name: str) -> None:
    with pytest.raises(ValueError, match="belongs to Python itself"):
        find_grader(name)


def test_no_file_of_the_working_folder_stands_for_an_installed_module(
    tmp_path: Path, graders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yaml").mkdir()
    for name in ("yaml/__init__.py", "json.py", "tabulate_of_mine.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the working folder')")
    find_grader("graders_of_mine.right")
    find_grader("graders_of_mine.right")
    assert sys.path.count(str(tmp_path)) == 1 and sys.path[-1] == str(tmp_path)
    monkeypatch.delitem(sys.modules, "yaml")
    import yaml

    assert not yaml.__file__.startswith(str(tmp_path))
    # `python -m trl_latro` puts the working folder in front by itself
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path[:-1]])
    monkeypatch.setattr(sys, "argv", ["trl-latro"])
    cli.main()
    assert sys.path[0] != str(tmp_path) and sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./graders_of_mine.right", "should be 'module.function'"),
        ("graders_of_mine.", "should be 'module.function'"),
        (".graders_of_mine.right", "should be 'module.function'"),
        ("graders_of_mine.py", "has no 'py'"),
        ("broken_grader.right", "cannot be imported: SyntaxError: .*broken_grader.py, line 1"),
        ("failing_grader.right", "cannot be imported: ZeroDivisionError: .*failing_grader.py, line 1"),
    ],
)
def test_a_grader_that_cannot_be_found_is_named(graders: Path, name: str, message: str) -> None:
    (graders / "broken_grader.py").write_text("def right(:\n")
    (graders / "failing_grader.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=message):
        find_grader(name)


def test_the_graders_of_the_tasks_are_not_tried() -> None:
    assert not isinstance(find_grader(None), CheckedGrader)
    try_grader(find_grader(None), {})  # nothing is called


# ---- 22: what only the evaluation reads ----


def test_what_only_the_evaluation_reads_is_checked_before_training(model: Path, say: Callable[..., str]) -> None:
    for arguments, message in (
        (("--per_device_eval_batch_size", 0), "`per_device_eval_batch_size` is 0"),
        (("--per_device_eval_batch_size", -2), "`per_device_eval_batch_size` is -2"),
        (("--num_generations_eval", -1), "`num_generations_eval` is -1"),
        (("--num_generations_eval", 0), "`num_generations_eval` is 0"),
        (("--num_generations_eval", 3), "which 3 samples per prompt do not divide"),
        (("--metric_for_best_model", "acuracy"), "`metric_for_best_model` is 'acuracy', but evaluation logs"),
        (("--metric_for_best_model", "eval_maj@4"), "`metric_for_best_model` is 'eval_maj@4', but"),
        (("--metric_for_best_model", "kl", "--beta", 0), "`metric_for_best_model` is 'kl', but"),
        (("--validation_size", 0, "--eval_strategy", "steps"), "--eval_strategy is steps, but --validation_size 0"),
        (("--learning_rate", -1), "`learning_rate` is -1.0, but must be a number and not negative"),
        (("--chat_template_kwargs", "thinking"), "`chat_template_kwargs` is 'thinking', but must be a JSON object"),
        (("--generation_kwargs", '{"top_k": '), "`generation_kwargs` is '{\"top_k\": ', but must be a JSON object"),
        (("--validation_size", 0, "--eval_on_start"), "--eval_on_start is True, but --validation_size 0"),
    ):
        assert message in say("train", "--model_name_or_path", model, *arguments)
        assert message in say("plan", "--model_name_or_path", model, *arguments)


# ---- 26: files of an evaluation and of DeepSpeed ----

GENERATION = {
    **{"batch": 0, "question": 0, "kind": "greedy", "sample": 0, "prompt": "1?", "answer": "1", "completion": "1"},
    **{"extracted": "1", "correct": True, "vote": "1", "finished": True, "rationale_tokens": 1, "tokens_to_end": 2},
    **{"answer_logp": -1.0, "answer_tokens": 2},
}
CONTENTS = ["", "{", "[1]", "null", "\x00\x00", '{"seed": 1}}', b"\xff\xfe{"]


@pytest.mark.parametrize("content", CONTENTS)
def test_corrupt_settings_of_an_evaluation_are_named_and_nothing_is_lost(tmp_path: Path, content: Any) -> None:
    path, kept = tmp_path / "settings.json", tmp_path / "generations-0.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    kept.write_text(json.dumps(GENERATION) + "\n")
    (tmp_path / "results.json").write_text("{}")
    for read in (read_settings, lambda folder: open_folder(folder, {"seed": 1})):
        with pytest.raises(ValueError, match=rf"{path} (is not JSON|should hold an object in braces)"):
            read(tmp_path)
    assert kept.read_text() == json.dumps(GENERATION) + "\n"


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[1]", "null", "5", "", "\x00", b"\xff"),
        json.dumps({**GENERATION, "colour": "red"}),
        json.dumps({"batch": 0}),
        json.dumps({**GENERATION, "batch": "zero"}),
    ],
)
def test_a_corrupt_line_of_generations_is_named_and_nothing_is_lost(tmp_path: Path, line: Any) -> None:
    path = tmp_path / "generations-0.jsonl"
    good = json.dumps(GENERATION).encode() + b"\n"
    content = good + (line if isinstance(line, bytes) else line.encode()) + b"\n" + good
    path.write_bytes(content)
    for read in (read_generations, lambda folder: keep_complete_batches(folder, [Batch(0, "greedy", [0], [0])])):
        with pytest.raises(ValueError, match=rf"{path}, line 2 is no generation of an evaluation \("):
            read(tmp_path)
    assert path.read_bytes() == content


def test_generations_of_another_evaluation_are_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "generations-0.jsonl"
    path.write_text(json.dumps({**GENERATION, "batch": 7}) + "\n")
    with pytest.raises(ValueError, match=rf"{path}, line 1 is of batch 7, which this evaluation does not have"):
        keep_complete_batches(tmp_path, [Batch(0, "greedy", [0], [0])])
    assert path.read_text()


def test_an_empty_file_of_generations_holds_none(tmp_path: Path) -> None:
    (tmp_path / "generations-0.jsonl").write_text("")
    assert read_generations(tmp_path) == []
    keep_complete_batches(tmp_path, [Batch(0, "greedy", [0], [0])])


def test_a_comparison_names_the_corrupt_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text('{"max_completion_length": 4}')
        (tmp_path / name / "results.json").write_text("{}")
        (tmp_path / name / "generations-0.jsonl").write_text(json.dumps(GENERATION) + "\n")
    (tmp_path / "b" / "generations-0.jsonl").write_text(json.dumps(GENERATION)[:-9])
    with pytest.raises(ValueError, match=rf"{tmp_path / 'b' / 'generations-0.jsonl'}, line 1 is no generation"):
        compare(tmp_path / "a", tmp_path / "b")


def test_a_split_without_questions_is_said(model: Path, say: Callable[..., str]) -> None:
    said = say("evaluate", "--model_name_or_path", model, "--split", "validation", "--validation_size", 0)
    assert "--split validation has no questions with --validation_size 0" in said


def test_a_folder_that_cannot_be_written_to_is_said_before_the_model_is_loaded(
    model: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken" / "run", "/proc/run"):
        said = say("evaluate", "--model_name_or_path", model, "--output_dir", folder)
        assert f"output_dir '{folder}' cannot be written to" in said


@pytest.mark.parametrize("content", CONTENTS[:5])
def test_deepspeeds_file_holds_one_object(
    model: Path, tmp_path: Path, say: Callable[..., str], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(content)
    monkeypatch.setenv("LOCAL_RANK", "0")
    for command in ("plan", "train"):
        said = say(command, "--model_name_or_path", model, "--deepspeed", path)
        assert (
            f"--deepspeed {path} is not JSON" in said or f"--deepspeed {path} should hold an object in braces" in said
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_optimization": [3]}, r"zero_optimization \[3\], but it should be an object"),
        ({"zero_optimization": "stage 3"}, "zero_optimization 'stage 3', but it should be an object"),
        ({"zero_optimization": True}, "zero_optimization True, but it should be an object"),
        ({"zero_optimization": {"stage": "3"}}, "ZeRO stage '3'"),
        ({"zero_optimization": {"stage": True}}, "ZeRO stage True"),
        ({"zero_optimization": {"stage": [3]}}, r"ZeRO stage \[3\]"),
        ({"zero_optimization": None}, "ZeRO stage 0"),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": True}}, "offload_optimizer True, but"),
        ({"zero_optimization": {"stage": 3, "offload_param": ["cpu"]}}, r"offload_param \['cpu'\], but"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": ["cpu"]}}}, r"to the device \['cpu'\]"),
    ],
)
def test_a_section_of_deepspeeds_file_that_is_none_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_zero(settings)
