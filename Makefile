# Every target does all its own set-up: python3.11, pip and make are enough.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= outputs/demo
RESULTS ?= benchmarks/results

.PHONY: help test test-slurm check demo bench ablations figures clean

help:
	@echo "make demo       simulate, train, evaluate, predict on a fresh run   (five minutes)"
	@echo "make test       style, types, all tests                             (some minutes)"
	@echo "make test-slurm jobs on a SLURM cluster that it starts here         (some minutes; Debian's slurm-wlm)"
	@echo "make bench      speed against named baselines, into $(RESULTS)   (half an hour)"
	@echo "make ablations  what each part of the method is worth, three seeds  (an hour)"
	@echo "make figures    the figures of the documentation, after make demo"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: check
	$(BIN)/pytest -n 2 --dist worksteal

test-slurm: $(VENV)/ready
	$(BIN)/pytest -m slurm --verbose --durations=0 tests/slurm

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/ready
	$(BIN)/spi-simulate simulate=demo run=$(DEMO)/simulation
	$(BIN)/spi-train experiment=demo data.path=$(DEMO)/simulation/patterns.cxi run=$(DEMO)/training
	$(BIN)/python -m benchmarks.feature_baseline run=$(DEMO)/training
	$(BIN)/spi-simulate simulate=demo simulate.n_patterns=3000 simulate.seed=2 run=$(DEMO)/fresh_simulation
	$(BIN)/spi-predict ensemble=$(DEMO)/training/ensemble data.path=$(DEMO)/fresh_simulation/patterns.cxi \
		run=$(DEMO)/prediction
	@echo "Open $(DEMO)/training/report.html and $(DEMO)/prediction/report.html"

bench: demo
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks --results $(RESULTS)
	$(BIN)/python -m benchmarks.profiles --results $(RESULTS)

ablations: $(VENV)/ready
	$(BIN)/spi-simulate simulate=demo run=$(DEMO)/simulation
	$(BIN)/python -m benchmarks.ablations data=$(DEMO)/simulation/patterns.cxi work=outputs/ablations

figures: demo
	cp $(DEMO)/training/figures/highest.png $(DEMO)/training/figures/augmentation.png docs/figures
	cp $(DEMO)/training/figures/classes_singles_em.png docs/figures/classes.png
	$(BIN)/spi-reproduce run=$(DEMO)/training into=$(DEMO)/reproduction recipe=docs/runs/demo
	$(BIN)/spi-inspect data.path=$(DEMO)/simulation/patterns.cxi patterns=12 run=$(DEMO)/inspection
	cp $(DEMO)/inspection/contact_sheet.png docs/figures/demo_contact_sheet.png
	$(BIN)/python docs/figures/make_amo86615.py
	$(BIN)/python docs/figures/make_size_error.py
	$(BIN)/python docs/figures/make_em_agreement.py

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
