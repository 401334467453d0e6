# Two commands do everything: `make bench` and `make test`. Each installs what it needs into .venv first.

PYTHON ?= python3
EXTRAS ?=
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
comma := ,
extras := $(if $(strip $(EXTRAS)),[$(strip $(EXTRAS))])
# One stamp a set of extras: asking for more of them installs, asking again does not.
STAMP := $(VENV)/.installed$(subst $(comma),-,$(addprefix -,$(strip $(EXTRAS))))

# The extras that were asked for, and the one that a target needs.
with = $(if $(findstring $(1),$(EXTRAS)),$(EXTRAS),$(if $(strip $(EXTRAS)),$(strip $(EXTRAS))$(comma))$(1))

# make bench BATCH="8 32" FEATURES=512 IMPLEMENTATION=vectorized THREADS="1 2" ...
AXES := OPERATION IMPLEMENTATION LIBRARY BATCH FEATURES DTYPE LOGITS THREADS
lower = $(shell echo $(1) | tr A-Z a-z)
SELECTION = $(foreach axis,$(AXES),$(foreach value,$($(axis)),--$(call lower,$(axis))=$(value)))
RESUMED = $(if $(RESUME),--resume=$(RESUME)) $(if $(RUN_ID),--run-id=$(RUN_ID))
BOX = $(if $(MINUTES),--minutes=$(MINUTES))
RUN ?= reference

.DEFAULT_GOAL := help
.PHONY: help bench bench-quick bench-full plots report check gate-quality repeatability accuracy tolerances train baseline test faults oldest coverage lint clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables of the bench targets: OPERATION IMPLEMENTATION LIBRARY BATCH FEATURES DTYPE LOGITS THREADS (several in'
	@echo 'quotes), MINUTES=<time box>, RUN_ID=<name> to name the run, RESUME=<run> to measure only what a stored run misses; of plots and report: RUN=<run>'
	@echo '(reference unless given). IMPLEMENTATION takes path/to/file.py:name, too: one more competitor, of your own. EXTRAS=compiled,torch,jax installs and measures Numba, NumExpr, PyTorch and JAX, too.'

bench: $(STAMP) ## measure the default grid, store the table, draw the charts, make the report (about 5 minutes)
	$(BIN)/softmax-bench run --grid=default $(SELECTION) $(RESUMED) $(BOX)

bench-quick: $(STAMP) ## the same for a small grid (under 40 seconds with NumPy alone)
	$(BIN)/softmax-bench run --grid=quick $(SELECTION) $(RESUMED) $(BOX)

bench-full: $(STAMP) ## the same with float32, more features, more distributions of logits (an hour)
	$(BIN)/softmax-bench run --grid=full $(SELECTION) $(RESUMED) $(BOX)

plots: $(STAMP) ## draw the charts of a stored run: make plots RUN=<run>
	$(BIN)/softmax-bench plot $(RUN)

report: $(STAMP) ## make one page of a stored run, or of several, the oldest first: make report RUN="<old> <new>"
	$(BIN)/softmax-bench report $(RUN)

check: $(STAMP) ## find what got slower, larger or wrong: against HEAD, or BASE=<revision or stored run>
	$(BIN)/softmax-bench gate $(if $(BASE),--base=$(BASE))

gate-quality: $(STAMP) ## try the check on known changes for MINUTES (60 unless given), store and draw the outcomes
	$(BIN)/softmax-bench gate-quality $(if $(MINUTES),--minutes=$(MINUTES))

repeatability: $(STAMP) ## measure the same again and again for MINUTES (60), also with EXTRAS=asv,others, store and draw
	$(BIN)/softmax-bench repeatability $(if $(MINUTES),--minutes=$(MINUTES))

accuracy: $(STAMP) ## measure how exact loss and gradient are from small logits to large, store and draw (a minute)
	$(BIN)/softmax-bench accuracy

tolerances: $(STAMP) ## try every known mistake under the tolerances that people use, store and draw (a minute)
	$(BIN)/softmax-bench tolerances

train: ## train networks with right and wrong gradients of softmax; SEED=<n> for another seed (about a minute)
	@$(MAKE) --no-print-directory EXTRAS=$(call with,train) .train

.PHONY: .train
.train: $(STAMP)
	$(BIN)/softmax-bench train $(if $(SEED),--seed=$(SEED))

# Time enough for longer calls than a run of minutes has. The old baseline comes back where the new one is not completed.
baseline: $(STAMP) ## measure results/reference and plots/reference anew; nothing else moves them
	rm -rf results/.old plots/.old
	mv results/reference results/.old && mv plots/reference plots/.old
	$(BIN)/softmax-bench run --run-id=reference --max-call-s=0.5 $(BOX) || \
	{ rm -rf results/reference plots/reference; mv results/.old results/reference; mv plots/.old plots/reference; exit 1; }
	rm -rf results/.old plots/.old

# Two tests at a time: most of them wait for processes of their own.
test: ## run the tests
	@$(MAKE) --no-print-directory EXTRAS=$(call with,test) .test

.PHONY: .test
.test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal $(PYTEST)

faults: ## run the tests that cause faults at length: damages, kills, full disks (about 6 minutes)
	@SOFTMAX_BENCH_KILLS=50 $(MAKE) --no-print-directory EXTRAS=$(call with,test) PYTEST='-m faults $(PYTEST)' .test

oldest: ## run the tests with the oldest versions that are supported, in a folder of their own
	@$(MAKE) --no-print-directory VENV=.oldest CONSTRAINTS=constraints-oldest.txt test

coverage: ## run all tests, slow ones too, and tell which lines and branches they miss (half an hour)
	@$(MAKE) --no-print-directory EXTRAS=$(call with,dev$(comma)test) .coverage

# Numba tells the tracer which lines it compiles. Processes in other folders write beside the others, too.
.PHONY: .coverage
.coverage: $(STAMP)
	rm -rf .coverage && mkdir .coverage
	COVERAGE_FILE=$(CURDIR)/.coverage/data NUMBA_JIT_COVERAGE=1 $(BIN)/coverage run -m pytest --numprocesses=2 --dist=worksteal \
	-m 'slow or faults or not slow' $(PYTEST) || touch .coverage/failed
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	@test ! -e .coverage/failed

lint: ## check style and types
	@$(MAKE) --no-print-directory EXTRAS=$(call with,dev) .lint

.PHONY: .lint
.lint: $(STAMP)
	mkdir -p $(VENV)/src && ln -sfn ../../bench $(VENV)/src/softmax_bench # mypy does not follow an editable install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove what was installed and cached; stored runs and charts stay
	rm -rf $(VENV) .oldest .coverage .pytest_cache .mypy_cache .ruff_cache .benchmarks *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.$(extras)'
	touch $@
