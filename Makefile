# The one door. `make` alone lists the targets; the README explains them.
# Each target prepares what it needs, so that any of them works in a fresh clone.

PYTHON ?= python3
export WORKERS ?= 2
PORT ?= 8000
MINUTES ?= 25
COURSE ?= course
SEED ?= 1
SOURCE ?= book/assignments/source

VENV := .venv
BIN := $(VENV)/bin
ENV := $(VENV)/.made-from-lock
SITE := _build/html
NPM := node_modules/.made-from-lock

# One thread a process: on small networks a second thread costs more time than it saves.
export OMP_NUM_THREADS ?= 1
export UV_COMPILE_BYTECODE = 1
export IMAGEGEN_BUDGET ?= quick
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env data site-packages book serve test lint format notebooks pytest test-site linkcheck bench ledger \
	mutants weights assignments collect grade grade-contained feedback grade-demo check publish-as lock colab-resolve \
	clean-notebooks address clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

# --- what the targets stand on -------------------------------------------------------------------------------------

env: $(ENV)  ## make the environment in .venv, exactly as requirements.lock says

$(ENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This book needs Python 3.11 or newer, and \"$(PYTHON)\" is: $$($(PYTHON) --version 2>&1)"; \
	  echo "Name another one: make $(or $(MAKECMDGOALS),book) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "\"$(PYTHON) -m venv\" failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip install --python $(BIN)/python --requirements requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(NPM): package-lock.json book/_ext/vendor.mjs
	@command -v npm > /dev/null || { echo "Node.js with npm is needed for the website: see README.md"; exit 1; }
	npm ci --no-audit --no-fund
	npm run --silent vendor
	@touch $@

data: $(ENV)  ## find or fetch Fashion-MNIST
	$(BIN)/imagegen data --fetch

site-packages: $(NPM)  ## fetch what the website serves: formulas and the model runtime

# --- readers -------------------------------------------------------------------------------------------------------

book: $(ENV) data $(NPM)  ## build the website into _build/html
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo
	@echo "The book is built. To read it: make serve, then open http://localhost:$(PORT)"

serve: $(ENV)  ## serve the built website on this machine
	@test -f $(SITE)/index.html || { echo "There is no built site yet: make book"; exit 1; }
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

# --- contributors --------------------------------------------------------------------------------------------------

test: lint data $(NPM) ledger mutants pytest  ## everything a contributor needs green

lint: $(ENV)  ## style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: $(ENV)  ## put the code in the form that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every notebook of the book runs, cell by cell, beside the tests; the stored outputs of its exact cells are compared.
# The assignments' notebooks run in tests/test_assignments.py.
pytest: $(ENV)
	$(BIN)/pytest -n $(WORKERS) --dist loadscope -m "not site" --durations=30 --ignore=book/assignments \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=240 --nbval-sanitize-with tests/nbval_sanitise.cfg \
	  tests book

notebooks: $(ENV) data  ## run every notebook and compare the outputs of its exact cells
	$(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=240 --ignore=book/assignments \
	  --nbval-sanitize-with tests/nbval_sanitise.cfg book

test-site: $(ENV)  ## test the built website in a browser, after make book
	@test -f $(SITE)/index.html || { echo "There is no built site yet: make book"; exit 1; }
	$(BIN)/pytest -n $(WORKERS) -m site tests/browser tests/test_course.py

ledger: $(ENV)  ## count the numbered equations and the tests that claim them
	$(BIN)/python book/_ext/ledger.py

mutants: $(ENV)  ## plant each historic bug; the tests must fail on every one
	$(BIN)/python -m tests.mutants --workers $(WORKERS)

bench: $(ENV) data  ## measure against the figures to beat
	$(BIN)/python -m benchmarks

weights: $(ENV) data  ## train each recipe whose shipped weights are out of date (MINUTES=25)
	$(BIN)/imagegen train --stale --minutes $(MINUTES)

# --- courses -------------------------------------------------------------------------------------------------------

assignments: $(ENV)  ## make the students' notebooks, without solutions, in course/release (SEED=1 SOURCE=folder)
	$(BIN)/python scripts/coursework.py release --course "$(COURSE)" --seed $(SEED) --source "$(SOURCE)"

collect: $(ENV)  ## sort a platform's zip into course/submitted (ZIP=file ASSIGNMENT=name)
	$(BIN)/python scripts/collect.py "$(ZIP)" --course "$(COURSE)" $(if $(ASSIGNMENT),--assignment $(ASSIGNMENT))

grade: $(ENV)  ## grade what lies in course/submitted/STUDENT/ASSIGNMENT, with your own rights
	$(BIN)/python scripts/coursework.py grade --course "$(COURSE)"

grade-contained: $(ENV) data  ## the same, each student in a box without network (ENGINE=podman, docker or bwrap)
	$(BIN)/python scripts/contained.py --course "$(COURSE)" $(if $(ENGINE),--engine $(ENGINE))

feedback: $(ENV)  ## write what each student is told, in course/feedback (SHOW=results, points or all)
	$(BIN)/python scripts/feedback.py --course "$(COURSE)" $(if $(SHOW),--show $(SHOW))

grade-demo: $(ENV)  ## grade a simulated class of 30, and print who made which mistake
	$(BIN)/python -m tests.assignments

check: $(ENV)  ## run a notebook as it would be handed in, and say what is missing (FILE=notebook)
	$(BIN)/python scripts/check_notebook.py "$(FILE)"

publish-as: export BOOK_TITLE = $(TITLE)
publish-as: export BOOK_AUTHOR = $(AUTHOR)
publish-as: $(ENV)  ## make this copy your own edition: TITLE="..." AUTHOR="..." URL=https://...
	$(BIN)/python scripts/publish_as.py --title "$$BOOK_TITLE" --author "$$BOOK_AUTHOR" --url "$(URL)"

# --- upkeep --------------------------------------------------------------------------------------------------------

lock: $(ENV)  ## write requirements.lock anew from pyproject.toml; UPGRADE=1 takes newer versions
	$(BIN)/uv pip compile pyproject.toml --all-extras --group test --universal --generate-hashes \
	  $(if $(UPGRADE),--upgrade) --quiet --custom-compile-command "make lock" -o requirements.lock

clean-notebooks: $(ENV)  ## put every notebook in the committed form
	$(BIN)/python scripts/notebook_form.py clean

address: $(ENV)  ## write the repository's address into every notebook: make address URL=https://...
	$(BIN)/python scripts/notebook_form.py address "$(URL)"

linkcheck: $(ENV) data $(NPM)  ## follow every external link of the book (needs the network)
	$(BIN)/jupyter-book build . --builder linkcheck

colab-resolve: $(ENV)  ## does the package fit beside what Colab has? (asks the package index)
	$(BIN)/uv pip compile pyproject.toml --constraint tests/colab_constraints.txt --python-version 3.13 \
	  --python-platform linux --no-header --quiet > /dev/null && echo "imagegen fits beside Colab's packages"

clean:  ## remove what was built; the environment and the data stay
	rm -rf _build node_modules book/_static/vendor build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
