# Each target sets up all it needs, from Python 3.11 or later with venv. `make demo` reproduces the paper, small.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test bench lint site clean

demo: $(READY)
	$(BIN)/collapselab reproduce --quick

test: $(READY)
	$(BIN)/pytest -m "not slow and not gpu" --cov --cov-report=term:skip-covered --cov-fail-under=95 --durations=10

# One kind of measurement or another model: .venv/bin/python -m benchmarks --help
bench: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The documentation, a folder of HTML: open site/index.html, or serve the folder.
site: $(READY)
	$(BIN)/python tools/site.py

clean:
	rm -rf .venv site runs/reproduce-builtin-quick .coverage .pytest_cache .ruff_cache .hypothesis dist

# Made anew when a dependency changes; torch first, so that its one pinned build is chosen and nothing replaces it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
