# The few verbs of this repository; CI calls `check` and `test`.

.DEFAULT_GOAL := help
# The binary that the tests build. One package alone would be built with other features, and so all over again.
BUILT = $${CARGO_TARGET_DIR:-target}/debug/orbit
MEASURE = $${CARGO_TARGET_DIR:-target}/release/orbit-bench

.PHONY: help demo demo-documents test test-rust test-postgres crash-matrix drill-failover drill-nodes test-large test-programs test-samples bench bench-peers bench-page check fmt clean-demo

help: ## List the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ verb = $$2; $$1 = $$2 = ""; printf "  make %-16s%s\n", verb, $$0 }'

demo: ## Install what is missing, build, and run a real cycle: topics in, spoken clips out
	@scripts/demo.sh

demo-documents: ## The same in another domain: records in, typeset pages out, two endpoints
	@scripts/demo-documents.sh

test: test-rust test-postgres test-programs test-samples ## Everything

test-rust: ## The crates and the real binary
	scripts/install.sh build test bench
	cargo test --workspace --locked

# The binary's modules that neither are about files nor choose their backend themselves, as the drills of disks do.
ON_POSTGRES = config crash cycle delivery drills fairness governance hostile isolation log normalize notify operate queue rebuild remote s3 schedule screens serving wire
# The crates' own tests, the engine's with real programs, a sample of the crash matrix, and the binary.
test-postgres: ## The engine, its crashes and the real binary on a PostgreSQL server of their own
	scripts/install.sh build test
	ORBIT_TEST_BACKEND=postgres cargo test --workspace --locked --lib --test programs --test matrix
	ORBIT_TEST_BACKEND=postgres cargo test --workspace --locked --test it -- $(ON_POSTGRES:%=%::) --skip disk::

crash-matrix: ## Every crash of every call of a cycle, on both backends; many minutes
	scripts/install.sh build test
	cargo test --workspace --locked --test matrix -- --all
	ORBIT_TEST_BACKEND=postgres cargo test --workspace --locked --test matrix -- --all

drill-failover: ## Two nodes on PostgreSQL under Patroni, whose primary is killed; about two minutes
	scripts/install.sh build failover
	cargo build --workspace --locked --bins
	/usr/bin/python3 scripts/failover/drill.py $(BUILT)

drill-nodes: ## Two and three nodes with 1,000 runs each time, one node killed or cut off; many minutes
	scripts/install.sh build test
	cargo test --workspace --locked --test it nodes::load::drill -- --ignored --nocapture --test-threads 1

test-large: ## An artifact of more than 4 GiB in every form; a minute or two
	cargo test --workspace --locked --lib more_than_32_bits -- --ignored

test-programs: ## The programs beside the engine: of the samples, their receiver, the log's second opinion
	scripts/install.sh demo
	/usr/bin/python3 -m unittest discover -s scripts
	/usr/bin/python3 -m unittest discover -s samples/receiver
	/usr/bin/python3 -m unittest discover -s samples/media

# Homes of their own, so that a test neither uses up nor depends on the demonstrations'. The second cycle selects anew.
test-samples: ## Both samples, end to end
	cargo test --workspace --locked --no-run
	rm -rf target/test-samples
	ORBIT_BIN=$(BUILT) DEMO_HOME=target/test-samples/media scripts/demo.sh
	ORBIT_BIN=$(BUILT) DEMO_HOME=target/test-samples/documents scripts/demo-documents.sh
	ORBIT_BIN=$(BUILT) DEMO_HOME=target/test-samples/documents scripts/demo-documents.sh

bench: ## Measure against the limit of this machine, on files and on a PostgreSQL server of its own; about twelve minutes
	scripts/install.sh build test bench
	cargo build --workspace --release --locked --bins
	$(MEASURE)

# ORBIT's own figures are of the same minutes; the others of `make bench` stay in the result file.
bench-peers: ## The same work on what people use instead, from their registries, into the same result file; about half an hour
	scripts/install.sh build test peers
	cargo build --workspace --release --locked --bins
	$(MEASURE) idle runs deliveries crash postgres --in-flight 64
	/usr/bin/python3 bench/peers/run.py --bench $(MEASURE)

bench-page: ## Write docs/operate/performance.md from what was measured
	cargo build --workspace --release --locked --bins
	$(MEASURE) page

check: ## Formatting, lints, documentation, the rules of the house
	scripts/install.sh build check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo test --workspace --locked --test it tidy

fmt: ## Format the crates
	cargo fmt --all

clean-demo: ## Forget the demonstrations and what was delivered to them
	rm -rf target/demo target/demo-documents target/test-samples
