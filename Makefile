# Two doors: `make regenerate` and `make test`. Each makes .venv when it is missing and installs nothing when it is there.
# Another Python: make PYTHON=python3.12 …    Some chapters only: make regenerate CHAPTERS="data reports"    Another profile: PROFILE=smoke
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHAPTERS ?=
PROFILE ?= phantom
UPGRADE ?=

.PHONY: install lock regenerate test benchmark browser lab tidy clean
.DEFAULT_GOAL := regenerate

# Installed again only when the requirements change. The stamp is written last, so a broken install is tried again.
# Where no hook is set, .githooks/ looks for entrusted data before a commit.
# Each file has a hash in the lock. setuptools comes first and builds what is published as source, so that no build fetches anything.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d: try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock | $(PIP) --require-hashes --requirement /dev/stdin
	$(PIP) --require-hashes --no-build-isolation --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@git config --get core.hooksPath > /dev/null || git config core.hooksPath .githooks 2> /dev/null || true
	@touch $@

install: $(VENV)/.installed

# requirements.lock from pyproject.toml, for Python 3.11 and 3.12 on every platform. What can stay as it is stays: make lock UPGRADE=--upgrade
lock: install
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	$(BIN)/uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --system-certs --quiet --output-file requirements.lock $(UPGRADE)

regenerate: install
	$(BIN)/rrg regenerate $(CHAPTERS) --profile $(PROFILE)

# Lines that fit the page; what the notebooks show; then the exported tests, the engine end to end, every chapter at smoke, and the state of the export.
# A notebook has a process of its own (tests/notebooks.py), so none can depend on what another left behind. Each cell runs once: a `#| test` cell under pytest (`tst_flags` in pyproject.toml), a chapter's page in `rrg regenerate` (tests/test_course.py).
test: install
	$(BIN)/ruff check --quiet nbs rrg_core data_scripts
	RRG_PROFILE=smoke OMP_NUM_THREADS=1 $(BIN)/python tests/notebooks.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore tests/browser -n 2 --dist loadfile --no-loadscope-reorder

# Timings, printed and never judged.
benchmark: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only

# Every chapter opened in JupyterLab in a headless Chromium (apt-get install chromium).
browser: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	$(BIN)/python -m pytest tests/browser

# On entrusted data, copies below build/: make lab PROFILE=mimic
lab: install
	$(BIN)/rrg lab --profile $(PROFILE)

tidy: install
	$(BIN)/rrg tidy

clean:
	rm -rf $(VENV) build *.egg-info
