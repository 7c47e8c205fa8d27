PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Two processes share the tests: on two cores more of them would only wait for each other.
WORKERS ?= 2
TEST := $(RUN) -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo map app web quick test check bench pictures browser

# The first target is what a newcomer types.
demo: $(STAMP)
	$(RUN) main.py quickstart

app: $(STAMP)
	$(RUN) main.py

web: $(STAMP)
	$(RUN) main.py web

# What one waits for while writing code: every module, without what takes seconds.
quick: $(STAMP)
	$(TEST) -m "not slow"

test: $(STAMP) browser
	$(TEST)

check: $(STAMP) browser
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(TEST)

bench: $(STAMP)
	for name in cleaning training time_to_loss generation app; do $(RUN) benchmarks/$$name.py || exit 1; done

# What each module is for, by its own first line.
map:
	@$(PYTHON) -c 'import ast, pathlib; [print(f"{path!s:44}", ast.get_docstring(ast.parse(path.read_text("utf-8"))).splitlines()[0]) for layer in ("app", "pipeline", "model", "utils") for path in sorted(pathlib.Path(layer).rglob("*.py"))]'

# The pictures of the README, from a real session in a workspace where quickstart has run.
pictures: $(STAMP)
	$(RUN) benchmarks/pictures.py $(WORKSPACE)

# One test clicks through the app in Chromium; without it that test is skipped and says so.
browser:
	@command -v chromium >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null \
		|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } \
		|| echo "Chromium could not be installed: its test is skipped"

# Installs once, and again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit((3, 11) > sys.version_info and "Hatchery needs Python 3.11 to 3.13; try: make PYTHON=python3.12")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)
