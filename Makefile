# `make` lists the targets. Each one installs what it needs into $(VENV) first, so any of them works on a fresh clone.

PYTHON ?= python3
VENV ?= .venv
# Pins torch. CONSTRAINTS=mine.txt takes another file, CONSTRAINTS= none.
CONSTRAINTS ?= constraints.txt
# More arguments for pip, for instance another index:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# System packages to install with apt-get first, for instance python3-venv on Debian. None are needed with a full Python.
APT_PACKAGES ?=
# The photo of `make demo`, and where its results go.
IMAGE ?= examples/images/street.jpg
OUTPUT ?= demo_output
# More arguments for pytest: make test PYTEST_ARGS="-k geometry"
PYTEST_ARGS ?=
# What `make test-slow` runs; those of the demo go on in a browser.
SLOW_TESTS ?= tests/hub tests/robustness tests/serving tests/export tests/examples tests/benchmarks tests/docs tests/test_readme.py tests/test_notebooks.py tests/demo
# Processes of `make test` and `make test-slow`, at most four: a number, or `logical` for one on each processor. With 0
# there are none of their own, so that --pdb works.
TEST_PROCESSES ?= logical
# More arguments for benchmarks/bench.py.
BENCH_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The slow suite goes on with the browser where there is one, unless PYTEST_ARGS choose among its other tests.
define TEST_DEMO
+@if [ -n "$(PYTEST_ARGS)" ]; then echo "The demo is not tested: PYTEST_ARGS is set."; \
elif command -v chromedriver > /dev/null; then $(MAKE) test-demo; \
else echo "The demo is not tested: there is no chromedriver. On Debian: apt-get install chromium chromium-driver"; fi
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-all test-demo test-hf bench check-package docs lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	@echo "Variables: PYTHON VENV CONSTRAINTS PIP_ARGS APT_PACKAGES IMAGE OUTPUT PYTEST_ARGS SLOW_TESTS TEST_PROCESSES BENCH_ARGS (see the top of the Makefile)"

install: $(INSTALLED) ## create the virtual environment with the package, editable, and its tools

demo: $(INSTALLED) ## find and read the text in IMAGE; writes a picture and JSON to OUTPUT
	$(BIN)/transformers-tcm spot "$(IMAGE)" --draw --force --output "$(OUTPUT)"

test: $(INSTALLED) ## run the fast tests
	$(BIN)/python -m pytest -q -m "not slow" -n $(TEST_PROCESSES) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-slow: $(INSTALLED) ## run the slow tests of publishing, robustness, service, export, examples, documentation, notebooks and demo
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[ray]"
	$(BIN)/python -m pytest -q -m slow -n $(TEST_PROCESSES) --maxprocesses 4 --dist loadfile $(SLOW_TESTS) $(PYTEST_ARGS)
	$(if $(filter tests/demo,$(SLOW_TESTS)),$(TEST_DEMO))

test-all: $(INSTALLED) ## run all tests of the package and its demo, then check-package
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)
	$(TEST_DEMO)
	$(BIN)/python scripts/check_package.py --pip-args="$(PIP_ARGS)"

bench: $(INSTALLED) ## time the bundled models in every engine; BENCH_ARGS="--images … --annotations …" measures on yours
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[openvino]"
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

check-package: $(INSTALLED) ## build wheel and sdist, use them in empty environments; needs a package index
	$(BIN)/python scripts/check_package.py --pip-args="$(PIP_ARGS)"

test-demo: ## run the tests of the demo in a browser, in an environment of its own; needs Chromium with its driver
	$(PYTHON) -m venv $(VENV)-demo
	$(VENV)-demo/bin/python -m pip install -q $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[demo,test]" "selenium>=4.30"
	$(VENV)-demo/bin/python -m pytest -q tests/demo $(PYTEST_ARGS)

test-hf: $(INSTALLED) ## run the common tests of transformers on the models
	$(BIN)/python scripts/run_transformers_common_tests.py --pip-args="$(PIP_ARGS)" $(PYTEST_ARGS)

docs: $(INSTALLED) ## build the documentation site into `site`; warnings, such as dead links, are errors
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the other targets wrote, except for the virtual environment
	rm -rf build dist site demo_output .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(if $(APT_PACKAGES),apt-get install -y $(APT_PACKAGES))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[dev]"
	@touch $@
