# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The trainer stands on private methods of TRL's `RLOOTrainer`. This file says in plain words what moved when TRL does."""

import ast
import inspect
import textwrap
from collections.abc import Callable

import pytest
import transformers
import trl
from transformers import Trainer
from trl import RLOOTrainer

from trl_latro import LaTROTrainer
from trl_latro.durability.trainer import DurableTrainer


# The signatures that the trainer was written against (TRL 1.16.0)
SIGNATURES = {
    "__init__": [
        "self",
        "model",
        "reward_funcs",
        "args",
        "train_dataset",
        "eval_dataset",
        "processing_class",
        "reward_processing_classes",
        "callbacks",
        "optimizers",
        "quantization_config",
        "peft_config",
    ],
    "_set_signature_columns_if_needed": ["self"],
    "_get_train_sampler": ["self", "dataset"],
    "_get_per_token_logps_and_entropies": [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ],
    "_prepare_inputs": ["self", "generation_batch"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_compute_loss": ["self", "model", "inputs"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "prediction_step": ["self", "model", "inputs", "prediction_loss_only", "ignore_keys"],
    "log": ["self", "logs", "start_time"],
    "_get_grad_norm": ["self", "model", "grad_norm"],
    "train": ["self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
    "evaluation_loop": [
        "self",
        "dataloader",
        "description",
        "prediction_loss_only",
        "ignore_keys",
        "metric_key_prefix",
    ],
    "push_to_hub": ["self", "commit_message", "blocking", "token", "revision", "private", "kwargs"],
    "save_model": ["self", "output_dir", "_internal_call"],
    "create_model_card": ["self", "model_name", "dataset_name", "tags"],
    "_get_output_dir": ["self", "trial"],
    "_init_training_state": [
        "self",
        "max_steps",
        "num_update_steps_per_epoch",
        "num_train_epochs",
        "resume_from_checkpoint",
        "trial",
    ],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_issue_warnings_after_load": ["self", "load_result"],
    "_load_rng_state": ["self", "checkpoint"],
}

# Attributes that the parent sets and the trainer (or its tests) reads, and what they are for
ATTRIBUTES = {
    "_tokenizer": "the tokenizer",
    "eos_token_ids": "all EOS tokens of the model",
    "_metrics": "where metrics are collected until `log`",
    "_logs": "where the completions table is collected",
    "_step": "the count of micro-batches, which decides when new completions are sampled",
    "_buffered_inputs": "the samples that a generation batch has left",
    "generation_config": "what `generate` is called with",
    "generation_kwargs": "what replaces the model's own generation config meanwhile",
    "use_transformers_continuous_batching": "which engine samples",
    "continuous_batching_config": "settings of continuous batching",
    "use_vllm": "which engine samples",
    "vllm_generation": "TRL's client of vLLM",
    "_last_loaded_step": "the step whose weights vLLM has",
    "ref_model": "the reference model",
    "reward_funcs": "the reward functions",
    "reward_func_names": "their names in the logs",
    "reward_weights": "their weights",
    "_pending_extra_logs": "what reward functions have passed to `log_extra`",
    "_pending_metrics": "what reward functions have passed to `log_metric`",
    "_dist": "whether weights are sharded",
    "beta": "the weight of the KL",
    "num_generations": "samples per prompt",
    "num_generations_eval": "samples per prompt in evaluation",
    "epsilon_low": "the lower clipping bound",
    "epsilon_high": "the upper clipping bound",
    "pad_to_multiple_of": "the width of padded batches",
}


def what_changed(name: str, parent: type = RLOOTrainer) -> str | None:
    """A plain sentence on how `name` differs from what the trainer was written against, or `None`."""
    expected = SIGNATURES[name]
    hook = f"RLOOTrainer.{name} of TRL {trl.__version__}"
    method = inspect.getattr_static(parent, name, None)
    if method is None:
        return f"{hook} is gone: LaTROTrainer builds on it, see trl_latro/latro_trainer.py."
    actual = list(inspect.signature(method).parameters)
    if name == "push_to_hub" and "private" not in actual:  # transformers before 5.23
        expected = [parameter for parameter in expected if parameter != "private"]
    added = [parameter for parameter in actual if parameter not in expected]
    removed = [parameter for parameter in expected if parameter not in actual]
    if added or removed:
        return (
            f"{hook} has new parameters {added} and lost {removed}: check what LaTROTrainer passes and overrides in "
            "trl_latro/latro_trainer.py, then update SIGNATURES."
        )
    if actual != expected:
        return f"{hook} takes its parameters in the order {actual}, no longer {expected}."
    return None


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_parents_hooks_are_those_the_trainer_was_written_against(name):
    message = what_changed(name)
    assert message is None, message


def test_a_moved_hook_is_named_in_a_plain_sentence():
    class Moved:
        def _prepare_inputs(self, generation_batch, tools):
            pass

        def _compute_loss(self, inputs, model):
            pass

    assert "_prepare_inputs of TRL" in what_changed("_prepare_inputs", Moved)
    assert "new parameters ['tools'] and lost []" in what_changed("_prepare_inputs", Moved)
    assert "in the order ['self', 'inputs', 'model']" in what_changed("_compute_loss", Moved)
    assert "is gone" in what_changed("log", Moved)


def own_methods() -> dict[str, Callable]:
    classes = (DurableTrainer, LaTROTrainer)
    return {name: value for cls in classes for name, value in vars(cls).items() if inspect.isfunction(value)}


def test_every_method_that_the_trainer_overrides_is_watched():
    """An override that is not in SIGNATURES could lose its parent unnoticed."""
    overridden = {name for name in own_methods() if hasattr(RLOOTrainer, name)}
    assert overridden <= SIGNATURES.keys(), f"add {sorted(overridden - SIGNATURES.keys())} to SIGNATURES"


def test_every_private_method_that_the_trainer_calls_is_watched():
    called = set()
    for method in own_methods().values():
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name.startswith("_") and name in vars(RLOOTrainer) and inspect.isfunction(vars(RLOOTrainer)[name]):
                    called.add(name)
    assert called <= SIGNATURES.keys(), f"add {sorted(called - SIGNATURES.keys())} to SIGNATURES"


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_parent_sets_what_the_trainer_reads(name):
    source = inspect.getsource(RLOOTrainer.__init__)
    assert f"self.{name} = " in source, (
        f"RLOOTrainer of TRL {trl.__version__} no longer sets {name}: {ATTRIBUTES[name]}."
    )


# Attributes of transformers' `Trainer` that a checkpoint keeps beside its own state
TRAINER_ATTRIBUTES = {
    "_tr_loss": "the sum that the next logged loss is made of",
    "_total_loss_scalar": "the sum that the final `train_loss` is made of",
    "_globalstep_last_logged": "the step of the last log",
}


@pytest.mark.parametrize("name", TRAINER_ATTRIBUTES)
def test_transformers_trains_with_the_attributes_that_a_checkpoint_keeps(name):
    assert f"self.{name} = " in inspect.getsource(Trainer), (
        f"Trainer of transformers {transformers.__version__} no longer keeps {name}: {TRAINER_ATTRIBUTES[name]}. See "
        "trl_latro/durability/trainer.py."
    )


@pytest.mark.parametrize(
    ("method", "text", "meaning"),
    [
        ("__init__", "if self.beta == 0.0:", "`settings_of_reference` decides by it whether a reference is loaded"),
        ("_prepare_inputs", "self._generate_and_score_completions(generation_batch)", "samples are drawn through it"),
        ("_generate_single_turn", "self.vllm_generation.sync_weights()", "`_sync_weights_to_vllm` does the same"),
        (
            "_generate_single_turn",
            "self._dist.summon_full_params(self.model_wrapped",
            "`_model_for_generation` does so",
        ),
        ("_generate", "self.state.num_input_tokens_seen += ", "`_log_samples` counts the tokens in its place"),
    ],
)
def test_the_parent_samples_as_the_trainer_does_in_its_place(method, text, meaning):
    assert text in inspect.getsource(vars(RLOOTrainer)[method]), (
        f"RLOOTrainer.{method} of TRL {trl.__version__} has no `{text}` any more ({meaning}): see how it samples now, and "
        "let trl_latro/latro_trainer.py follow."
    )


def test_the_parent_takes_the_loss_unscaled():
    """The loss is the mean over a micro-batch's rows, and `Trainer` divides by the accumulation steps."""
    assert RLOOTrainer.loss_is_scaled_for_ga is False


def test_the_overrides_keep_the_parents_parameters():
    for name, method in own_methods().items():
        if name in SIGNATURES and name != "__init__":
            parameters = list(inspect.signature(method).parameters)
            assert parameters == SIGNATURES[name], f"LaTROTrainer.{name} takes {parameters}"


def test_the_trainer_takes_the_parents_arguments_and_may_be_without_reward_functions():
    parameters = list(inspect.signature(LaTROTrainer.__init__).parameters)
    rewards = ("reward_funcs", "reward_processing_classes")
    assert parameters == [*(name for name in SIGNATURES["__init__"] if name not in rewards), "grader", *rewards]
