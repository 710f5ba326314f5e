# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging


logger = logging.get_logger(__name__)

_PROBE = "latro"


def find_end_of_turn(
    tokenizer: PreTrainedTokenizerBase, eos_token_ids: list[int], chat_template_kwargs: dict[str, Any]
) -> int:
    """
    Token that ends the assistant's turn in the tokenizer's chat template.

    It need not be the tokenizer's EOS token: Phi-3.5 ends its turns with `<|end|>`, but its `eos_token` is
    `<|endoftext|>`.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer with a chat template.
        eos_token_ids (`list[int]`):
            All EOS tokens of the model.
        chat_template_kwargs (`dict[str, Any]`):
            Keyword arguments for the chat template.

    Returns:
        `int`: the first EOS token that the template writes after an assistant message; the tokenizer's own EOS token
        where the template writes none.
    """
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, **chat_template_kwargs)
    after = tokenizer(text.rpartition(_PROBE)[2], add_special_tokens=False)["input_ids"]
    ends = [token for token in after if token in eos_token_ids]
    if ends:
        return ends[0]
    special = [token for token in after if token in tokenizer.all_special_ids]
    if special:
        logger.warning_once(
            f"The chat template ends the assistant's turn with {tokenizer.convert_ids_to_tokens(special[0])!r}, which is none "
            f"of the model's EOS tokens {tokenizer.convert_ids_to_tokens(eos_token_ids)}: generation would not stop there, so "
            f"answers end with {tokenizer.eos_token!r}. If the template is right, add the token to the model's "
            "`generation_config.eos_token_id`."
        )
    return tokenizer.eos_token_id
