# Two commands are enough: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock

.PHONY: setup demo test check lint slow coverage tiny-base reference families clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("LongAlign needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned dependencies into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

# One thread, so that figures do not depend on how sums are split; models this small gain little from a second one.
demo: setup
	@OMP_NUM_THREADS=1 $(BIN)/longalign run recipes/tiny.yaml --out runs/tiny

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

check: test lint slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

slow: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope -m "slow and not gpu"

coverage: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not gpu" --cov --cov-report=term:skip-covered

# On a machine with a GPU, with the python that has CUDA's torch; each target below stays under ten minutes. No downloads.
.PHONY: gpu gpu-tests gpu-speed gpu-windows gpu-reach
gpu: gpu-tests gpu-speed gpu-windows gpu-reach

gpu-tests:
	PYTHONPATH=src $(PYTHON) -m pytest tests/train -m gpu -W default -p no:cacheprovider

gpu-speed:
	PYTHONPATH=src $(PYTHON) -m benchmarks.gpu_training speed

gpu-windows:
	PYTHONPATH=src $(PYTHON) -m benchmarks.gpu_training windows

gpu-reach:
	PYTHONPATH=src $(PYTHON) -m benchmarks.gpu_training reach

tiny-base: setup
	@$(BIN)/python -m recipes.tiny_base --out runs/tiny-base --install src/longalign/bundled/tiny-base

# ZeRO-3's test; on a CPU DeepSpeed compiles an operator at its first start, which takes a minute and a C++ compiler.
.PHONY: zero3
zero3: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[deepspeed]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" -k zero_3 tests/train/parallel/test_several_ranks.py

reference: setup
	@$(BIN)/python docs/reference/make.py

families: setup
	@$(BIN)/python docs/reference/families.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

# Newest versions that pyproject.toml allows, written down exactly.
.PHONY: lock demo-full
lock:
	$(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/python -m pip install --quiet --upgrade --constraint constraints.txt ".[dev]"
	@(echo "# Exact versions of everything that 'make setup' installs; made with 'make lock'."; \
	  build/lock-venv/bin/python -m pip freeze --exclude longalign | sed 's/+cpu//') > requirements.lock

demo-full: setup
	@OMP_NUM_THREADS=1 $(BIN)/longalign run recipes/tiny.yaml --full --out runs/tiny-full
