# Everything a newcomer needs, on a machine with Python >= 3.11, make and the package registries.
#
# `make run` and `make test` do all the set-up themselves, once: a virtual environment in .venv
# with the dependencies of requirements.lock, each checked by its hash.

VENV := .venv
BIN := $(VENV)/bin
# Where `lifecycle dev` keeps its data, unless the setting says otherwise.
LOCAL_DIR := $(or $(LIFECYCLE_LOCAL_DIR),.local)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTHON_CODE := import sys; sys.exit(sys.version_info < (3, 11))
# What ruff and mypy look at, as far as it is there. Alembic runs the migrations by their path.
TYPED := $(wildcard lifecycle tests tools benchmarks)
SOURCES := $(TYPED) $(wildcard migrations)

# An environment is good only where it was made, with the Python it was made with.
ifneq ($(shell cat $(VENV)/.made 2>/dev/null),$(CURDIR))
REMAKE := remake
else ifeq ($(shell $(BIN)/python -c '$(PYTHON_CODE)' 2>/dev/null && echo good),)
REMAKE := remake
endif

.DEFAULT_GOAL := help
.PHONY: help run test check format mutants bench lock clean remake
.DELETE_ON_ERROR:
# The set-up must not be done twice at once.
.NOTPARALLEL:

# Each has a Kafka and a PostgreSQL of its own. A file stays whole: its tests share fixtures.
TEST_PROCESSES ?= 2

help: ## list the targets
	@echo 'make run     set up, start everything, send a sample day, stay up (Ctrl-C stops)'
	@echo 'make test    set up, run every test on a real Kafka and a real PostgreSQL'
	@echo 'make check   formatting, lint, types, import rules, generated files'
	@echo 'make format  format the code, and mend what the linter can mend'
	@echo 'make mutants change each rule in turn: does a test notice? (long; ONLY=reasons)'
	@echo 'make bench   commands per second, beside a one-at-a-time version'
	@echo 'make lock    choose the versions of all dependencies anew'
	@echo 'make clean   remove the environment, the caches and the data in $(LOCAL_DIR)'

run: $(VENV)/.installed
	@$(BIN)/lifecycle dev

test: $(VENV)/.installed
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

check: $(VENV)/.installed
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
ifneq ($(wildcard tools/generated.py),)
	$(BIN)/python -m tools.generated --check
endif

format: $(VENV)/.installed
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix-only $(SOURCES)

# Nothing waits for it, so others go first.
mutants: $(VENV)/.installed
	@nice -n 10 $(BIN)/python -m tools.mutants $(ONLY) $(if $(JOBS),--jobs $(JOBS))

bench: $(VENV)/.installed
	@$(BIN)/python -m benchmarks.drain

# The registry is whichever the machine is set up for: the lock names none.
lock: $(VENV)/.installed
	$(BIN)/uv pip compile pyproject.toml --group dev --upgrade --universal --python-version 3.11 \
		--generate-hashes --only-binary :all: --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock
	$(BIN)/python -m tools.lock_kafka_jars

# Of the data folder only what is ours: the setting may name any folder. The data of PostgreSQL may
# be elsewhere, when root runs it; then there is a link to them.
OURS := kafka postgres kafka-docker postgres-docker kafka.log postgres.log ports.json owner.lock \
	servers.lock env

clean:
	@case "$$(readlink '$(LOCAL_DIR)/postgres')" in \
		*/card-lifecycle-*) rm -rf "$$(readlink '$(LOCAL_DIR)/postgres')";; \
	esac
	@for volume in $$(cat '$(LOCAL_DIR)'/*-docker/volume 2>/dev/null); do \
		docker volume rm "$$volume"; \
	done
	@for name in $(OURS); do rm -rf '$(LOCAL_DIR)'/"$$name"; done
	@rmdir '$(LOCAL_DIR)' 2>/dev/null || true
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/.made: $(REMAKE)
	@found=; for python in python3 python3.13 python3.12 python3.11; do \
		if "$$python" -c '$(PYTHON_CODE)' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'No Python >= 3.11 found: looked for python3, python3.13, python3.12, python3.11.' \
			'Install one and put it on the PATH.' >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) ($$(command -v "$$found"))"; \
	rm -rf $(VENV); \
	if "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		"$$found" -m venv $(VENV); \
	elif "$$found" -c 'import pip, venv' 2>/dev/null; then \
		"$$found" -m venv --without-pip $(VENV) && \
		"$$found" -m pip --python $(BIN)/python --no-input install --quiet pip; \
	else \
		echo "$$found has neither ensurepip nor pip, so it can make no virtual environment." \
			'On Debian and Ubuntu: apt install python3-venv.' >&2; exit 1; \
	fi
	@printf '%s\n' '$(CURDIR)' > $@

$(VENV)/.installed: $(VENV)/.made requirements.lock pyproject.toml
	@echo 'Installing the locked dependencies (the first time about a minute)'
	@$(PIP) install --require-hashes --only-binary :all: --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
