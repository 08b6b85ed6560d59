# `make demo` checks and trains in every framework; `make test` runs all checks.
# Both need only Python 3.11 or newer; PYTHON=... chooses the interpreter.

PYTHON ?= python3
VENV := .venv
INTEGRATIONS := .venv-integrations
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt --build-constraint constraints.txt
PYTEST := $(BIN)/python -m pytest -q --durations 5 --durations-min 5
# Two tests at a time, each with one thread, so that they do not compete for the cores.
PYTEST_2 := env OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal
INPUTS := pyproject.toml constraints.txt Makefile

# A cache of compiled JAX programs, shared by all tests and processes and kept for later runs.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/$(VENV)/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1

# The backends that `make quick A=...` runs, besides the adapter's tests.
QUICK_core := numpy
QUICK_torch := numpy torch torch-foreach torch-fused
QUICK_tensorflow := numpy tensorflow tensorflow-xla
QUICK_optax := numpy optax
KERAS_BACKEND ?= tensorflow
QUICK_keras := numpy keras-$(KERAS_BACKEND)
QUICK := $(patsubst %,--backend %,$(QUICK_$(or $(A),core)))
SINCE ?= HEAD

KERAS := jax tensorflow torch
TIMES := $(VENV)/times
timed = .ci/timed $(TIMES) "$(1)"

.PHONY: demo quick test check docs release matrix integrations evidence clean test-conformance test-faults $(KERAS:%=test-keras-%)

demo: $(VENV)/.demo
	$(BIN)/innaprop-conformance demo

# The main tests use both cores. The other parts need little more than one each: two run at a time.
test: check
	@rm -f $(TIMES)
	$(call timed,main tests) $(PYTEST_2) tests --ignore tests/keras --ignore tests/conformance --ignore tests/integrations
	@$(MAKE) --no-print-directory --keep-going --output-sync=target -j 2 \
	    test-conformance test-faults $(KERAS:%=test-keras-%); status=$$?; echo; sort -rn $(TIMES); exit $$status

test-conformance:
	$(call timed,conformance) $(PYTEST) tests/conformance --ignore tests/conformance/test_faults.py

test-faults:
	$(call timed,faults) $(PYTEST) tests/conformance/test_faults.py

$(KERAS:%=test-keras-%): test-keras-%:
	$(call timed,Keras on $*) env KERAS_BACKEND=$* $(PYTEST) tests/keras

quick: check
	$(PYTEST_2) tests/core tests/house $(if $(A),tests/$(A)) \
	    tests/conformance/test_faults.py::test_every_fault_fits_its_source
	$(BIN)/innaprop-conformance run $(QUICK) --family groups --family "missing gradients" --family decay
	$(BIN)/python -m innaprop_conformance.faults tests/conformance/faults $(QUICK) --changed-since $(SINCE) --seeds 1

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.test
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# A release without the tag and the upload; EXTRAS=1 also installs every extra, one at a time.
release: $(VENV)/.release
	$(BIN)/python .ci/release.py $(if $(EXTRAS),--extras)

# Tests with the oldest, pinned and newest versions of every framework; ROWS="--versions oldest"
# selects a part.
matrix: $(VENV)/.release
	$(BIN)/python .ci/matrix.py $(ROWS)

# The code of docs/integrations.md, with trainers and engines that are not installed in .venv.
integrations: $(INTEGRATIONS)/.done
	$(INTEGRATIONS)/bin/python -m pytest -q --durations 5 tests/integrations $(ARGUMENTS)

# The missing runs of docs/evidence.md; E=mechanism runs only those of one experiment.
evidence: $(VENV)/.evidence
	$(BIN)/python -m evidence fetch
	$(BIN)/python -m evidence run $(if $(E),--experiment $(E))
	$(BIN)/python -m evidence page

clean:
	rm -rf $(VENV) $(INTEGRATIONS) docs/_build report.html

$(VENV)/.pip: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --upgrade pip
	@touch $@

$(VENV)/.demo: $(VENV)/.pip
	@echo "Installing PyTorch, TensorFlow, JAX and Keras into $(VENV): this takes some minutes the first time"
	$(PIP_INSTALL) -e ".[all]"
	@touch $@

$(VENV)/.release: $(VENV)/.pip
	$(PIP_INSTALL) --group release
	@touch $@

$(VENV)/.evidence: $(VENV)/.demo
	$(PIP_INSTALL) --group evidence
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP_INSTALL) --group test --group docs
# In a separate folder: a process that has loaded TensorFlow aborts when it loads Triton.
	$(PIP_INSTALL) --upgrade --target $(VENV)/triton --group triton
	@touch $@

# It can import all packages of .venv, but not the other way round. The group lists every further
# package, since pip's resolver would install another PyTorch.
$(INTEGRATIONS)/.done: $(VENV)/.test
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet -c constraints.txt --upgrade pip setuptools wheel
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	    > "$$($(INTEGRATIONS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	DS_BUILD_OPS=0 $(INTEGRATIONS)/bin/python -m pip install --quiet -c constraints.txt \
	    --no-deps --no-build-isolation --group integrations
	@touch $@
