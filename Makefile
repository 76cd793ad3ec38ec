# Every target does all its own set-up: python3.11, pip and make are enough.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= outputs/demo

.PHONY: help test check demo bench figures clean

help:
	@echo "make demo     simulate a small experiment, inspect it, draw it   (about a minute)"
	@echo "make test     style, types, all tests                            (a few minutes)"
	@echo "make bench    speed against named baselines, into benchmarks/results"
	@echo "make figures  the figures of the documentation"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: check
	$(BIN)/pytest -n 2

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/ready
	$(BIN)/spi-simulate simulate=demo run=$(DEMO)/simulation
	$(BIN)/spi-inspect data.path=$(DEMO)/simulation/patterns.cxi run=$(DEMO)/inspection
	@echo "Look at $(DEMO)/inspection/contact_sheet.png and mean_and_psd.png"

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.simulation

figures: $(VENV)/ready
	$(BIN)/spi-simulate simulate=demo run=outputs/figures/demo
	$(BIN)/spi-inspect data.path=outputs/figures/demo/patterns.cxi patterns=12 run=outputs/figures/look
	cp outputs/figures/look/contact_sheet.png docs/figures/demo_contact_sheet.png
	$(BIN)/python docs/figures/make_amo86615.py

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
