# make demo | make test | make test-slow | make test-gpu | make lint | make docs
# PYTHON=python3.11 chooses the interpreter; TORCH_INDEX=https://… chooses another wheel index for torch.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.14.1 torchvision==0.29.1
BIN    := $(VENV)/bin

.PHONY: demo test test-slow test-gpu lint docs clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/lifelong-ct experiment=demo -m

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "slow and not gpu"

test-gpu: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m gpu

lint: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build
	@echo "docs/_build/index.html"

clean:
	rm -rf $(VENV) runs state store docs/_build
