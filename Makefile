# Needs Python 3.11 or newer (3.10 with VLLM=installed), make, and nothing else: `make demo`, `make test` and the others
# set up what they use.
#
#   VLLM=installed   use the vLLM (and the GPU) of the Python on your PATH instead of installing one for the CPU
#   PYTHON=…         the Python to set up with; with VLLM=installed, the one that has your vLLM

PYTHON ?= python3
VLLM ?= cpu
# Which tests, or options of pytest: make test TESTS="tests/unit -k tags"
TESTS ?=
# Options of the demo: make demo DEMO="--per-route 2"
DEMO ?=
# Folder of labelled answers for make bench-evals; by default $TRACEAI_EVAL_DATA
DATA ?=
# Options of a benchmark: make bench BENCH="--only serve", make bench-gateway BENCH="--quick"
BENCH ?=
# Options of the ladder: make ladder LADDER="--docs"
LADDER ?=
SOAK_TESTS := tests/integration/test_gateway_faults.py tests/integration/test_gateway_soak.py
# How make compat runs which versions of vLLM
LEVEL ?= source
VERSIONS ?=

ifeq ($(VLLM),installed)
VENV := .venv-installed
else ifeq ($(VLLM),cpu)
VENV := .venv
else
$(error VLLM is "$(VLLM)"; it can be cpu (the default: a CPU build of vLLM in .venv) or installed (your own))
endif
RUN := $(VENV)/bin/python

# With other programs at work on the cores, threads that spin while they wait slow vLLM down many times over.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help env setup demo ladder test bench bench-evals bench-gateway bench-release cluster-test soak safety compat compat-evals compat-otel lint typecheck docs clean distclean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@sed -n 's/^#   /  /p' $(firstword $(MAKEFILE_LIST))

env:
	@$(PYTHON) scripts/setup_env.py --vllm $(VLLM) --venv $(VENV)

setup: env ## Install vLLM and the tools into .venv and make the small models (minutes once, then a second)
	@$(RUN) scripts/prepare_models.py

demo: setup ## Two variants of a small model on real vLLM behind the gateway: scores, a decision, its report
	@$(RUN) examples/demo/demo.py $(DEMO)

ladder: setup ## One model in bf16, int8, int4, int3, int2: what the release decision says of each; half an hour
	@$(RUN) scripts/prepare_models.py --ladder
	@$(RUN) examples/ladder/ladder.py $(LADDER)

test: setup ## Run all tests, on real vLLM (some of them: make test TESTS=tests/unit)
ifeq ($(TESTS),)
	@$(RUN) scripts/run_tests.py
else
	@$(RUN) -m pytest $(TESTS)
endif

bench: setup ## Measure what the instrumentation costs
	@$(RUN) -m benchmarks $(BENCH)

bench-gateway: env ## Measure the gateway beside nginx and LiteLLM (BENCH="--quick --without-litellm"); minutes
	@$(RUN) -m benchmarks.gateway $(BENCH)

bench-release: env ## Simulate how often the release decision is right (BENCH="--quick"); half an hour
	@$(RUN) -m benchmarks.release $(BENCH)

cluster-test: env ## The same figures from ClickHouse and from a Spark cluster (BENCH="-k spark"); minutes, needs Java 17
	@$(RUN) -m tests.cluster $(BENCH)

soak: env ## The gateway under each fault of a candidate: 100,000 requests, ten minutes of hanging
	@TRACEAI_GATEWAY_REQUESTS=10000 TRACEAI_GATEWAY_SOAK=100000 TRACEAI_GATEWAY_HANG_S=600 $(RUN) -m pytest --timeout=0 -v $(SOAK_TESTS)

bench-evals: env ## Measure how right the evaluators are: make bench-evals DATA=folder of labelled answers
	@$(RUN) -m benchmarks.evals $(DATA)

safety: setup ## Break every function of ours on real vLLM, and write docs/safety.md from what happened
	@TRACEAI_SAFETY_RESULTS=benchmarks/safety/ours.json $(RUN) -m pytest tests/integration/test_fault_harness.py
	@$(RUN) -m benchmarks.safety

compat: env ## Run on other versions of vLLM: LEVEL=source (default), engine or all; VERSIONS=0.8,0.33
	@$(RUN) -m compat --level $(LEVEL) --versions "$(VERSIONS)"

compat-evals: env ## Run the adapters on the evaluation packages that they adapt, each in an environment of its own
	@$(RUN) -m compat.adapters

compat-otel: env ## Run on OpenTelemetry from 1.26 on, each in an environment of its own; minutes
	@$(RUN) -m compat.opentelemetries

lint: env ## Check style and the directions of imports
	@$(RUN) -m ruff check .
	@$(VENV)/bin/lint-imports

typecheck: env ## Check the types
	@$(RUN) -m mypy

docs: env ## Check that the links and the Python examples of the documentation hold
	@$(RUN) scripts/check_docs.py

clean: ## Remove what the demo, the tests and the tools leave behind
	@rm -rf .demo .ladder dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	@find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environments and the models too
	@rm -rf .venv .venv-installed .venv-litellm .venv-cluster .models .compat
