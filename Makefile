# Every command that CI runs, by the name that CI uses.

CARGO ?= cargo
# For example: make demo DEMO="--for 60s"
DEMO ?=
# make bench BENCH="--quick"
BENCH ?=
SCRIPTS = .ci/run certs/make-dev-ca systemd/verify tests/install-packages

.PHONY: build check fmt lint doc deny test shellcheck systemd-verify demo bench ci

build: ## the agent, as it is shipped
	$(CARGO) build --release

check: ## does it compile?
	$(CARGO) check --workspace --all-targets

fmt: ## is it formatted? `cargo fmt` makes it so
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

deny: ## licences, banned crates, sources: deny.toml
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --all-features check bans licenses sources; \
	else \
	  echo "not run: cargo-deny is not installed (cargo install cargo-deny --locked)"; \
	fi

test: ## installs the Debian packages that are missing, and says so
	tests/install-packages
	$(CARGO) build --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then set -ex; \
	  $(CARGO) nextest run --workspace; \
	  $(CARGO) test --workspace --doc; \
	else set -ex; \
	  $(CARGO) test --workspace; \
	fi

shellcheck:
	shellcheck $(SCRIPTS)

systemd-verify:
	systemd/verify

demo: ## everything on this machine: no root, no configuration, nothing to install
	@$(CARGO) run --release -- demo $(DEMO)

bench: ## measured beside others on this machine, in ten minutes; prints a table (BENCHMARKS.md)
	tests/install-packages strace:strace
	$(CARGO) build --release --package pulsegate
	$(CARGO) run --release --package pulsegate-tests --bin bench -- $(BENCH)

ci:
	.ci/run
