# make demo   the whole way on images that the project renders itself; ends at output/demo/report.html
# make test   the tests of seconds; make test-slow runs the long ones
# make docs   this documentation as a site: output/site/html/index.html
# The first two set up what is missing first. PYTHON= and VENV= choose the interpreter and the environment.

PYTHON ?= python3
VENV ?= .venv
DOCS_VENV ?= .venv-docs
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR)
# Bytecode saves about ten seconds at each start of the stack.
unexport PYTHONDONTWRITEBYTECODE

# Two test processes, one thread each. Each takes one half of the files, so that few fixtures are made in both; who is
# done first takes of the other's.
test: export OMP_NUM_THREADS := 1

.PHONY: demo test test-slow fuzz lint docs setup clean-demo help

help:
	@sed -n '1,4s/^# //p' Makefile

setup: $(VENV)/.ready

# The mark is newer than everything that decides what is installed; so set-up runs once, and again when that changes.
$(VENV)/.ready: requirements.lock requirements-dev.lock tools/install_detectron2.py tools/setup_environment.py pyproject.toml
	@$(PYTHON) tools/setup_environment.py $(VENV)
	@touch $@

demo: setup
	@$(BIN)/python projects/LabelEfficiency/run_study.py --config-file projects/LabelEfficiency/demo.yaml
	@echo "To use the commands of README.md in this shell: . $(VENV)/bin/activate"

# Three processes of one thread for two cores, because some tests wait for other programs
test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal

test-slow: setup
	@$(BIN)/python -m pytest -q -m slow

# make fuzz N=10000: so many mutated inputs of each kind; SEED= chooses others
fuzz: setup
	@FUZZ_CASES=$(or $(N),1000) FUZZ_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -q -n 0 tests/fuzz

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The site is built from source text alone, so it needs neither torch nor this package: 80 MB of its own.
$(DOCS_VENV)/.ready: requirements-docs.lock
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-docs.lock
	@touch $@

docs: $(DOCS_VENV)/.ready
	@$(DOCS_VENV)/bin/python docs/build_site.py output/site

clean-demo:
	rm -rf output/demo
