# make demo     from a bare clone: set up, then watch the embedded model answer
# make test     the same set-up, then lint, types, schemas and all tests
# make check    lint, types and schemas only
# make bench    benchmarks; writes docs/measurements.md
# make bench-serving  under load, against peers, a quarter of an hour; writes docs/benchmarks.md and docs/plots
# make faults   kills, hangs, full disks, hostile models and worse under load, 20 minutes; writes docs/faults.md
# make docs     the documentation as a site, in build/site
# make try-device  a report of this machine's device, to paste: docs/trying-on-a-mac.md
# make walk     docs/start.md as a stranger walks it, from nothing to three programs, timed; needs the network
# make native   build the native part again
# make schemas  write schemas/ from the protocol package, and the types of the TypeScript client from them
# make clean    remove what was made
# make wheels   the Python distributions for the Python of .venv, into dist/; docs/install.md says what they are
# make wheels-all     the same for each CPython of PYTHONS, into dist/all/
# make test-install   every way of docs/install.md in environments of its own; needs the network, some minutes
#
# Variables: PYTHON (which interpreter the virtual environment is made with), PYTHONS (those that wheels-all builds for),
# PYTEST (arguments for pytest), MODEL, EXPECT and QUICK (of try-device), WORKERS (how many tests run at once: 3, for two cores, since many tests wait).

PYTHON ?=
PYTHONS ?= python3.11 python3.12 python3.13
PYTEST ?=
MODEL ?=
EXPECT ?=
QUICK ?=
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Some images set it. A test run starts a thousand processes, and each would compile all it imports: half as much again.
export PYTHONDONTWRITEBYTECODE :=
# The lock files name all there is to install. Compiling all of it would take longer than running once, which compiles
# what is imported: see $(VENV)/.compiled.
LOCKED := --no-deps --no-compile
NODE := $(shell tools/find_node.sh 2>/dev/null && echo there)
NATIVE_SOURCES := $(shell find native -name __pycache__ -prune -o -type f -print)

.PHONY: demo test bench bench-serving faults docs try-device native schemas wheels wheels-all check lint mypy pyright contract clean
.PHONY: setup setup-dev setup-programs setup-clients setup-neovim setup-real compiled-tests test-install walk

demo: setup
	$(BIN)/python tools/demo.py

# In lanes, because much of the set-up waits for the network, and two cores have a compiler and type checkers to run.
test:
	$(MAKE) --no-print-directory -j3 setup-real check setup-neovim compiled-tests
	PATH="$(CURDIR)/$(VENV)/node:$$PATH" OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=10 $(PYTEST)

check: lint mypy pyright contract

# These three read sources alone, and do not wait for the native part.
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: $(VENV)/.dev
	$(BIN)/mypy

pyright: $(VENV)/.dev
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

contract: setup-dev
	$(BIN)/python -m mlx_sidecar_protocol.schema --check
	$(BIN)/python -m mlx_sidecar_protocol.compatibility

bench: setup-dev
	$(BIN)/python -m benchmarks.run

bench-serving: setup-dev
	$(PIP) 'matplotlib>=3.10'
	$(BIN)/python -m benchmarks.serving --write

faults: setup-dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults --write

docs: setup-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

try-device: setup
	$(BIN)/python tools/try_device.py $(MODEL) $(if $(EXPECT),--expect $(EXPECT)) $(if $(QUICK),--quick)

walk: setup
	$(BIN)/python tools/walk.py

schemas: setup
	$(BIN)/python -m mlx_sidecar_protocol.schema
	! command -v npm >/dev/null || npm --prefix clients/typescript run --silent types

wheels: setup-dev
	tools/wheels.sh dist $(BIN)/python

wheels-all: setup-dev
	tools/wheels.sh dist/all $(PYTHONS)

test-install: setup-dev setup-clients setup-neovim
	MLX_SIDECAR_TEST_INSTALL=1 PYTHONS="$(PYTHONS)" $(BIN)/python -m pytest tests/install $(PYTEST)

native:
	rm -f $(VENV)/.native
	$(MAKE) setup

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/node/node_modules
	rm -rf dist clients/typescript/node_modules clients/typescript/dist clients/ai-sdk/node_modules clients/ai-sdk/dist
	rm -rf clients/vscode/node_modules clients/vscode/dist clients/vscode/out tests/clients/oldest_node/node_modules

# Set-up in stamped steps, so that the second run only looks at dates.
setup: $(VENV)/.compiled
setup-dev: setup $(VENV)/.dev
# These look at what is there themselves. Node may come with what is installed for development.
setup-programs:
	@tools/setup_programs.sh
setup-clients: setup-programs $(VENV)/.made $(if $(NODE),,setup-dev)
	@tools/setup_clients.sh
	@tools/setup_promtool.sh
setup-neovim: setup-dev
	@tools/setup_neovim.sh
# Behind the clients, whose Node it needs.
setup-real: setup setup-clients
	@OPENBLAS_NUM_THREADS=1 tools/setup_real.sh
# Compiles the tests and what they alone import, which each worker would do for itself. The run tells what is wrong.
compiled-tests: setup-dev
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 || true

$(VENV)/.made:
	@python=$$(tools/find_python.sh "$(PYTHON)") || exit 1; \
	echo "making $(VENV) with $$python"; rm -rf $(VENV); "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.locked: requirements-lock.txt $(VENV)/.made
	@echo "installing what requirements-lock.txt names"
	@$(PIP) $(LOCKED) -r requirements-lock.txt
	@touch $@

# Beside the native part, which is compiled for a minute: the two pips install different packages.
$(VENV)/.dev: requirements-dev-lock.txt $(VENV)/.locked
	@echo "installing what requirements-dev-lock.txt names"
	@$(PIP) $(LOCKED) -r requirements-dev-lock.txt
	@touch $@

# Installed for editing: edits to Python files need no reinstall. The import hook this brings costs 2 to 5 ms of the
# start-up (measured against plain paths in a .pth file), and it never builds anything: see editable.rebuild.
$(VENV)/.native: pyproject.toml clients/python/pyproject.toml $(NATIVE_SOURCES) $(VENV)/.locked
	@tools/check_compiler.sh
	@echo "building the native part and installing mlx-sidecar for editing"
	@$(PIP) --no-build-isolation --no-deps --editable ./clients/python --editable .
	@touch $@

# Where an image forbids writing bytecode, each start would compile all that it imports: 1.3 s instead of 0.4 s. One
# answer imports, and so compiles, what every start needs.
$(VENV)/.compiled: $(VENV)/.native
	@echo "compiling what mlx-sidecar imports"
	@$(BIN)/mlx-sidecar generate pocket Hello --max-tokens 1 >/dev/null
	@touch $@
