# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).

# /// script
# requires-python = ">=3.11"
# dependencies = ["trl_latro"]
#
# [tool.uv.sources]
# trl_latro = { path = "..", editable = true }
# ///

"""
LaTRO on ARC-Challenge (`--help` lists all arguments).

On 8 GPUs, with the settings of the paper:

    deepspeed examples/arc_challenge.py --config examples/configs/arc_challenge.yaml \\
        --model_name_or_path meta-llama/Llama-3.1-8B-Instruct --output_dir llama-3.1-8b-latro-arc-challenge
"""

from trl_latro.cli.common import saying_what_is_wrong
from trl_latro.cli.train import main


if __name__ == "__main__":
    with saying_what_is_wrong("arc_challenge.py"):
        main(task="arc_challenge", beta=0.25)
