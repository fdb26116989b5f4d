# Every command a person or CI runs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

# To make, a value is an expression: functions in it, which may run commands, are called as soon as something refers
# to it or a recipe starts. So the text of STACK is taken as it stands, and is the name of a stack or refused.
override export STACK := $(value STACK)
LETTERS := a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
dotted = $(if $2,$(call dotted,$(subst $(firstword $2),. ,$1),$(wordlist 2,99,$2)),$1)
CHARACTERS := $(call dotted,$(STACK),$(LETTERS) 0 1 2 3 4 5 6 7 8 9 -)
ifeq (<$(STACK)>,<>)
else ifneq (<$(STACK)>,<$(filter $(addsuffix %,$(LETTERS)),$(firstword $(STACK)))>)
  $(error STACK must be a stack's name: it begins with a letter and has no spaces)
else ifneq (<$(filter-out .,$(CHARACTERS))>,<>)
  $(error STACK must be a stack's name: it has letters, digits and hyphens alone)
else ifneq (<$(wordlist 129,129,$(CHARACTERS))>,<>)
  $(error STACK must be a stack's name: it has 128 characters at most)
endif

PYTHON_VERSION := python3.13
VENVS := .venvs
UV := $(VENVS)/uv/bin/uv
DEVELOPMENT := $(VENVS)/development/bin
CHECKED := functions layers/conversation layers/journeys layers/stepmark tests local operations benchmarks

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

# --- environments: one for development, and one each for tools whose own pins would clash ------------

# Wheels alone: to build a package from its source is to run whatever its authors wrote.
LOCKED := --require-hashes --only-binary :all:

$(UV): requirements/uv.txt
	$(PYTHON_VERSION) -m venv $(VENVS)/uv
	$(VENVS)/uv/bin/pip install --quiet --disable-pip-version-check $(LOCKED) -r requirements/uv.txt

$(VENVS)/%/.installed: requirements/%.txt $(UV)
	@echo "installing $(VENVS)/$*"
	$(UV) venv --quiet --clear --python $(PYTHON_VERSION) $(VENVS)/$*
	$(UV) pip install --quiet --python $(VENVS)/$* $(LOCKED) -r requirements/$*.txt
	@touch $@

development: $(VENVS)/development/.installed ## the environment for tests and linters
emulator: $(VENVS)/emulator/.installed
sam: $(VENVS)/sam/.installed
runtime: $(VENVS)/runtime/.installed
checkov: $(VENVS)/checkov/.installed

lock: $(UV) ## pin every requirement again, with hashes
	$(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.13 --only-binary :all: \
	  --no-emit-package botocore --no-emit-package python-dateutil --no-emit-package six --no-emit-package urllib3 \
	  -o layers/dependencies/requirements.txt layers/dependencies/requirements.in
	for name in uv emulator sam runtime checkov development benchmark; do \
	  $(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.13 --only-binary :all: \
	    $$([ $$name = benchmark ] && echo --universal) \
	    $$([ $$name = development ] && echo -c layers/dependencies/requirements.txt) \
	    -o requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

.PHONY: help development emulator sam runtime checkov lock

# --- the whole system on this machine ------------------------------------------------------------------

# Whatever Python settings the caller's shell has, the modules of this repository are found.
# The demo draws the journeys that it plays, so it imports them.
IMPORTS := .:layers/conversation:layers/journeys:layers/stepmark
LOCAL := env -u PYTHONSAFEPATH PYTHONPATH=$(IMPORTS) $(DEVELOPMENT)/python -m

demo: development emulator sam ## see it work: a story with times, then what the caller waits otherwise
	@$(LOCAL) local.demo

up: development emulator sam ## keep the stack running on this machine for playing with
	@$(LOCAL) local.background up

down: development ## end what `make up` started
	@$(LOCAL) local.background down

.PHONY: demo up down

# --- an AWS account --------------------------------------------------------------------------------------

STACK_NAME := $(or $(STACK),meanwhile)
# A stack that is not there stops a deployment, unless it is said to be a first one.
FIRST_ONE := $(if $(filter 1,$(value FIRST)),--first)
gate: development ## list the journeys under way that a deployment would park; STACK=<name>
	@$(LOCAL) operations.gate "$(STACK_NAME)" $(FIRST_ONE)

deploy: development sam ## check the journeys under way, build, deploy; STACK=<name>, FIRST=1 the first time
	@PATH="$$PWD/$(DEVELOPMENT):$$PATH" $(LOCAL) operations.deploy "$(STACK_NAME)" $(FIRST_ONE)

doctor: development ## what works of a deployed stack and what doesn't; STACK=<name>
	@$(LOCAL) operations.doctor "$(STACK_NAME)"

capacity: development ## which limit binds first as calls grow, from the template and AWS's quotas
	@$(LOCAL) operations.capacity

.PHONY: gate deploy doctor capacity

# --- tests and linters: what CI runs -------------------------------------------------------------------

PYTEST := env -u PYTHONPATH -u PYTHONSAFEPATH $(DEVELOPMENT)/python -m pytest

# A process more than there are cores, for tests that wait; one that has nothing left to do takes from the others.
IN_PARALLEL := --numprocesses auto --dist worksteal
# The deployed stack belongs to one process; what starts systems of its own runs beside it.
BESIDE_THE_STACK := --numprocesses 2 --dist loadscope

test: ## what a commit has to pass: all tests but those of test-long
	$(MAKE) --jobs=4 development emulator sam runtime
	STEPMARK_EXAMPLES=500 $(PYTEST) $(IN_PARALLEL) -m "not long" tests/unit tests/stepmark tests/integration tests/architecture
	$(MAKE) test-e2e

test-long: ## what takes long by nature: 50,000 random workflows, every crash, hundreds of conversations, containers
	$(MAKE) --jobs=4 development emulator sam runtime
	$(MAKE) --jobs=2 --output-sync stepmark-fuzz test-crashes
	$(PYTEST) $(BESIDE_THE_STACK) -m long tests/e2e

test-unit: development ## each part alone, no network
	$(PYTEST) $(IN_PARALLEL) tests/unit

test-stepmark: development ## the workflow library: examples, random programs, crashes, updates
	$(PYTEST) $(IN_PARALLEL) tests/stepmark

test-integration: development ## the real handlers and state machine in a simulated account
	$(PYTEST) $(IN_PARALLEL) -m "not long" tests/integration

test-architecture: development sam ## the rules that hold the house together
	$(PYTEST) $(IN_PARALLEL) tests/architecture

test-e2e: development emulator sam runtime ## the deployed template on the emulator
	$(PYTEST) $(BESIDE_THE_STACK) -m "not long" tests/e2e

test-crashes: development ## crashes at every call, and hundreds of conversations at once
	$(PYTEST) $(IN_PARALLEL) tests/stepmark/crash tests/stepmark/updates
	$(PYTEST) $(IN_PARALLEL) -m long tests/integration

e2e: test-e2e ## the same; STACK=<name> takes that stack in your AWS account

lint: development checkov ## ruff, mypy, cfn-lint, checkov, bandit, zizmor
	$(DEVELOPMENT)/ruff check .
	$(DEVELOPMENT)/ruff format --check .
	$(DEVELOPMENT)/mypy $(CHECKED)
	$(DEVELOPMENT)/cfn-lint --append-rules cfn_lint_serverless.rules
	@mkdir -p .build
	$(DEVELOPMENT)/python -m tests.support.template > .build/template-without-loops.json
	$(VENVS)/checkov/bin/checkov --config-file .checkov.yaml
	$(DEVELOPMENT)/bandit --quiet --recursive functions layers/conversation layers/journeys layers/stepmark
	$(DEVELOPMENT)/bandit --quiet --recursive --configfile pyproject.toml local operations
	$(DEVELOPMENT)/zizmor --offline --quiet .github

.PHONY: test test-long test-unit test-stepmark test-integration test-architecture test-e2e test-crashes e2e lint

# --- stepmark ------------------------------------------------------------------------------------------

stepmark-fuzz: development ## 50,000 random workflows against plain Python
	STEPMARK_EXAMPLES=50000 $(PYTEST) $(IN_PARALLEL) -q tests/stepmark/random

benchmark-stepmark: $(VENVS)/benchmark/.installed ## stepmark's speed, and that of engines people would pick instead
	PYTHONPATH=layers/stepmark $(VENVS)/benchmark/bin/python benchmarks/stepmark_engines.py
	PYTHONPATH=layers/stepmark $(VENVS)/benchmark/bin/python benchmarks/stepmark_scaling.py

.PHONY: stepmark-fuzz benchmark-stepmark
