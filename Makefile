# Two doors: `make regenerate` and `make test`. Each makes .venv when it is missing and installs nothing when it is there.
# Another Python: make PYTHON=python3.12 …    Some chapters only: make regenerate CHAPTERS="data reports"    Another profile: PROFILE=smoke
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHAPTERS ?=
PROFILE ?= phantom

.PHONY: install regenerate test benchmark browser lab tidy clean
.DEFAULT_GOAL := regenerate

# Installed again only when the requirements change. The stamp is written last, so a broken install is tried again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d: try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,slurm]"
	@touch $@

install: $(VENV)/.installed

regenerate: install
	$(BIN)/rrg regenerate $(CHAPTERS) --profile $(PROFILE)

# Lines that fit the page; what the notebooks show; then the exported tests, the engine end to end, every chapter at smoke, and the state of the export.
# Each cell runs once: a `#| test` cell under pytest (`tst_flags` in pyproject.toml), a chapter's page in `rrg regenerate` (tests/test_course.py).
test: install
	$(BIN)/ruff check --quiet nbs rrg_core data_scripts
	chapters=$$($(BIN)/python -c 'from rrg_core.engine.settings import chapters; print(*chapters(), sep="|")') && \
	RRG_PROFILE=smoke OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2 --path_re "nbs/(?!\d+_($$chapters)\.ipynb)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore tests/browser -n 2 --dist loadfile --no-loadscope-reorder

# Timings, printed and never judged.
benchmark: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only

# Every chapter opened in JupyterLab in a headless Chromium (apt-get install chromium).
browser: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	$(BIN)/python -m pytest tests/browser

lab: install
	$(BIN)/jupyter trust nbs/*.ipynb nbs/solutions/*.ipynb 2> /dev/null || true
	$(BIN)/jupyter lab --notebook-dir=nbs

tidy: install
	$(BIN)/rrg tidy

clean:
	rm -rf $(VENV) build *.egg-info
