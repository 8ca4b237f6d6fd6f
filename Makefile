# `make demo` and `make test` set up everything they need in .venv.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# What `make bench` measures. DATA="--dataset ml-1m --data_path ml-1m.zip" uses MovieLens instead of generated rows.
BENCHMARKS := data pamlm finetune same_work late_prompts ctr_only inference export
DATA ?=
# What `make gpu-evidence` reads: a PLM's folder and the zip of ML-1M.
PLM ?= all-mpnet-base-v2
DATA_PATH ?= ml-1m.zip
MINUTES ?= 120

# Tests that need the engines of clusters, or take as long: `make test-engines` runs them, `make test` does not.
ENGINE_TESTS := tests/test_kills.py tests/test_spark.py tests/test_ray.py $(wildcard tests/test_engine_*.py)
ENGINES_INSTALLED := $(VENV)/.installed-engines

.PHONY: install demo test test-engines bench gpu-evidence docs lint format clean

install: $(INSTALLED)  ## the package and its tools in .venv

demo: $(INSTALLED)  ## pretrain, finetune and score on generated data
	$(BIN)/clickprompt demo --output_dir runs/demo

test: $(INSTALLED)  ## all tests but those with engines, offline
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ENGINE_TESTS:%=--ignore=%)

test-engines: $(ENGINES_INSTALLED)  ## tests with Spark, which needs Java, with Ray, and other long ones
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ENGINE_TESTS)

bench: $(INSTALLED)  ## tables on the screen, JSON in runs/benchmarks
	mkdir -p runs/benchmarks
	for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py $(DATA) --output runs/benchmarks/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/growth.py --output runs/benchmarks/growth.json
	$(BIN)/python benchmarks/large_tables.py --output runs/benchmarks/large_tables.json

gpu-evidence: $(INSTALLED)  ## speed and every arm of ML-1M on one GPU, within MINUTES
	$(BIN)/python benchmarks/gpu_evidence.py --plm $(PLM) --data_path $(DATA_PATH) --minutes $(MINUTES)

docs: $(INSTALLED)  ## pages in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

$(ENGINES_INSTALLED): $(INSTALLED)
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[spark,ray,deepspeed]"
	touch $(ENGINES_INSTALLED)

clean:
	rm -rf $(VENV) runs build dist *.egg-info
