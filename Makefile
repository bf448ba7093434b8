# make reproduce   regenerate tables and figures       PROFILE=smoke|sample|sample-gpu|flir|flir-gpu|paper   ONLY="table-1 figure-6"   CLUSTER=slurm
# make data        images for PROFILE=sample and weights   SETS="general FLIR-aligned"   YES=1   MIRROR=http://...
# make test        library tests, then every notebook  make test-cluster · lint · bench · lab · notebooks · report · lock
# make check       the numbers of the last run of PROFILE against the committed ones, trained ones against their bands
# make train-general   the weights of method MoE-Fusion, an hour on one core   SEED=0   OUT=folder
# make campaign    thousands of odd and damaged files drawn by SEED=n, each held against what it means   FACTOR=0.1
PROFILE ?= smoke
ONLY ?=
SETS ?=
SEED ?=
FACTOR ?=
FETCH = $(if $(YES),--yes) $(if $(MIRROR),--mirror "$(MIRROR)")
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# One thread a process: two tests or notebooks share two cores, and sums do not depend on the machine.
ONE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: install data reproduce dry-run test unit test-cluster notebooks check refresh wheel docs lint bench campaign train-general lab report lock clean

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed and none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

reproduce: install
	@exec $(BIN)/python -m workflow.reproduce --with-parent --profile "$(PROFILE)" --only "$(ONLY)" $(if $(CLUSTER),--cluster "$(CLUSTER)")

# SETS alone where it is given; a failure of the first half does not keep the second from its work.
data: install
	@status=0; \
	$(BIN)/fusionlib data get $(or $(SETS),sample) $(FETCH) || status=1; \
	$(if $(SETS),,$(BIN)/fusionlib data weights all $(FETCH) || status=1;) \
	exit $$status

dry-run: install
	@$(BIN)/python -m workflow.reproduce --profile "$(PROFILE)" --only "$(ONLY)" --dry-run

test: unit notebooks check

unit: install
	$(ONE) $(BIN)/python -m pytest -q -n 2 tests

# A SLURM of one node, without accounting and with it, started and ended by the test; where Debian's
# packages lack it says which.
test-cluster: install
	@PYTHONPATH=. $(ONE) $(BIN)/python tests/cluster.py

notebooks: install
	$(ONE) $(BIN)/python -m pytest -q -n 2 --dist loadfile --nbval-lax -p no:cacheprovider notebooks

check: install
	@$(BIN)/python -m workflow.check_results "reports/$(PROFILE)"

# Re-execute the committed notebooks in place, after a change of the library.
refresh: install
	@for notebook in notebooks/*.ipynb; do echo $$notebook; \
		$(ONE) $(BIN)/python workflow/execute_notebooks.py $$notebook || exit 1; done

# The wheel as others install it, in a bare environment away from here.
wheel: install
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	$(BIN)/python workflow/check_wheel.py dist/*.whl

# Guides, library and executed notebooks as pages in docs/_build/html; nothing is asked of a network.
docs: install
	rm -rf docs/_build
	$(ONE) $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	$(BIN)/python -m workflow.check_pages docs/_build/html

lint: install
	$(BIN)/ruff check fusionlib workflow tests benchmarks notebooks docs
	$(BIN)/ruff format --check fusionlib workflow tests benchmarks notebooks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	@for script in $(if $(ONLY),$(addprefix benchmarks/,$(addsuffix .py,$(subst -,_,$(ONLY)))),$(wildcard benchmarks/*.py)); do \
		PYTHONPATH=. $(ONE) $(BIN)/python $$script || exit 1; done

# The general model again: resumes where it was; OUT, SEED and PRESET=general-paper as wanted.
train-general: install
	$(ONE) $(BIN)/python -m fusionlib.training --preset $(or $(PRESET),general) --seed $(or $(SEED),0) \
		--output $(or $(OUT),reports/local/$(or $(PRESET),general)-$(or $(SEED),0))

campaign: install
	$(ONE) $(BIN)/python -m benchmarks.campaign $(or $(SEED),0) --factor $(or $(FACTOR),1)

lab: install
	$(BIN)/jupyter lab notebooks

report: install
	@$(BIN)/fusionlib report reports/$(PROFILE)

lock:
	uv pip compile --universal --python-version 3.11 --extra all --extra docs --extra dev --no-header --generate-hashes --custom-compile-command "make lock" \
		-o requirements.lock pyproject.toml

clean:
	rm -rf reports/smoke reports/sample reports/local
