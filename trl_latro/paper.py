# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""What a model card cites."""

import textwrap


PAPER = {
    "title": "Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding",
    "id": "2411.04282",
    # docstyle-ignore
    "citation": textwrap.dedent("""\
        @article{chen2024language,
            title        = {{Language Models are Hidden Reasoners: Unlocking Latent Reasoning Capabilities via Self-Rewarding}},
            author       = {Haolin Chen and Yihao Feng and Zuxin Liu and Weiran Yao and Akshara Prabhakar and Shelby Heinecke and Ricky Ho and Phil Mui and Silvio Savarese and Caiming Xiong and Huan Wang},
            year         = 2024,
            journal      = {arXiv preprint arXiv:2411.04282}
        }"""),
}
