# Every command a person or CI runs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON_VERSION := python3.13
VENVS := .venvs
UV := $(VENVS)/uv/bin/uv
DEVELOPMENT := $(VENVS)/development/bin
CHECKED := functions layers/conversation layers/stepmark tests local benchmarks

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# --- environments: one for development, and one each for tools whose own pins would clash ------------

$(UV): requirements/uv.txt
	$(PYTHON_VERSION) -m venv $(VENVS)/uv
	$(VENVS)/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(VENVS)/%/.installed: requirements/%.txt $(UV)
	@echo "installing $(VENVS)/$*"
	$(UV) venv --quiet --clear --python $(PYTHON_VERSION) $(VENVS)/$*
	$(UV) pip install --quiet --python $(VENVS)/$* --require-hashes -r requirements/$*.txt
	@touch $@

development: $(VENVS)/development/.installed ## the environment for tests and linters
emulator: $(VENVS)/emulator/.installed
sam: $(VENVS)/sam/.installed
checkov: $(VENVS)/checkov/.installed

lock: $(UV) ## pin every requirement again, with hashes
	$(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.13 \
	  --no-emit-package botocore --no-emit-package python-dateutil --no-emit-package six --no-emit-package urllib3 \
	  -o layers/dependencies/requirements.txt layers/dependencies/requirements.in
	for name in uv emulator sam checkov development benchmark; do \
	  $(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.13 \
	    $$([ $$name = checkov ] && echo --only-binary :all:) \
	    $$([ $$name = development ] && echo -c layers/dependencies/requirements.txt) \
	    -o requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

# --- stepmark ------------------------------------------------------------------------------------------

stepmark-fuzz: development ## 50,000 random workflows against plain Python
	STEPMARK_EXAMPLES=50000 $(DEVELOPMENT)/pytest -q tests/stepmark/random --timeout 7200

benchmark-stepmark: $(VENVS)/benchmark/.installed ## stepmark's speed, and that of engines people would pick instead
	PYTHONPATH=layers/stepmark $(VENVS)/benchmark/bin/python benchmarks/stepmark_engines.py
	PYTHONPATH=layers/stepmark $(VENVS)/benchmark/bin/python benchmarks/stepmark_scaling.py

.PHONY: help development emulator sam checkov lock stepmark-fuzz benchmark-stepmark
