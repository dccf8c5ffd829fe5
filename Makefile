# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs: the virtual environment .venv is made on first use and follows pyproject.toml.
# `make help` lists the targets; `make doctor` says what the machine lacks.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
DEBIAN := iverilog ngspice opensta qflow-tech-osu018
SUDO   := $(shell test "$$(id -u)" = 0 || echo sudo)
N      ?= 100
SEED   ?= 1
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help sim check test test-all mutants coverage lint formal waves bench calibrate soak soak-systems fuzz \
  report area energy gates doctor generate clean setup

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) tb/doctor.py --quick
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIPFLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

gates: $(STAMP) ## Install what gate-level work needs and PyPI does not have: Icarus, ngspice, OpenSTA, OSU cells
	@dpkg -s $(DEBIAN) >/dev/null 2>&1 || { command -v apt-get >/dev/null || \
	  { echo "gates: no apt-get here; install by hand what Debian calls $(DEBIAN)"; exit 1; }; \
	  echo "installing $(DEBIAN)"; $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(DEBIAN) >/dev/null; }

setup: $(STAMP) ## Make the virtual environment

sim: $(STAMP) ## Run two trained networks on both units in RTL and compare them bit for bit
	$(BIN)/npuloop sim $(ARGS)

# A worker takes whole files, which share sessions and builds; common/pytest_plugin.py puts the longest first.
# One thread in each, as the workers have the cores already.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --junitxml=sim_build/junit.xml

# Says what the whole of a target took: $(call timed,NAME,COMMANDS)
timed = @began=$$(date +%s); $(2) && echo "make $(1) took $$(($$(date +%s) - began)) s on $$(nproc) cores"

check: $(STAMP) ## Check in a minute what needs no simulation: lint, and quick tests without simulators and gates
	@mkdir -p sim_build
	$(call timed,check,$(MAKE) --no-print-directory lint && \
	  $(PYTEST) --quick -m "not rtl and not gates and not formal and not slow" $(ARGS))

# Where its programs cannot be installed, gate-level tests are left out and named; never where CI is set.
test: $(STAMP) ## Run the tests that CI runs: all but those marked slow
	@mkdir -p sim_build
	$(call timed,test,{ $(MAKE) --no-print-directory gates || test -z "$$CI"; } && \
	  $(PYTEST) -m "not slow" $(ARGS))

test-all: $(STAMP) ## Run all tests, the exhaustive ones too
	@mkdir -p sim_build
	$(call timed,test-all,{ $(MAKE) --no-print-directory gates || test -z "$$CI"; } && $(PYTEST) $(ARGS))

mutants: $(STAMP) ## Put N faults drawn with SEED into the RTL, one at a time, and see which the tests find
	$(BIN)/python -m tb.mutants --count $(N) --seed $(SEED) --jobs $(JOBS) $(ARGS)

# All that simulators count goes into this folder. The tests alone leave out large arrays: the seeds are of random
# systems with 64 rows and each number of lanes, with arrays wider than 2048 bits, and with four units on a wide port.
COVERAGE := $(CURDIR)/sim_build/coverage
COUNTED   = NPULOOP_COVERAGE=$(COVERAGE) NPULOOP_CODE_COVERAGE=1
SYSTEMS  := 4 20 35 158 238 866 1089

coverage: $(STAMP) ## Measure what the tests reach of the RTL and of the functional plan: sim_build/coverage
	@rm -rf $(COVERAGE)
	$(call timed,coverage,$(COUNTED) $(PYTEST) -m "rtl and not gates and not slow" tb/blocks tb/tests mapping/run $(ARGS) && \
	  NPULOOP_COVERAGE=$(COVERAGE) $(BIN)/npuloop soak --count 250 --seed 1 && \
	  for seed in $(SYSTEMS); do \
	    NPULOOP_COVERAGE=$(COVERAGE) $(BIN)/npuloop soak --systems --count 1 --seed $$seed || exit 1; done && \
	  $(BIN)/python -m tb.coverage $(COVERAGE))

lint: $(STAMP) ## Check Python and SystemVerilog
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/python rtl/interface/generate.py --check
	$(BIN)/python -m tb.lint

formal: $(STAMP) ## Prove properties of the RTL's blocks with Yosys and z3: make formal ARGS=fifo
	@JOBS=$(JOBS) $(BIN)/python -m tb.formal $(ARGS)

waves: $(STAMP) ## Run the simulation with waves into sim_build/waves
	$(BIN)/npuloop sim --waves $(ARGS)

bench: $(STAMP) ## Measure how busy the arrays are, and how fast the simulation is
	$(BIN)/npuloop bench $(ARGS)

calibrate: $(STAMP) ## Measure layers in RTL and write the cost tables
	$(BIN)/npuloop calibrate --all $(ARGS)

soak: $(STAMP) ## Run N random layers and networks from SEED: make soak N=1000 SEED=7
	$(BIN)/npuloop soak --count $(N) --seed $(SEED) $(ARGS)

soak-systems: $(STAMP) ## Build N random systems from SEED and run layers and networks on them: make soak-systems N=25 SEED=7
	$(BIN)/npuloop soak --systems --count $(N) --seed $(SEED) $(ARGS)

fuzz: $(STAMP) ## Throw N damaged files and odd options at all commands, from SEED: make fuzz N=5000 SEED=7
	$(BIN)/python -m npuloop.cli.tests.fuzzing --count $(N) --seed $(SEED) $(ARGS)

area: gates ## Synthesise the units and write their area into mapping/cost_tables/area.yaml
	$(BIN)/npuloop synth $(ARGS)

energy: gates ## Replay real layers on gates and write the energy tables
	$(BIN)/npuloop characterize-energy $(ARGS)

report: $(STAMP) ## Make the page of the cost model's errors: sim_build/report.html
	$(BIN)/npuloop report $(ARGS)

generate: $(STAMP) ## Generate everything that follows from rtl/interface
	$(BIN)/python rtl/interface/generate.py

doctor: ## Say what this machine lacks, and how to get it
	@$(PYTHON) tb/doctor.py

clean: ## Remove everything generated but the virtual environment
	rm -rf sim_build .pytest_cache .mypy_cache .ruff_cache *.egg-info
