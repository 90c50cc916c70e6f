# `make` alone lists the commands.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where it is set, each of a thousand processes would compile all that it imports: 3 s instead of 1.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-slow test-airflow test-spark test-dialects test-image model bench \
	bench-pace bench-refresh bench-size bench-increment bench-destinations \
	check format docs lock clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# A stamp is as old as what it was installed from, so a second `make` installs nothing.
$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 setup"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(VENV)/.installed  ## create .venv with the pinned dependencies

demo: setup  ## the whole product against the bundled sandbox, no credentials
	@$(BIN)/crmcom demo

test: setup  ## the tests that every change must pass
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: setup  ## the long tests too
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Airflow in an environment of its own: it brings a hundred packages that nothing else needs.
$(VENV)-airflow/.installed: docs/schedule/airflow/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-airflow
	$(VENV)-airflow/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

test-airflow: setup $(VENV)-airflow/.installed  ## the DAG under real Airflow, which is installed for it
	CRMCOM_AIRFLOW=$(VENV)-airflow/bin/python $(BIN)/python -m pytest tests/schedule/test_airflow.py

# So is Spark's: 500 MB. It needs Java.
$(VENV)-spark/.installed: docs/spark/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-spark
	$(VENV)-spark/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

test-spark: setup $(VENV)-spark/.installed  ## the marts on Apache Spark, row by row; needs Java 17
	CRMCOM_SPARK=$(abspath $(VENV)-spark/bin/python) $(BIN)/python -m pytest tests/destinations/test_spark.py

$(VENV)-dialects/.installed: tests/dialects/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-dialects
	$(VENV)-dialects/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

test-dialects: setup $(VENV)-dialects/.installed  ## the marts' SQL for engines that are not here
	CRMCOM_DIALECTS=$(abspath $(VENV)-dialects/bin/python) $(BIN)/python -m pytest tests/dialects

test-image: setup  ## the container file's steps, without a container; installs from the network
	CRMCOM_INSTALLS=1 $(BIN)/python -m pytest tests/schedule/test_container.py

EXAMPLES ?= 20000
model: setup  ## tens of thousands of random sequences of changes, faults, kills and syncs
	CRMCOM_MODEL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 tests/model/test_model.py

bench: setup  ## a first load beside other tools, twenty minutes; writes docs/performance.md
	$(BIN)/python benchmarks/first_load.py

bench-pace: setup  ## a limit that nobody told; writes the figures of docs/pace.md
	$(BIN)/python benchmarks/pace.py

bench-refresh: setup  ## a year under account_refresh; writes the figures of docs/account-refresh.md
	$(BIN)/python benchmarks/account_refresh.py

bench-size: setup  ## a year of 20,000 and of 200,000 accounts; writes the figures of docs/size.md
	$(BIN)/python benchmarks/size.py

bench-increment: setup  ## a thousand new activities beside 20,000 and 2 million; docs/size.md too
	$(BIN)/python benchmarks/increment.py

bench-destinations: setup  ## one load into each destination; the figures of docs/destinations.md
	$(BIN)/python benchmarks/destinations.py

check: setup  ## lint, types, SQL style, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --verbose
	$(BIN)/sqlfluff lint transforms

format: setup  ## put the code in its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix transforms

docs: setup  ## write the reference from the code, and build the site in build/site
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/site.py

lock:  ## compile requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade -o requirements.lock

clean:  ## remove what make made
	rm -rf $(VENV) $(VENV)-airflow $(VENV)-spark $(VENV)-dialects .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
