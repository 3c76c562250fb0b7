# Every word here works from a fresh clone: it first makes .venv with what it needs.
.PHONY: help run demo test test-fast test-slow test-promises soak bench bench-peers profile screenshots lint fix clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

run: $(VENV)/run.installed ## start the gateway on the embedded store, TCP 5001, HTTP 8080
	@exec $(BIN)/gateway serve

demo: $(VENV)/run.installed ## the same, and 50 invented events a second, until Ctrl-C
	@exec sh -c "$$DEMO"

# The gateway is kept apart from the terminal's Ctrl-C, so that the sender ends first.
define DEMO
sender= stopped= failed=0
greeting=$$(mktemp) || exit 1
trap 'rm -f "$$greeting"' EXIT
trap 'stopped=1; kill $${sender:-$$gateway} 2>/dev/null' INT TERM HUP
end_of() { wait $$1; code=$$?; while kill -0 $$1 2>/dev/null; do wait $$1; code=$$?; done; return $$code; }

$(BIN)/python -c 'import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])' \
	$(BIN)/gateway serve >"$$greeting" & gateway=$$!
while [ ! -s "$$greeting" ] && kill -0 $$gateway 2>/dev/null; do sleep 0.2; done
cat "$$greeting"
if [ -s "$$greeting" ] && [ -z "$$stopped" ]; then
	TERM=dumb $(BIN)/gateway generate --continuous & sender=$$!
	# The sender would wait for a gateway that is gone.
	{ while kill -0 $$gateway 2>/dev/null; do sleep 1; done; kill $$sender 2>/dev/null; } & watch=$$!
	end_of $$sender || [ -n "$$stopped" ] || failed=1
	kill $$gateway $$watch 2>/dev/null
fi
end_of $$gateway || failed=1
exit $$failed
endef
export DEMO

test-fast: $(VENV)/test.installed ## the tests that need no other process and do not wait
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not elasticsearch and not process and not waits"

test: $(VENV)/test.installed ## the test suite, with a real Elasticsearch that it starts itself
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/test.installed ## kills, soak, foreign clients, the browser
	$(BIN)/python -m pytest -q -m slow

test-promises: $(VENV)/test.installed ## the promises' tests with two workers, and without the fast decoder
	GATEWAY_WORKERS=2 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" tests/promises
	GATEWAY_DECODER=pydantic $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" tests/promises

soak: $(VENV)/test.installed ## an hour of kills, 1,000 of them, and a table of what came of it
	$(BIN)/python -m tests.crash.soak --seconds 3600 --kills 1000

bench: $(VENV)/test.installed ## CPU, speed, latency and memory against their targets, into benchmarks/results
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/test.installed ## the same events through every peer that is installed
	$(BIN)/python -m benchmarks.peers

profile: $(VENV)/test.installed ## a flame graph, and the table of steps in ARCHITECTURE.md
	$(BIN)/python -m benchmarks.profile --write

screenshots: $(VENV)/test.installed ## the console's pages as pictures, into docs/screenshots; needs Chromium
	$(BIN)/python -m tests.browser.screenshots

lint: $(VENV)/lint.installed $(VENV)/test.installed ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/lint.installed ## mend what can be mended: style, gateway.example.yaml
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m gateway.settings.example > gateway.example.new && mv gateway.example.new gateway.example.yaml

clean: ## remove the virtual environment and caches, keep the data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Name one with PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python -m venv failed: on Debian install python3-venv." >&2; exit 1; }

$(VENV)/run.installed: $(BIN)/python pyproject.toml
	@echo "Installing the gateway into $(VENV) (once, about half a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test.installed: $(BIN)/python pyproject.toml
	@echo "Installing what the tests need into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/run.installed

$(VENV)/lint.installed: $(BIN)/python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lint]'
	@touch $@ $(VENV)/run.installed
