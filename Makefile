# Each target does its own set-up, in .venv, and skips it when nothing changed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up serve test test-slow test-browser counts attacks chaos check format audit digests bench bench-stream loadtest schemas lock clean

# The first of these that runs and is new enough is used; `make PYTHON=python3.12 setup` asks for one.
PYTHON ?= python3.13 python3.12 python3.11 python3 python
# Arguments for the program behind a target: `make demo ARGS=--check`, `make test ARGS="-k recommend"`.
ARGS ?=

# Programs are run as modules: the scripts in .venv/bin stop working when the folder is moved.
RUN := .venv/bin/python
UV := .venv/bin/uv
# Compiled once and kept, whatever the environment says: a program that compiles all it imports at each start takes
# up to twice as long to be there, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/bytecode
INSTALL := $(UV) pip install --python $(RUN) --quiet
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --annotation-style line \
	--no-header --no-emit-package millirec --quiet

# Programs of Debian's that single tests use; where they cannot be had, those tests say so and are skipped.
# Of Prometheus only promtool is wanted, so that nothing is installed that would start a server.
APT := DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq
APT_INSTALL = command -v $(1) || { [ "$$(id -u)" = 0 ] && { $(APT) install -y $(1) || { $(APT) update && $(APT) install -y $(1); }; }; }
define INSTALL_TOOLS
{ command -v apt-get && { \
	$(call APT_INSTALL,kcat); \
	command -v promtool || { mkdir -p .venv/prometheus && cd .venv/prometheus && $(APT) download prometheus && \
		dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb; }; \
}; } >/dev/null 2>&1 </dev/null || true
endef

# A .venv whose interpreter is gone is made anew.
$(if $(wildcard .venv),$(shell $(RUN) -c "" >/dev/null 2>&1 || rm -rf .venv))

help: ## List the targets
	@echo "usage: make TARGET [ARGS=...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.development ## Install everything that development needs into .venv

demo: .venv/.runtime ## The whole loop on real data, on http://localhost:8000 (ARGS=--check: headless)
	@$(RUN) -m millirec demo $(ARGS)

up: .venv/.runtime ## A small real deployment on this machine, without the demo's data
	@$(RUN) -m millirec up $(ARGS)

serve: .venv/.runtime ## Only the HTTP service, with the stores that the settings name
	@$(RUN) -m millirec serve $(ARGS)

test: .venv/.development ## Run the tests, on every core (ARGS="-k WORD" for some of them)
	@$(RUN) -m pytest -m "not slow" --ignore=tests/browser --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

test-slow: .venv/.development ## Run the tests that take minutes, and those of properties on many examples
	@$(RUN) -m pytest -m "slow or hypothesis" --hypothesis-profile thorough $(ARGS)

test-browser: .venv/.development ## Click through the console in a real Chromium; pictures go to reports/screenshots
	@{ $(call APT_INSTALL,chromium); } >/dev/null 2>&1 </dev/null || true
	@$(RUN) -m pytest -m browser tests/browser $(ARGS)

counts: .venv/.development ## Count how the code reads: sizes, vague names, docstrings (ARGS="app": where)
	@$(RUN) -m tests.architecture.counts $(ARGS)

attacks: .venv/.development ## Attack a running service in every way known, and print how others fared meanwhile
	@$(RUN) -m pytest tests/attacks $(ARGS)

chaos: .venv/.development ## Everything fails by lot, for 200,000 events (ARGS="--chaos-seed N -k streams")
	@$(RUN) -m pytest tests/chaos -m slow -rP $(ARGS)

check: .venv/.development ## Formatting, lint, types and the import rules
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

format: .venv/.development ## Format the code and mend what ruff can mend
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

audit: .venv/.development ## Look every pinned dependency up among the known vulnerabilities (3: their source is away)
	@.ci/audit

digests: ## Look up which bytes the base images are, for compose to take no others (needs docker and a network)
	@.ci/digests

bench: .venv/.development ## Measure capacity and latency on this machine
	@$(RUN) -m loadtests.bench $(ARGS)

bench-stream: .venv/.development ## Measure the consumer groups on this machine
	@$(RUN) -m loadtests.stream_bench $(ARGS)

loadtest: .venv/.development ## Locust against a running service (ARGS="--host http://localhost:8000")
	@$(RUN) -m locust -f loadtests/locustfile.py $(ARGS)

PROTO := recsys/messages/proto/millirec_v2
schemas: .venv/.development ## Compile the .proto file and write docs/schemas anew
	@$(RUN) -m grpc_tools.protoc -I $(dir $(PROTO)) --descriptor_set_out=$(PROTO).binpb $(PROTO).proto
	@$(RUN) -m millirec schemas docs/schemas

# Development is resolved first and holds the others to its versions, so that what is tested is what is shipped.
lock: .venv/.bootstrap ## Resolve the lock files anew (ARGS=--upgrade for the newest versions)
	$(COMPILE) $(ARGS) pyproject.toml --all-extras --group dev -o requirements/development.txt
	$(COMPILE) pyproject.toml --extra standalone -c requirements/development.txt -o requirements/runtime.txt
	$(COMPILE) pyproject.toml -c requirements/development.txt -o requirements/serve.txt
	$(COMPILE) pyproject.toml --extra console -c requirements/development.txt -o requirements/console.txt
	$(COMPILE) --group bootstrap -c requirements/development.txt -o requirements/bootstrap.txt

clean: ## Remove .venv and caches; data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.development: .venv/.runtime requirements/development.txt
	@echo "Installing what development needs ..."
	@$(INSTALL) --require-hashes -r requirements/development.txt
	@$(INSTALL_TOOLS)
	@touch $@

.venv/.runtime: .venv/.bootstrap requirements/runtime.txt pyproject.toml
	@echo "Installing millirec ..."
	@$(INSTALL) --require-hashes -r requirements/runtime.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# pip installs uv and the build backend, checked against hashes; from there on uv installs the rest.
.venv/.bootstrap: requirements/bootstrap.txt
	@for python in $(PYTHON) none; do \
	  "$$python" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))" 2>/dev/null && break; \
	done; \
	if [ "$$python" = none ]; then \
	  echo "millirec needs Python 3.11, 3.12 or 3.13, and none of these is one: $(PYTHON)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3.12 python3-pip; macOS: brew install python@3.13)," >&2; \
	  echo "or name yours: make PYTHON=/path/to/python3.12 setup" >&2; \
	  exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" -V) ..."; \
	rm -rf .venv; \
	if "$$python" -m pip --version >/dev/null 2>&1; then \
	  "$$python" -m venv --without-pip .venv && set -- "$$python" -m pip --python $(RUN); \
	elif "$$python" -c "import ensurepip" 2>/dev/null; then \
	  "$$python" -m venv .venv && set -- $(RUN) -m pip; \
	else \
	  echo "$$python has no pip: install it (Debian, Ubuntu: apt install python3-pip python3-venv) and try again." >&2; \
	  exit 1; \
	fi && "$$@" install -qq --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@
