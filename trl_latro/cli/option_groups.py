# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The headings of `--help`: by use, the options that one of the commands declares."""

OPTION_GROUPS: dict[str, list[str]] = {
    "questions": """
        task dataset_path dataset_config question_column answer_column rationale_column prompt_template grader num_shots
        split max_questions validation_size validation_seed skip_bad_rows
        """.split(),
    "model": """
        model_name_or_path model_revision dtype attn_implementation trust_remote_code disable_dropout chat_template_kwargs
        thinking_tags
        """.split(),
    "rationales and answers": """
        num_generations num_samples max_completion_length answer_template answer_separator rationale_stop_strings
        answer_max_length truncate_answers seed
        """.split(),
    "reward and loss": """
        reward_type reward_power reward_power_end jepo_floor reward_tokens scorer unfinished_penalty reward_funcs
        self_reward_weight self_reward_when answer_coef vllm_importance_sampling_correction
        vllm_importance_sampling_clip_max
        """.split(),
    "steps and speed": """
        learning_rate per_device_train_batch_size gradient_accumulation_steps per_device_eval_batch_size batch_size
        share_prompts use_cpu bf16 use_vllm vllm_tensor_parallel_size
        """.split(),
    "collapse, NaN and infinity": "monitor_collapse stop_on_collapse skip_nonfinite_steps".split(),
    "output": "output_dir overwrite_output_dir logging_steps verbose hub_token".split(),
    "planned training": "num_gpus num_nodes gpu_memory max_prompt_length".split(),
}
