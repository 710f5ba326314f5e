# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""DeepSpeed's ZeRO: which stage and offload a configuration file asks for, and what weights and optimizer then take."""

from pathlib import Path
from typing import Any, NamedTuple

from ..loading import read_json_object


class Zero(NamedTuple):
    """
    What is sharded and what is offloaded.

    Args:
        stage (`int`): 1 shards the optimizer, 2 gradients too, 3 weights too.
        offload_optimizer (`bool`): Whether optimizer and float32 masters are kept in the host's memory.
        offload_weights (`bool`): Whether the weights are, too.
    """

    stage: int
    offload_optimizer: bool
    offload_weights: bool

    def __str__(self) -> str:
        offloaded = [
            name for name, is_so in (("optimizer", self.offload_optimizer), ("weights", self.offload_weights)) if is_so
        ]
        return f"ZeRO-{self.stage}" + (f", {' and '.join(offloaded)} offloaded" if offloaded else "")


def read_zero(deepspeed: str | dict[str, Any]) -> Zero:
    """
    Read a DeepSpeed configuration, as a file or as a mapping.

    Raises:
        `ValueError`: no such file, no JSON, no stage from 1 to 3, offload to a disk.
    """
    if isinstance(deepspeed, str):
        path = Path(deepspeed)
        if not path.is_file():
            raise ValueError(f"--deepspeed {deepspeed}: there is no such file (seen from {Path.cwd()}).")
        content = read_json_object(path, f"--deepspeed {deepspeed}")
    else:
        content = deepspeed
    settings = read_section(content, "zero_optimization")
    stage = settings.get("stage", 0)
    if stage not in (1, 2, 3) or isinstance(stage, bool):
        raise ValueError(
            f"--deepspeed has ZeRO stage {stage!r}, which shards nothing and has no estimate here: choose stage 1, 2 or 3, "
            "or leave DeepSpeed out."
        )
    offload_optimizer = is_offloaded(settings, "offload_optimizer")
    offload_weights = is_offloaded(settings, "offload_param")
    if stage < 3 and offload_weights:
        raise ValueError(f"--deepspeed has offload_param with ZeRO stage {stage}, but only stage 3 offloads weights.")
    return Zero(stage, offload_optimizer, offload_weights)


def read_section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """An object in the settings, empty where there is none or null, as in DeepSpeed; raises `ValueError` for another."""
    section = settings.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ValueError(f"--deepspeed has {name} {section!r}, but it should be an object in braces.")
    return section


def is_offloaded(settings: dict[str, Any], name: str) -> bool:
    """Whether a section of the settings offloads to the host's memory; raises `ValueError` for any other device."""
    device = read_section(settings, name).get("device", "none")
    if device not in ("none", "cpu"):
        raise ValueError(
            f"--deepspeed has {name} to the device {device!r}, which has no estimate here: plan knows 'cpu' and 'none'."
        )
    return bool(device == "cpu")


def model_states(zero: Zero, trainable: int, largest_module: int, num_gpus: int, num_nodes: int) -> tuple[int, int]:
    """
    DeepSpeed's own estimate for 16-bit training with Adam.

    Args:
        zero ([`Zero`]):
            Stage and offload.
        trainable (`int`):
            Number of parameters that are trained.
        largest_module (`int`):
            Number of parameters of the largest module.
        num_gpus (`int`):
            GPUs per node.
        num_nodes (`int`):
            Nodes.

    Returns:
        `tuple[int, int]`: bytes of weights, gradients and optimizer per GPU, and bytes in the host's memory per node.
    """
    try:
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
    except ImportError as error:
        raise ValueError(
            "--deepspeed: the estimate is DeepSpeed's own, and DeepSpeed is not installed. Install it with `pip install "
            "'.[deepspeed]'` in a clone."
        ) from error

    if zero.stage == 3:
        host, gpu, _ = estimate_zero3_model_states_mem_needs(
            trainable, largest_module, num_gpus, num_nodes, zero.offload_optimizer, zero.offload_weights
        )
        return gpu, host
    host, gpu = estimate_zero2_model_states_mem_needs(trainable, num_gpus, num_nodes, zero.offload_optimizer)
    if zero.stage == 1:
        # DeepSpeed has no estimate for it: against stage 2 the 16-bit gradients are whole on each GPU
        shards = num_gpus * num_nodes
        gpu += 2 * trainable if zero.offload_optimizer else 2 * trainable - 2 * trainable // shards
    return gpu, host
