# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Two ranks train as one process does, on every backend."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend_worker import FEATURES
from backends import (
    BACKENDS,
    FAILING,
    FAILS_IN_TRL,
    Difference,
    compare,
    features_of,
    skip_without_deepspeed,
    start,
    train_alone,
)
from tiny import byte_level_tokenizer, save_model


TOLERANCE = 1e-4
QUICK = ["accumulation, jepo", "one rank masked", "generation"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(byte_level_tokenizer(num_merges=60), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def differences(model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Of two ranks from one process, whose runs are made once."""
    alone = tmp_path_factory.mktemp("alone")

    def of(backend: str, features: list[str]) -> dict[str, Difference]:
        for feature in features:
            if not (alone / feature).exists():
                train_alone(feature, model, alone)
        return compare(backend, features, model, alone, tmp_path_factory.mktemp("two"))

    return of


def skip_unless_it_runs(backend: str) -> None:
    if BACKENDS[backend].deepspeed:
        skip_without_deepspeed()


def test_two_zero3_ranks_train_as_one_process_does(differences: Callable) -> None:
    skip_unless_it_runs("ZeRO-3")
    for feature, difference in differences("ZeRO-3", QUICK).items():
        assert max(difference) <= TOLERANCE, f"{feature}: {difference}"


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_ranks_train_as_one_process_does(differences: Callable, backend: str) -> None:
    skip_unless_it_runs(backend)
    for feature, difference in differences(backend, features_of(backend)).items():
        assert max(difference) <= TOLERANCE, f"{feature}: {difference}"


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name, backend in BACKENDS.items() if backend.zero_stage == 3])
def test_generation_with_sharded_parameters_fails_in_trl_too(model: str, backend: str, tmp_path: Path) -> None:
    skip_unless_it_runs(backend)
    deepspeed = BACKENDS[backend].deepspeed
    status, output = start(backend, "backend_worker.py", model, str(tmp_path / "latro"), deepspeed, FAILING)
    assert status != 0 and FAILS_IN_TRL in output
    status, output = start(backend, "parent_worker.py", model, str(tmp_path / "rloo"), deepspeed, "sharded", "full")
    assert status != 0 and FAILS_IN_TRL in output


@pytest.mark.slow
def test_trl_too_logs_the_learning_rate_to_come_with_deepspeeds_optimizer(model: str, tmp_path: Path) -> None:
    (offload,) = [name for name, backend in BACKENDS.items() if backend.own_optimizer]
    skip_unless_it_runs(offload)
    logged = {}
    for backend in ("ZeRO-3", offload):
        arguments = (model, str(tmp_path), BACKENDS[backend].deepspeed, "gathered", "full")
        status, output = start(backend, "parent_worker.py", *arguments)
        assert status == 0, output
        (line,) = [line for line in output.splitlines() if line.startswith("Learning rates: ")]
        logged[backend] = json.loads(line.removeprefix("Learning rates: "))
    assert logged == {"ZeRO-3": [0.01, 0.005], offload: [0.005, 0.0]}


@pytest.mark.slow
def test_accelerate_runs_ddp_in_place_of_fsdp_on_cpu_for_trl_too(model: str, tmp_path: Path) -> None:
    """Why `backend_worker.py` tells accelerate that it has GPUs."""
    status, output = start("FSDP2", "parent_worker.py", model, str(tmp_path), "", "gathered", "full")
    assert status == 0, output
    assert "Wrapper: DistributedDataParallel" in output


def test_every_feature_runs_somewhere() -> None:
    run = {feature for backend in BACKENDS for feature in features_of(backend)}
    assert run == FEATURES.keys() - {FAILING}
