# Two commands: `make demo` tries StrokeSeg on a synthetic patient, `make test` runs every test. Each sets up what it needs in
# .venv (Python 3.11 or newer and a network, the first time only).
#   PYTHON=python3.12        another interpreter
#   PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"   PyTorch's index of CPU wheels, without CUDA
PYTHON ?= python3
PIP_OPTIONS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt $(PIP_OPTIONS)

.PHONY: demo test soak lint benchmark clean

demo: .venv/.runs
	$(BIN)/strokeseg demo demo-result

test: .venv/.tests lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal Testing

soak: .venv/.tests
	STROKESEG_SOAK=1 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal Testing

lint: .venv/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: .venv/.tests
	$(BIN)/python Testing/benchmarks/pipeline.py

clean:
	rm -rf .venv .venv-openvino-* demo-result

.venv/pyvenv.cfg:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "StrokeSeg needs Python 3.11 or newer; '$(PYTHON)' is older or missing. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making a virtual environment in .venv"
	$(PYTHON) -m venv .venv

.venv/.runs: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing StrokeSeg and what it runs on (once)"
	$(PIP) --editable .
	@touch $@

.venv/.tests: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing StrokeSeg with tests, linters and training (once; PyTorch is large)"
	$(PIP) "torch==2.13.0" --editable ".[dev,train,module-tests]"
	@touch $@ .venv/.runs
