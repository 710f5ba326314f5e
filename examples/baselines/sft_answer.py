# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

# /// script
# requires-python = ">=3.11"
# dependencies = ["trl_latro"]
#
# [tool.uv.sources]
# trl_latro = { path = "../..", editable = true }
# ///

"""Baseline: supervised fine-tuning on answers alone, without rationale (`--help` lists all arguments).

    python examples/baselines/sft_answer.py --task gsm8k --model_name_or_path meta-llama/Llama-3.1-8B-Instruct \\
        --output_dir outputs/gsm8k-sft-answer

Evaluate the model with `trl-latro evaluate`, as one that LaTRO has trained.
"""

from baseline import answer_rows, make_parser, train

from trl_latro.cli.common import saying_what_is_wrong


if __name__ == "__main__":
    with saying_what_is_wrong("sft_answer.py"):
        train(*make_parser().parse_args_and_config(), make_rows=answer_rows)
