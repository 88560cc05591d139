# `make demo` and `make test` do all the set-up themselves; they need Python 3.11 or newer, make, and a package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := PIP_USER=0 $(BIN)/python -m pip --disable-pip-version-check install --quiet
TEST   := $(BIN)/python -m pytest
JOBS   ?= 2
unexport PYTHONDONTWRITEBYTECODE  # with it each process of pytest compiles all tests, which takes ten seconds

.PHONY: help demo test docker check format unit contract api model e2e kubernetes cell cluster versions pythons slow failures mutants structure manifests images test-images dist bench bench-peers goals rest lock clean

help:
	@echo "make demo    multi-model endpoint, real predictions, by an unchanged boto3 program"
	@echo "make test    unit, contract, api, model and e2e tests (each of these words: one kind alone; TORCH=1: with torch)"
	@echo "make docker  the tests that need Docker, which make test leaves out"
	@echo "make kubernetes tests on a cluster of our own; with HOSTLER_TEST_REQUIRE=cluster on that of KUBECONFIG"
	@echo "make cell    the e2e tests that know hostler by its API alone, on a hostler that the chart has installed in that cluster"
	@echo "make cluster start that cluster, for kubectl and helm, in FOLDER=/tmp/hostler-cluster"
	@echo "make versions tests with the oldest of each dependency, and beside the SageMaker SDKs 2 and 3"
	@echo "make pythons tests on Python 3.13 and 3.14 of Debian, as root (PYTHONS=...: other suites, or interpreters)"
	@echo "make slow    the tests that take minutes"
	@echo "make failures failures of each part of a cluster under 10,000 calls"
	@echo "make test-images build the images that the tests on Docker use (they build what they need themselves, too)"
	@echo "make mutants put each of 32 faults into a copy of the code; a test must catch each"
	@echo "make check   format, lint, types, import floors, structure, manifests (make format: fix the first two)"
	@echo "make images  the Docker images hostler and hostler-server (BASE=..., EXTRAS=xgboost,sklearn)"
	@echo "make dist    the sdist and the wheel, in dist/"
	@echo "make bench   hostler beside nginx and a FastAPI server, in minutes (make bench-peers: beside other model servers, too)"
	@echo "make goals   the times to start, to answer and to recover"
	@echo "make rest    memory and CPU of an idle hostler"
	@echo "make lock    resolve requirements/*.txt again from pyproject.toml"

# Stamps record the installed locks: a lock is installed once, and again after each change.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("hostler needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(PIP) -r requirements/demo.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt pyproject.toml | $(BIN)/python
	$(PIP) -r requirements/test.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

# PyPI's wheels for Linux include gigabytes of CUDA, so only `make test TORCH=1` installs torch, transformers, which needs it,
# and catboost, which is large. Their tests are skipped until they are installed.
$(VENV)/.torch: $(VENV)/.test
	$(PIP) torch==2.13.0 transformers==4.57.6
	$(PIP) --no-deps catboost==1.2.10  # what else it requires draws plots
	@touch $@

# Environments with the oldest of everything, and with AWS's SDK 2 and SDK 3; each has s3fs, pandas and hostler, too.
VERSIONS := oldest sdk2 sdk3
$(VERSIONS:%=$(VENV)/%/.installed): $(VENV)/%/.installed: requirements/%.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/$*
	$(PIP_OF) -r requirements/$*.txt
	$(PIP_OF) --no-deps --no-build-isolation --editable .
	$(VENV)/$*/bin/python -m pip --disable-pip-version-check check
	@touch $@
PIP_OF = PIP_USER=0 $(VENV)/$*/bin/python -m pip --disable-pip-version-check install --quiet

# AWS's JavaScript SDK, for a test that is skipped without it.
$(VENV)/javascript/.installed: requirements/javascript/package-lock.json
	@mkdir -p $(@D)
	cp requirements/javascript/*.json $(@D)
	npm --prefix $(@D) ci --no-audit --no-fund
	@touch $@

# helm and kubectl, for the chart and its tests.
$(VENV)/cluster/.installed: tools/cluster_tools.py | $(VENV)/.test
	$(BIN)/python tools/cluster_tools.py $(@D)
	@touch $@

TESTED := $(VENV)/.test $(VENV)/cluster/.installed $(if $(TORCH),$(VENV)/.torch)

demo: $(VENV)/.demo
	@$(BIN)/hostler demo

# The tests of a file run in the same process.
BESIDE = -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Tests that measure, or load the machine, run alone afterwards, even after failures. They are all in tests/e2e.
test e2e: $(TESTED)
	@failed=0; \
	$(TEST) -m "not slow and not alone and not docker" $(BESIDE) $(if $(filter e2e,$@),tests/e2e) || failed=$$?; \
	$(TEST) -m "not slow and alone and not docker" tests/e2e || failed=$$?; \
	exit $$failed

docker: $(TESTED)
	@failed=0; \
	$(TEST) -m "not slow and not alone and docker" $(BESIDE) || failed=$$?; \
	$(TEST) -m "not slow and alone and docker" tests/e2e || failed=$$?; \
	exit $$failed

unit contract api model kubernetes: $(TESTED)
	$(TEST) -m "not slow" $(BESIDE) tests/$@

# The oldest version of each dependency and client passes the tests, and hostler runs beside the newest SDK 2 and SDK 3.
CLIENTS := tests/e2e/test_clients.py tests/e2e/test_programs.py
versions: $(VERSIONS:%=$(VENV)/%/.installed)
	@failed=0; unset HOSTLER_TEST_REQUIRE; \
	$(VENV)/oldest/bin/python -m pytest -m "not slow" $(BESIDE) tests/unit tests/api $(CLIENTS) tests/e2e/test_sdk_v2.py || failed=$$?; \
	$(VENV)/sdk2/bin/python -m pytest -m "not slow" $(CLIENTS) tests/e2e/test_sdk_v2.py || failed=$$?; \
	$(VENV)/sdk3/bin/python -m pytest -m "not slow" $(CLIENTS) || failed=$$?; \
	exit $$failed

# Unit and contract tests, and some e2e tests, in trees made by debootstrap. Wants: root, debootstrap, util-linux.
PYTHONS ?= trixie sid
pythons: $(BIN)/python
	$(BIN)/python tools/pythons.py $(PYTHONS)

FOLDER ?= /tmp/hostler-cluster
cluster: $(TESTED)
	PYTHONPATH=tests:tests/kubernetes $(BIN)/python -m fake_cluster --folder $(FOLDER)

# One hostler for all of them; with HOSTLER_TEST_REQUIRE=cluster in the cluster of KUBECONFIG.
SUITES := direct pipelines variants update_endpoint streams frameworks images_of_xgboost scripts_of_images multi_model_notebooks
cell: $(TESTED)
	$(TEST) --cell $(SUITES:%=tests/e2e/test_%.py)

# Three at a time: most of these tests wait for most of their time.
FAILURES := failures dockerd failed_updates
FAILURES := $(FAILURES:%=tests/kubernetes/test_%_of_a_cluster.py)
slow: JOBS := 3
slow: $(TESTED)
	@failed=0; \
	$(TEST) -m "slow and not alone" $(BESIDE) $(FAILURES:%=--ignore=%) || failed=$$?; \
	$(TEST) -m "slow and alone" tests/e2e || failed=$$?; \
	exit $$failed

failures: $(TESTED)
	$(TEST) -m slow $(FAILURES)

test-images: $(VENV)/.test
	$(BIN)/python tests/docker_rig.py

mutants: $(VENV)/.test
	$(BIN)/python tools/mutants.py

check: $(VENV)/.test $(VENV)/cluster/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/structure.py
	$(BIN)/python tools/manifests.py --check

structure: $(VENV)/.test
	$(BIN)/python tools/structure.py

manifests: $(VENV)/cluster/.installed
	$(BIN)/python tools/manifests.py

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

images: $(VENV)/.demo
	PYTHON=$(BIN)/python deploy/docker/build

# Their other programs are installed below ~/.cache/hostler-bench. Options: $(BIN)/python bench/run.py --help
bench: $(VENV)/.demo
	$(BIN)/python bench/run.py

bench-peers: $(VENV)/.demo
	$(BIN)/python bench/run.py --contenders all

# The tools are newer than any lock: they go into no environment of hostler's.
dist: | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/release
	PIP_USER=0 $(VENV)/release/bin/python -m pip --disable-pip-version-check install --quiet build twine
	rm -rf build dist src/*.egg-info
	$(VENV)/release/bin/python -m build
	$(VENV)/release/bin/twine check --strict dist/*

goals: $(VENV)/.test
	$(BIN)/python bench/goals.py
	$(BIN)/python bench/updates.py
	$(BIN)/python bench/suites.py

rest: $(VENV)/.test
	$(BIN)/python bench/rest.py

LOCK_OF_IMAGES = $(BIN)/uv pip compile --quiet --no-header --no-annotate --universal --fork-strategy fewest --python-version 3.11
LOCK = $(LOCK_OF_IMAGES) --extra demo --group build pyproject.toml
SERVERS := --extra sklearn --extra onnx --extra lightgbm --extra aws-hosts --extra docker --extra kubernetes
lock: $(VENV)/.test
	$(PIP) uv
	$(LOCK) --upgrade $(SERVERS) --group check --group test --output-file requirements/test.txt
	$(LOCK) --constraint requirements/test.txt --upgrade --output-file requirements/demo.txt
	$(LOCK) --upgrade --extra sklearn --extra aws-hosts --extra docker --extra kubernetes --group sdk2 --output-file requirements/sdk2.txt
	$(LOCK) --upgrade --extra sklearn --extra aws-hosts --extra docker --extra kubernetes --group sdk3 --output-file requirements/sdk3.txt
	$(LOCK_OF_IMAGES) --constraint requirements/test.txt --upgrade --group images --output-file requirements/images.txt
	cd requirements/javascript && npm update --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	$(LOCK) --upgrade --resolution lowest-direct $(SERVERS) --group oldest --output-file requirements/oldest.txt

clean:
	rm -rf $(VENV) build dist src/*.egg-info .*_cache .hypothesis
