# make          the targets, one line each
# make run      see it work: three routers in a line
# make test     everything that this machine allows
#
# Nothing but Python 3.11 or newer (with venv), git and make is assumed. Three variables:
#   PYTHON=python3.12    the interpreter that the virtual environment is made with
#   VENV=DIR             where that is; needed when the checkout is not yours to write
#   JOBS=N               how many processes run tests; 0: no other process, for a debugger

PYTHON ?= python3
VENV ?= .venv
# Most tests wait for daemons, so more of them run at once than there are processors.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 8 ? cores * 2 : 16)))

BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Where the checkout cannot be written, what the tools remember goes beside the environment.
IS_WRITABLE := $(shell test -w . && echo yes)
ifeq ($(IS_WRITABLE),)
  export MYPY_CACHE_DIR = $(VENV)/cache/mypy
  export RUFF_CACHE_DIR = $(VENV)/cache/ruff
  export HYPOTHESIS_STORAGE_DIRECTORY = $(VENV)/cache/hypothesis
  export PYTEST_ADDOPTS = -o cache_dir=$(abspath $(VENV))/cache/pytest
endif

# Tests start thousands of Python programs, which do not compile routed each time.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q
# One test at a time is passed on, in the order of pyproject.toml.
PYTEST_JOBS := --numprocesses $(JOBS) --dist load --maxschedchunk 1
# Tests of single modules wait for nothing: more processes than processors would only import more.
UNIT_JOBS := --numprocesses $(if $(filter file,$(origin JOBS)),auto,$(JOBS)) --dist load

.DEFAULT_GOAL := help
.PHONY: help venv run test lint type unit bpf bench bench-quick sim flood soak attack fuzz sanitize wheel deb debtest clean

help: ## list the targets
	@echo "make TARGET, with one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 15

venv: $(STAMP) ## make the virtual environment, with the pinned packages

run: $(STAMP) ## build three routers in a line, run routed in each, prove that they work
	@$(BIN)/python netns-lab/lab.py demo

test: lint type ## check and test everything that this machine allows
	@echo "pytest: all tests; what is left out is listed at the end"
	@$(PYTEST) $(PYTEST_JOBS) -m "not quiet"
	@echo "pytest: the tests that need the machine for themselves"
	@$(PYTEST) -m quiet

lint: $(STAMP) ## check format and style (ruff)
	@echo "ruff: format and style"
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .

type: $(STAMP) ## check types (mypy, strict)
	@echo "mypy: types"
	@$(BIN)/mypy --no-error-summary

unit: $(STAMP) ## only the tests of single modules, which need no privilege and no network
	@$(PYTEST) $(UNIT_JOBS) -m "not root" tests/meta tests/unit

bpf: $(STAMP) ## compile the programs for the kernel again (needs clang; for maintainers)
	@$(BIN)/python -m bpf

bench: $(STAMP) ## measure; ONLY=NAME for one of them, RUNS=N for more runs, LONG=1 in full
	@PYTHONPATH=netns-lab $(BIN)/python -m tests.bench $(if $(RUNS),--runs $(RUNS)) $(if $(LONG),--long) $(ONLY)

bench-quick: $(STAMP) ## ratios at small size, two minutes; AGAINST=DIR compares with another commit's
	@PYTHONPATH=netns-lab $(BIN)/python -m tests.bench --quick $(if $(AGAINST),--against $(AGAINST)) $(ONLY)

sim: $(STAMP) ## simulate NUP from 10 to 2,000 routers: table, result file, plot (an hour, 3 GB)
	@$(BIN)/python -m tests.sim --jobs $$(nproc)

flood: $(STAMP) ## a million forged datagrams from 100,000 sources at one router, twice: five minutes
	@NUP_FLOOD=1000000 $(PYTEST) -o faulthandler_timeout=0 -o timeout=0 tests/property/test_nup_flood.py

MINUTES ?= 20

soak: $(STAMP) ## random faults in a ring of eight, MINUTES=20 of them, SEED=N again, ROUNDS=N-M only these
	@$(BIN)/python netns-lab/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS))

attack: $(STAMP) ## adversaries of every kind against a router, eight minutes; SEED=N again, ONLY=NAME for one
	@PYTHONPATH=netns-lab $(BIN)/python -m tests.attack $(if $(SEED),--seed $(SEED)) $(ONLY)

SECONDS ?= 30

fuzz: $(STAMP) ## every decoder under a coverage-guided fuzzer, SECONDS=30 each; ONLY=NAME for one
	@$(PIP) install --requirement requirements-fuzz.txt
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(KEEP),--keep) $(ONLY)

SANITIZED := build/sanitized
SANITIZE := -fsanitize=address,undefined -g -O1 -fno-omit-frame-pointer -UNDEBUG

sanitize: $(STAMP) ## the C extensions in their tests, under the sanitizers of gcc (three minutes)
	@rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	@git ls-files -z | xargs -0 cp --parents -t $(SANITIZED)
	@cd $(SANITIZED) && CC=gcc CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" $(abspath $(BIN))/python setup.py -q build_ext --inplace
	@cd $(SANITIZED) && ls ipc/_search*.so routed/fib/routes/_routes*.so routed/snapshot/_writer*.so > /dev/null
	@cd $(SANITIZED) && ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=. \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider tests/unit/fib tests/unit/rib tests/unit/snapshot \
	  tests/property/test_trie.py tests/property/test_fib_search.py tests/property/test_delta_tracker.py

wheel: $(STAMP) ## the wheel with its data files, into dist/
	@$(PIP) wheel --wheel-dir dist --no-deps --no-build-isolation .
	@ls dist/routed-*.whl

deb: $(STAMP) ## the package for Debian 12, into build/deb/ (docs/install.md)
	@packaging/build-deb.sh $(abspath $(BIN))/python build/deb

debtest: deb ## install, run, upgrade and purge it in a bare Debian 12 (root, debootstrap)
	@packaging/try-deb.sh build/deb/routed_*.deb build/debtest

clean: ## remove the virtual environment, caches and build products
	rm -rf $(VENV) build dist bench-results *.egg-info ipc/*.so routed/*/*.so routed/*/*/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation is begun again. Where the checkout
# cannot be written, a .pth file does what an editable installation would do.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml setup.py $(wildcard ipc/native/*.[ch] routed/*/native/*.[ch] routed/*/*/native/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is missing or older than Python 3.11:" >&2; \
	  echo "install a newer one and name it, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@mkdir -p $(VENV) || { \
	  echo "$(VENV) cannot be made here; choose another place: make VENV=DIR $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@echo "making the virtual environment $(VENV) (once; a minute or so)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --requirement requirements-dev.txt
	@if [ "$(IS_WRITABLE)" ]; then $(PIP) install --no-deps --no-build-isolation --editable .; \
	  else pwd > "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/checkout.pth"; fi
	@touch $@
