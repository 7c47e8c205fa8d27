PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo app test check bench

# The first target is what a newcomer types.
demo: $(STAMP)
	$(RUN) main.py quickstart

app: $(STAMP)
	$(RUN) main.py

test: $(STAMP)
	$(RUN) -m pytest

check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest

bench: $(STAMP)
	for name in cleaning training time_to_loss; do $(RUN) benchmarks/$$name.py || exit 1; done

# Installs once, and again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit((3, 11) > sys.version_info and "Hatchery needs Python 3.11 to 3.13; try: make PYTHON=python3.12")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)
