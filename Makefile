# Two commands do everything, and make .venv by themselves: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
SOURCES := $(wildcard csrc/*) CMakeLists.txt pyproject.toml constraints.txt
# one thread a test process: two of them share the machine
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-all lint bench docs sanitize wheel clean

demo: $(STAMP)
	$(BIN)/python -m ndrnn.app.demo

test: $(STAMP)
	$(PYTEST) $(ARGS)

# everything, with what takes long, the sanitizers and the documentation
test-all: $(STAMP)
	$(PYTEST) -m 'slow or not slow' $(ARGS)
	$(BIN)/python tests/sanitize.py 120  # random configurations; `make sanitize` takes more
	$(MAKE) docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]' --no-build-isolation
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b doctest docs docs/_build/doctest

sanitize: $(STAMP)
	$(BIN)/python tests/sanitize.py

# what is released: wheels with and without compiled kernels, and the sources
wheel: $(STAMP)
	$(BIN)/python tools/wheels.py

clean:
	rm -rf .venv build dist demo docs/_build

# torch comes first and by itself: the kernels are built against the one that they will run with
$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ndrnn needs Python 3.11 or newer, PYTHON is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt scikit-build-core cmake ninja
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(STAMP)
