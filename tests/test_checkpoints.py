# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Checkpoints that were cut short or lack something, and folders that cannot be written to."""

import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

import tiny
from disks import fill, mounted
from given import cpu_config, lora_config, snapshot
from trl_latro import LaTROTrainer
from trl_latro.cli.train import main
from trl_latro.durability.checkpoints import (
    STATE_FILE,
    OutputDirError,
    check_writable,
    is_whole,
    resolve_checkpoint,
    say_failed_write,
)
from trl_latro.durability.manifest import write_manifest


TOKENIZER = tiny.byte_level_tokenizer(num_merges=60)


def make_trainer(
    output_dir: Path, max_steps: int = 3, peft_config: LoraConfig | None = None, tied: bool = False
) -> LaTROTrainer:
    args = cpu_config(
        str(output_dir),
        beta=0.0,
        max_completion_length=8,
        per_device_train_batch_size=4,
        max_steps=max_steps,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
    )
    model, dataset = tiny.tiny_model(TOKENIZER, tie_word_embeddings=tied), tiny.tiny_dataset(8)
    return LaTROTrainer(model, args, dataset, processing_class=TOKENIZER, peft_config=peft_config)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def losses(trainer: LaTROTrainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def test_the_trainer_passes_over_a_checkpoint_cut_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    cut_short = tmp_path / "checkpoint-3"
    state = cut_short / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:100])
    (tmp_path / "checkpoint-best").mkdir()  # a folder of the user's, not a checkpoint of the trainer

    resumed = make_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert f"{cut_short} is damaged: {STATE_FILE} has 100 bytes, and " in caplog.text
    assert losses(resumed) == losses(trainer)
    for name, tensor in snapshot(trainer.model).items():
        torch.testing.assert_close(snapshot(resumed.model)[name], tensor, rtol=0, atol=0)
    assert is_whole(cut_short)


@pytest.mark.parametrize(
    ("tied", "lost", "missing"),
    [
        (True, [], None),
        (False, [], None),
        (False, ["lm_head.weight"], ["lm_head.weight"]),
        (True, ["model.norm.weight"], ["model.norm.weight"]),
        (True, ["model.embed_tokens.weight"], ["model.embed_tokens.weight", "lm_head.weight"]),
    ],
    ids=str,
)
def test_weights_that_a_checkpoint_lacks_are_named_but_not_tied_ones(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tied: bool,
    lost: list[str],
    missing: list[str] | None,
) -> None:
    make_trainer(tmp_path, max_steps=1, tied=tied).train()
    weights = tmp_path / "checkpoint-1" / "model.safetensors"
    saved = load_file(weights)
    assert ("lm_head.weight" in saved) != tied
    save_file({name: tensor for name, tensor in saved.items() if name not in lost}, weights, {"format": "pt"})
    write_manifest(weights.parent)

    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="transformers")  # another test may have made it quiet
    make_trainer(tmp_path, max_steps=2, tied=tied).train(resume_from_checkpoint=True)
    said = {record.getMessage() for record in caplog.records if "missing keys" in record.getMessage()}
    expected = f"There were missing keys in the checkpoint model loaded: {missing}."
    assert said == ({expected} if missing else set())


def test_a_training_that_is_done_makes_no_step_more(tmp_path: Path) -> None:
    done, resumed = make_trainer(tmp_path, max_steps=1), make_trainer(tmp_path, max_steps=1)
    done.train()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 1
    for name, tensor in snapshot(done.model).items():
        torch.testing.assert_close(snapshot(resumed.model)[name], tensor, rtol=0, atol=0)


def test_without_a_whole_checkpoint_the_trainer_says_so(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(ValueError, match=f"{str(tmp_path)!r} holds no checkpoint"):
        trainer.train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(
        ValueError,
        match="holds no whole checkpoint: checkpoint-1 was cut short .*trainer_state.json. Leave it out to start",
    ):
        trainer.train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="checkpoint-1' is not a complete checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    make_trainer(tmp_path).train()  # leaves the checkpoints 2 and 3
    stopped = make_trainer(tmp_path, max_steps=4)
    message = (
        rf"{tmp_path}/checkpoint-4 could not be written to its end, with \d+ MiB free on its disk: .*\. The earlier "
        rf"checkpoints are whole: .*, continue from the last with resume_from_checkpoint='{tmp_path}/checkpoint-3'\.$"
    )
    with files_of_at_most(100_000), pytest.raises(OutputDirError, match=message):  # optimizer.pt is longer
        stopped.train(resume_from_checkpoint=True)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (2, 3, 4)]

    whole, resumed = make_trainer(tmp_path / "whole", max_steps=4), make_trainer(tmp_path, max_steps=4)
    whole.train()
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(whole)
    for name, tensor in snapshot(whole.model).items():
        torch.testing.assert_close(snapshot(resumed.model)[name], tensor, rtol=0, atol=0)


def test_a_checkpoint_that_is_written_over_does_not_pass_for_whole(tmp_path: Path) -> None:
    make_trainer(tmp_path).train()
    again = make_trainer(tmp_path)
    with (
        files_of_at_most(100_000),
        pytest.raises(OutputDirError, match=r"checkpoint-3 could not be .*checkpoint-2'\.$"),
    ):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert not is_whole(tmp_path / "checkpoint-3")
    assert resolve_checkpoint(tmp_path, True) == str(tmp_path / "checkpoint-2")


def test_an_unwritable_folder_is_refused_before_the_model_loads(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output_dir = tmp_path / "file" / "run"
    model = str(tmp_path / "model")
    TOKENIZER.save_pretrained(model)  # no weights: whatever needs them comes too late
    message = f"output_dir {str(output_dir)!r} cannot be written to: Not a directory. Choose another output_dir"
    with pytest.raises(OutputDirError, match=message):
        LaTROTrainer(model, cpu_config(str(output_dir)), tiny.tiny_dataset(8))
    (tmp_path / "train.jsonl").write_text('{"question": "1?", "answer": "1"}\n' * 4)
    arguments = ["--task", str(tmp_path / "train.jsonl"), "--model_name_or_path", model, "--report_to", "none"]
    with pytest.raises(OutputDirError, match=message):
        main([*arguments, "--output_dir", str(output_dir), "--validation_size", "0"])


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        for output_dir in (disk, disk / "run"):
            with pytest.raises(OutputDirError, match="cannot be written to: Read-only file system"):
                check_writable(output_dir)


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        check_writable(disk)
        fill(disk)
        for output_dir in (disk, disk / "run"):
            with pytest.raises(OutputDirError, match="cannot be written to: No space left on device"):
                check_writable(output_dir)


def test_a_tokenizer_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tokenizers raises a bare `Exception`."""
    make_trainer(tmp_path / "run").train()
    trainer = make_trainer(tmp_path / "run")
    monkeypatch.setattr(trainer.model, "save_pretrained", lambda *args, **kwargs: None)  # longer than the tokenizer
    with files_of_at_most(5000):
        with pytest.raises(Exception) as bare:
            TOKENIZER.save_pretrained(tmp_path)
        assert type(bare.value) is Exception
        for folder in (tmp_path / "run", tmp_path / "elsewhere"):
            message = rf"^{folder} could not be written to its end, .*: File too large .*checkpoint-3'\.$"
            with pytest.raises(OutputDirError, match=message):
                trainer.save_model(str(folder))


def test_a_model_that_cannot_be_written_in_any_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"file/model could not be written .*Not a directory.* There is no earlier checkpoint"
    with pytest.raises(OutputDirError, match=message):
        make_trainer(tmp_path / "run").save_model(str(tmp_path / "file" / "model"))


def test_what_is_not_the_disks_fault_is_not_blamed_on_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    with pytest.raises(torch.OutOfMemoryError), say_failed_write(checkpoint):
        raise torch.OutOfMemoryError
    checkpoint.mkdir()
    (checkpoint / STATE_FILE).write_text("{}")
    with pytest.raises(ConnectionError), say_failed_write(checkpoint):
        raise ConnectionError("the Hub was not reached")
    with pytest.raises(KeyError), say_failed_write(tmp_path / "checkpoint-2"):
        raise KeyError("a callback's own error")
    with pytest.raises(OutputDirError, match="^one sentence$"), say_failed_write(tmp_path / "checkpoint-2"):
        raise OutputDirError("one sentence")


def test_resuming_from_a_model_alone_says_what_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path)
    trainer.args.save_only_model = True
    trainer.train()
    resumed = make_trainer(tmp_path, max_steps=4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    said = (
        f"{tmp_path}/checkpoint-3 has no optimizer, no learning rate schedule, no random states, as one that was saved with "
        "save_only_model: the model and the step count go on, what is missing starts anew"
    )
    assert caplog.text.count(said) == 1
    assert "processes" not in caplog.text and "process_state" not in caplog.text
    assert resumed.optimizer.state_dict()["state"][0]["step"] == 1  # as said


def test_an_adapter_in_bfloat16_resumes_in_bfloat16(tmp_path: Path) -> None:
    last_losses = []
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        trainer = make_trainer(tmp_path, peft_config=lora_config())
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)  # as TRL does for quantized models
        trainer.train(resume_from_checkpoint=checkpoint)
        kinds = {parameter.dtype for parameter in trainer.model.parameters() if parameter.requires_grad}
        assert kinds == {torch.bfloat16}
        last_losses.append(losses(trainer)[-1])
    assert last_losses[0] == last_losses[1]


def test_sharded_trainers_refuse_a_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    trainer.args.save_only_model = True
    trainer.train()
    resumed = make_trainer(tmp_path)
    monkeypatch.setattr(resumed, "is_fsdp_enabled", True)
    with pytest.raises(ValueError, match="checkpoint-3 has no optimizer, .* cannot resume from the model alone"):
        resumed.train(resume_from_checkpoint=True)


def without_state_of_process(checkpoint: Path) -> str:
    (checkpoint / "manifest.json").unlink()
    (checkpoint / "process_state_0.pth").unlink()
    return "has no process_state_*.pth, as one that another trainer has saved"


def without_optimizer(checkpoint: Path) -> str:
    (checkpoint / "manifest.json").unlink()
    (checkpoint / "optimizer.pt").unlink()
    return "has no optimizer: the model and the step count go on, what is missing starts anew"


def of_two_processes(checkpoint: Path) -> str:
    path = checkpoint / "process_state_0.pth"
    torch.save(torch.load(path, weights_only=True) | {"num_processes": 2, "step": 10**6}, path)
    write_manifest(checkpoint)
    return "was saved by another number of processes (2, now 1)"


def of_the_other_process(checkpoint: Path) -> str:
    (checkpoint / "process_state_0.pth").rename(checkpoint / "process_state_1.pth")
    write_manifest(checkpoint)
    return "has no process_state_0.pth"


@pytest.mark.parametrize(
    "change", [without_state_of_process, without_optimizer, of_two_processes, of_the_other_process]
)
def test_why_a_training_does_not_resume_exactly_is_what_the_checkpoint_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], str]
) -> None:
    make_trainer(tmp_path).train()
    reason = change(tmp_path / "checkpoint-3")
    resumed = make_trainer(tmp_path, max_steps=4)
    resumed.train(resume_from_checkpoint=True)
    assert f"{tmp_path}/checkpoint-3 {reason}" in caplog.text
    assert caplog.text.count("the training is not") == 1
    assert resumed._step < 10**6


def test_an_exact_resume_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_trainer(tmp_path).train()
    make_trainer(tmp_path, max_steps=4).train(resume_from_checkpoint=True)
    assert "checkpoint" not in caplog.text
