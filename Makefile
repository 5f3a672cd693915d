# Two commands on a fresh clone: `make demo` and `make test`. Both make .venv first if need be.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_FLAGS ?=

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    a whole swarm round on this machine (DEMO_FLAGS='--languages hi,ta,bn')"
	@echo "make test    all tests"
	@echo "make check   lint and types"
	@echo "make format  format the code"
	@echo "make bench   measure the engine (NAME=engine)"
	@echo "make clean   remove .venv and what demos left in runs/"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m seshu_swarm demo $(DEMO_FLAGS)

test: $(STAMP)
	$(BIN)/python -m pytest -q

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

NAME ?= engine
bench: $(STAMP)
	$(BIN)/python -m seshu_swarm bench $(NAME)

clean:
	rm -rf .venv runs
