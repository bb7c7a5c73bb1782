PYTHON ?= python3
BIN := .venv/bin
MINUTES ?= 10
USERS ?= 100
RUN_TIME ?= 30s
SCENARIO ?= mixed
DEMO_ENV := IOTA_DEMO=1 SECRET_KEY=only-for-tools-that-import-the-settings IOTA_IDENTITY_KEY=another-only-for-tools-that-import-the-settings

SITE_OF_DOCS := $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --doctree-dir var/docs-work docs var/docs

.PHONY: demo loadtest wheel test coverage test-postgres test-django test-faults test-cluster test-topology test-alerts soak lint docs audit bench clean

demo: .venv/.runtime
	@exec $(BIN)/python -m iota.demo

# Two at a time, a file each: half of what the tests do is to wait. More would spoil their timing.
test: .venv/.development
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Only those that use a database; ONLY= for all.
ONLY := --only-database
test-postgres: .venv/.development
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --database=postgres $(ONLY) $(ARGS)

coverage: .venv/.development
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(ARGS)

# The limiter on the newest Django: as a wheel in fresh sites, and its own tests.
test-django: .venv/.development
	$(BIN)/python -m pytest tests/test_own_site.py tests/test_newest_django.py -n 2 --dist loadfile -m newest -p no:randomly $(ARGS)

test-faults: .venv/.development
	$(BIN)/python -m pytest tests/faults -m faults -p no:randomly $(ARGS)

test-cluster: .venv/.development
	$(BIN)/python -m pytest tests/cluster -m cluster -p no:randomly $(ARGS)

test-topology: .venv/.development
	$(BIN)/python -m pytest tests/topology -m topology -p no:randomly $(ARGS)

test-alerts: .venv/.development
	$(BIN)/python -m pytest tests/alerts -m alerts -p no:randomly $(ARGS)

# The limiter as a package, for sites of others: dist/iota_ratelimits-*.whl
wheel: .venv/.development
	@rm -rf build dist
	$(BIN)/python -m build --no-isolation

# On a site of its own; recorded in the demo's database. More by ARGS="--shape steps --processes 2".
loadtest: .venv/.development
	@$(BIN)/python -m iota.loadtest --users $(USERS) --run-time $(RUN_TIME) --scenario $(SCENARIO) $(ARGS)

soak: .venv/.development
	$(BIN)/python -m tests.faults.soak $(MINUTES)

lint: .venv/.development
	$(BIN)/python -m tests.audit --offline
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(DEMO_ENV) $(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(DEMO_ENV) $(BIN)/python manage.py makemigrations --check --dry-run
	$(DEMO_ENV) $(BIN)/python -m iota.handbook --check
	$(SITE_OF_DOCS)

# What the code knows is written into docs/ first; the site is made of what lies there.
docs: .venv/.development
	$(DEMO_ENV) $(BIN)/python -m iota.handbook
	$(SITE_OF_DOCS)
	@echo "docs: var/docs/index.html"

audit: .venv/.development
	$(BIN)/python -m tests.audit $(ARGS)

bench: .venv/.development
	$(DEMO_ENV) $(BIN)/python manage.py benchmark targets $(ARGS)

clean:
	rm -rf .venv var build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "IOTA needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/.runtime: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.development: requirements.txt requirements-otel.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
