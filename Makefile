# Every target CI calls is one a person calls. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The image: the first engine that answers, and which packages go in.
ENGINE       ?= $(shell for each in docker podman buildah; do $$each info >/dev/null 2>&1 && echo $$each && break; done)
VERSION      := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
IMAGE        ?= sqs-file-processor:$(VERSION)
REQUIREMENTS ?= requirements.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kills test-image picture check format lock image sbom bench-start bench-signals bench-checkpoint bench-stream bench-codecs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The lock file is the stamp: a changed lock rebuilds the environment.
$(BIN)/.ready: requirements-dev.txt requirements-ministack.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/uv venv --quiet --clear $(VENV)/ministack
	$(BIN)/uv pip install --quiet --python $(VENV)/ministack --require-hashes -r requirements-ministack.txt
	@touch $@

setup: $(BIN)/.ready ## build .venv from the locked requirements

demo: $(BIN)/.ready ## run the whole system on this machine; FILES="a.csv b.gz" brings your own
	$(BIN)/python -m app demo $(FILES)

# More workers than cores: most tests wait for processes most of the time.
test: $(BIN)/.ready ## run the test suite; ARGS="-k lease" goes to pytest
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

test-kills: $(BIN)/.ready ## kill a worker 25 times at random moments (KILLS_SEED repeats a run), and cut every request alone
	KILLS=25 $(BIN)/python -m pytest tests/test_run_kills.py tests/test_run_cuts.py $(ARGS)

test-image: $(BIN)/.ready ## build the image on a fresh Debian and run it (root; needs buildah, debootstrap)
	$(BIN)/python -m pytest -m image tests/image $(ARGS)

picture: $(BIN)/.ready ## draw the README's picture of the demo anew (needs chromium)
	DEMO_PICTURE=docs/images/demo-report.png $(BIN)/python -m pytest tests/test_report.py -k looks

check: $(BIN)/.ready ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/.ready ## rewrite the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(BIN)/.ready ## bring the locked requirements up to date
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-annotate --extra dev --unsafe-package sqs-file-processor --no-emit-package sqs-file-processor --output-file requirements-dev.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-annotate --constraint requirements-dev.txt --output-file requirements.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-annotate --constraint requirements-dev.txt --extra lz4 --extra otel --extra parquet --output-file requirements-extras.txt pyproject.toml
	@# A second local AWS, for tests alone: it wants another SDK than the program, so it gets an environment of its own.
	echo ministack | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-annotate --output-file requirements-ministack.txt -

image: ## build the container image; IMAGE=name:tag, REQUIREMENTS=requirements-extras.txt, BUILD="--build-arg BASE=…"
	@test -n "$(ENGINE)" || { echo "needs docker, podman or buildah, and its service running" >&2; exit 1; }
	$(ENGINE) build $(BUILD) --build-arg REQUIREMENTS=$(REQUIREMENTS) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git describe --always --dirty --exclude '*' --abbrev=40 || echo unknown) \
		--build-arg CREATED=$$(git log -1 --format=%cI || echo unknown) --tag $(IMAGE) .

sbom: $(BIN)/.ready ## write build/sbom.cdx.json, the bill of materials of the image's packages
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/runtime
	$(BIN)/uv pip install --quiet --python build/runtime --require-hashes -r $(REQUIREMENTS)
	@# The version is told by app/__init__.py, where the tool does not look.
	sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/pyproject.toml
	$(BIN)/cyclonedx-py environment --pyproject build/pyproject.toml --output-reproducible --validate \
		--output-file build/sbom.cdx.json build/runtime

bench-start: $(BIN)/.ready ## whole life of a one-message process, beside bare boto3 and aiobotocore scripts
	$(BIN)/python bench/start.py

bench-signals: $(BIN)/.ready ## lateness of heartbeats, time from SIGTERM to exit
	$(BIN)/python bench/signals.py

bench-checkpoint: $(BIN)/.ready ## what a checkpoint() call costs, and its share of csv_profile
	$(BIN)/python bench/checkpoint.py

bench-stream: $(BIN)/.ready ## a large object beside boto3, aioboto3, obstore, CRT, s5cmd (needs nginx-light)
	$(BIN)/python bench/stream.py

bench-codecs: $(BIN)/.ready ## gzip to lines beside gzip.open
	$(BIN)/python bench/lines.py

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
