# On a fresh clone: `make install`, `make demo` or `make test`. Each makes .venv first if need be.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
LEAN := .venv/.lean
DEMO_FLAGS ?=
LLAMA := build/llama
LLAMA_VERSION := 3.22.1
export SESHU_NODE_LLAMA_CPP ?= $(wildcard $(CURDIR)/$(LLAMA))

.PHONY: help install demo test programs check format bench docs clean

help:
	@echo "make install   .venv with what donors, maintainers and users need"
	@echo "make demo      a whole swarm round on this machine (DEMO_FLAGS='--languages hi,ta,bn')"
	@echo "make test      all tests"
	@echo "make programs  Chromium and llama.cpp, which some tests talk to (else they are skipped)"
	@echo "make check     lint and types"
	@echo "make format    format the code"
	@echo "make bench     measure the engine (NAME=engine)"
	@echo "make docs      the documentation's site, in site/"
	@echo "make clean     remove .venv and what demos left in runs/"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,evaluation]'
	@touch $(STAMP)

$(LEAN): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $(LEAN)

# What demo and test install holds this too.
install:
	@test -e $(STAMP) || $(MAKE) --no-print-directory $(LEAN)
	@echo "installed: source .venv/bin/activate, then python -m seshu_swarm doctor"

demo: $(STAMP)
	$(BIN)/python -m seshu_swarm demo $(DEMO_FLAGS)

# A file each at a time; what starts processes of its own two at a time, for it mostly waits; and what
# holds seconds against a limit with nothing beside it.
test: $(STAMP)
	@failed=0; \
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m "not swarm" || failed=1; \
	$(BIN)/python -m pytest -q -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder -m "swarm and not alone" || failed=1; \
	$(BIN)/python -m pytest -q -m alone || failed=1; \
	exit $$failed

# Where this machine can have them.
programs:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
		|| echo "no Chromium: tests of pages are skipped"
	@test -d $(LLAMA)/node_modules || npm install --prefix $(LLAMA) --no-audit --no-fund --ignore-scripts --omit=optional \
		node-llama-cpp@$(LLAMA_VERSION) @node-llama-cpp/linux-x64@$(LLAMA_VERSION) \
		|| echo "no llama.cpp: the test of GGUF files in it is skipped"

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

# Strict: a link that leads nowhere ends it. Open site/index.html; no server is needed.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv runs site
