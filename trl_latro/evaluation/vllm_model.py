# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""Completions and likelihoods with vLLM. Imported only where it is asked for."""

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase
from vllm import LLM, SamplingParams

from .merging import whole_model
from .model import ScoredRow, find_eos_token_ids


class VLLMModel:
    """
    Generates with vLLM: a whole model, or a LoRA adapter that is merged into its base.

    Completions go on to their EOS token or to L + `answer_budget` tokens; what stands behind the answer's token budget
    is dropped by the evaluation.

    Args:
        model_name_or_path (`str`):
            Model or adapter.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        max_completion_length (`int`):
            L, the longest rationale in tokens.
        answer_budget (`int`):
            Tokens that a completion goes on for after its rationale.
        longest_row (`int`):
            Tokens of the longest row: prompt, rationale and answer.
        dtype (`str`):
            Type of the weights.
        revision (`str`, *optional*):
            Revision on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether the model may bring code of its own.
        tensor_parallel_size (`int`, *optional*, defaults to `1`):
            GPUs that share the model.
    """

    def __init__(
        self,
        model_name_or_path: str,
        tokenizer: PreTrainedTokenizerBase,
        max_completion_length: int,
        answer_budget: int,
        longest_row: int,
        dtype: str,
        revision: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
    ):
        self.max_tokens = max_completion_length + answer_budget
        with whole_model(model_name_or_path, revision, trust_remote_code, dtype) as (name, revision):
            self.eos_token_ids = find_eos_token_ids(_generation_config(name, revision, trust_remote_code), tokenizer)
            self.llm = LLM(
                model=name,
                revision=revision,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                tensor_parallel_size=tensor_parallel_size,
                max_model_len=longest_row + 1,
                skip_tokenizer_init=True,  # tokens go in, tokens come out
            )

    def generate(
        self, prompt_ids: list[list[int]], num_samples: int, greedy: bool, seed: int
    ) -> list[list[list[int]]]:
        rows = [ids for ids in prompt_ids for _ in range(num_samples)]
        # A seed for each row: with one for all, the samples of a question would be the same
        settings = [
            SamplingParams(
                temperature=0.0 if greedy else 1.0,
                top_p=1.0,
                top_k=0,
                repetition_penalty=1.0,
                seed=seed + row,
                max_tokens=self.max_tokens,
                stop_token_ids=self.eos_token_ids,
                detokenize=False,
            )
            for row in range(len(rows))
        ]
        outputs = self._run(rows, settings)
        completions = [list(output.outputs[0].token_ids) for output in outputs]
        return [completions[start : start + num_samples] for start in range(0, len(rows), num_samples)]

    def answer_logps(self, rows: list[ScoredRow]) -> list[float]:
        tokens = [[*row.prompt, *row.rationale, *row.answer] for row in rows]
        # `prompt_logprobs=0` gives each token of the row its own log-prob
        settings = [SamplingParams(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False)] * len(rows)
        sums = []
        for output, row in zip(self._run(tokens, settings), rows, strict=True):
            columns = output.prompt_logprobs[-len(row.answer) :]
            sums.append(sum(column[token].logprob for column, token in zip(columns, row.answer, strict=True)))
        return sums

    def _run(self, rows: list[list[int]], settings: list[SamplingParams]) -> list:
        prompts = [{"prompt_token_ids": ids} for ids in rows]
        return self.llm.generate(prompts, settings, use_tqdm=False)


def _generation_config(name: str, revision: str | None, trust_remote_code: bool) -> GenerationConfig:
    """As `transformers` loads it with a model: of its file, or where there is none of the model's config."""
    try:
        return GenerationConfig.from_pretrained(name, revision=revision)
    except OSError:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        return GenerationConfig.from_model_config(config)
