# Everything a developer or a first-time user needs. Two commands matter: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
DATA ?= data
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
FUZZ_STAMP := $(VENV)/.installed-fuzz
SECONDS ?= 60
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test check format bench fuzz peers clean help

help:            ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(DEV_STAMP): $(STAMP)
	$(PIP) --constraint constraints.txt --group dev
	@touch $@

$(FUZZ_STAMP): $(DEV_STAMP)
	$(PIP) --constraint constraints.txt --group fuzz
	@touch $@

run: $(STAMP)    ## the whole server on this machine, with sample studies; Ctrl-C stops it, the data stay
	@$(BIN)/hounsfield viewer install || true  # without a way out there is no viewer, and all the rest
	@$(BIN)/hounsfield demo --samples samples --port $(PORT) --data-dir $(DATA)

peers: $(DEV_STAMP)  ## what the tests talk to: PostgreSQL, Azurite, an independent FHIR server, Chromium with the viewer
	@sh tests/peers/install.sh
	@$(BIN)/hounsfield viewer install || true

# Many tests kill, race or wait for other processes. One that fails is tried once more, and named as RERUN in the summary:
# who sees it there looks into it. What hypothesis has found fails again.
test: peers      ## all tests, in two processes: a server and its client seldom keep a processor busy
	@$(BIN)/python -m compileall -q src tests  # some machines forbid Python to do so by itself; hundreds of servers start
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --reruns 1 -raR

check: $(DEV_STAMP)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## put the code into its standard form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP)  ## the benchmarks beside Orthanc; QUICK=1 for a short run
	$(BIN)/python -m benchmarks --peer orthanc $(if $(QUICK),--quick)

fuzz: $(FUZZ_STAMP)  ## random files, bodies and headers against the parsers; SECONDS=600 for each of them, TARGET=reader for one
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(KEEP),--keep) $(TARGET)

clean:           ## everything that can be made again; your data stay
	rm -rf $(VENV) .peers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
