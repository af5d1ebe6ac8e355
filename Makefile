# make demo | test | wheel | docs | results | bench | lint | clean
#
# Needs python3 (3.11 or later) with its venv module, and make. The first target
# that runs creates .venv; it is brought up to date when setup.cfg, pyproject.toml
# or constraints.txt change.

PYTHON ?= python3
BIN := .venv/bin

# glibc gives XLA's buffers back to the kernel after every step and takes them anew,
# 4 KB at a time: 20,000 page faults a step, 33 of 86 ms of processor time for
# MobileNetV1 0.25 at batch 64. In pages of 2 MB that is 6 of 54.
# MALLOC_MMAP_THRESHOLD_ does not help: glibc caps it at 32 MB and a step has one
# larger buffer. Read at start, so it cannot be set from inside Python.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test wheel docs results bench lint clean
.DELETE_ON_ERROR:

demo: .venv/stamp
	$(BIN)/python main.py --config=configs/digits_free_bits.py \
	  --workdir=runs/digits_free_bits

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

wheel: .venv/stamp
	$(BIN)/python tests/wheel.py build/wheel

# The site in build/site; its notebooks are run. Anything wrong ends it.
docs: .venv/docs-stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Runs of 35 minutes, whose tables and answers it writes into the documents.
results: .venv/stamp
	$(BIN)/python -m benchmarks.results

bench: .venv/stamp
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.choices
	$(BIN)/python -m benchmarks.bfp
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.hwsim
	$(BIN)/python -m benchmarks.deploy
	$(BIN)/python -m benchmarks.launch
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.parallel
	$(BIN)/python -m benchmarks.movement
	$(BIN)/python -m benchmarks.ne16
	$(BIN)/python -m benchmarks.sensitivity
	$(BIN)/python -m benchmarks.calibration

.venv/stamp: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fbq needs Python 3.11 or later, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create virtual environments. On Debian and" \
	    "Ubuntu run: apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e '.[test]' -c constraints.txt
	touch $@

.venv/docs-stamp: .venv/stamp
	$(BIN)/python -m pip install -e '.[docs]' -c constraints.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
