# Every command that CI runs, under the name that CI uses.

CARGO ?= cargo
# For example: make demo DEMO="--for 60s"
DEMO ?=
# make bench BENCH="--quick"
BENCH ?=
# make figures FIGURES="--list wh-openings agent/src/store"
FIGURES ?=
# make rig POWER_CUTS=200
POWER_CUTS ?= 20
# make fuzz FUZZ_SEEDS=100000
FUZZ_SEEDS ?= 10000
SCRIPTS = .ci/run certs/make-dev-ca systemd/verify tests/install-packages \
	cross/build cross/tools cross/targets cross/check cross/changelog cross/smoke cross/try-check cross/try-package \
	cross/try-package-inside \
	tests/rig/run tests/rig/install-packages tests/rig/image/build tests/rig/image/kernel tests/rig/image/rootfs \
	tests/rig/radio/python

# Runs a command, and fails if the command leaves a process or a file behind.
SUPERVISE = $(or $(CARGO_TARGET_DIR),target)/debug/supervise
TARGET = $(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
# Binaries and tests in one build: both have the same features, so no crate is compiled twice.
BUILD_TESTS = $(CARGO) build --workspace --bins --tests
# The slowest tests, which depend on neither dates nor other processes: test-later and test-busy leave them out.
ONCE = damage crash full_disk size sql hostile fuzz
ifeq ($(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes),yes)
RUN_TESTS = $(CARGO) nextest run --workspace
# A second run, with another clock or under load.
RUN_TESTS_AGAIN = $(RUN_TESTS) -E 'not (package(pulsegate-core) | package(pulsegate-rig) | binary(~sigkill) | binary(tidy) | binary(figures) \
	$(foreach name,$(ONCE), | test($(name))))'
else
RUN_TESTS = $(CARGO) test --workspace --lib --bins --tests
RUN_TESTS_AGAIN = $(RUN_TESTS) -- $(foreach name,$(ONCE),--skip $(name))
endif
# The clock of the tests, the agent and all their child processes, 400 days ahead: libfaketime replaces the calls
# into the C library. The monotonic clock and the times of files are unchanged.
LATER = CARGO_TARGET_$(TARGET)_RUNNER="env NO_FAKE_STAT=1 faketime -m --exclude-monotonic -f +400d"

.PHONY: build check fmt lint doc deny test test-later test-busy test-again fuzz shellcheck systemd-verify figures packages package-amd64 try-packages rig rig-arm64 demo bench ci

build: ## builds the agent for release
	$(CARGO) build --release

check: ## checks that everything compiles
	$(CARGO) check --workspace --all-targets

fmt: ## checks the format; `cargo fmt` corrects it
	$(CARGO) fmt --all --check

lint: # twice: the agent differs without its features
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --all-targets --no-default-features -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

deny: ## checks licences, banned crates and sources: deny.toml
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --all-features check bans licenses sources; \
	else \
	  echo "not run: cargo-deny is not installed (cargo install cargo-deny --locked)"; \
	fi

test: ## installs and names missing Debian packages, then runs all tests; fails if a test leaves anything behind
	tests/install-packages
	$(BUILD_TESTS)
	$(SUPERVISE) $(RUN_TESTS)
	$(CARGO) test --workspace --doc

test-later: ## runs most tests with the clock 400 days ahead
	tests/install-packages faketime:faketime
	$(BUILD_TESTS)
	$(LATER) $(SUPERVISE) $(RUN_TESTS_AGAIN)

test-busy: ## runs most tests while every processor is busy
	tests/install-packages
	$(BUILD_TESTS)
	$(SUPERVISE) --busy $(RUN_TESTS_AGAIN)

test-again: ## runs most tests 400 days ahead, while the release build and `make fuzz` keep the processors busy
	tests/install-packages faketime:faketime
	$(BUILD_TESTS)
	$(LATER) $(SUPERVISE) --beside "env -u CARGO_TARGET_$(TARGET)_RUNNER make --no-print-directory build fuzz" \
	  $(RUN_TESTS_AGAIN)

# Eight threads, since a store mostly waits; files in memory, since a disk would only slow the test down.
fuzz: ## damages rows and pages of a store between its starts, FUZZ_SEEDS=10000 times
	$(BUILD_TESTS)
	TMPDIR=$(firstword $(wildcard /dev/shm /tmp)) PULSEGATE_FUZZ_SEEDS=$(FUZZ_SEEDS) \
	  $(SUPERVISE) timeout --kill-after=10s 20m \
	  $(CARGO) test --workspace --bin pulsegate store::tests::fuzz:: -- --test-threads=8

shellcheck:
	shellcheck --external-sources $(SCRIPTS)

systemd-verify:
	systemd/verify

figures: ## prints each figure of the source beside its limit and target: FIGURES="agent/src/store" or FIGURES="--list one-word"
	@$(CARGO) run --quiet --package pulsegate-tests --bin figures -- $(FIGURES)

packages: ## builds the package of each device in target/packages; installs its tools below target/cross-tools
	cross/build all

package-amd64: build ## packs this machine's own build, for the virtual device of the tests
	cross/build amd64 --native

try-packages: ## tests the packages of `make packages`: the check itself, emulated starts, installation to purge
	cross/try-check
	for device in arm64 armhf armv6 amd64; do cross/smoke $$device || exit; done
	for release in bullseye bookworm trixie; do \
	  cross/try-package target/packages/pulsegate_*_amd64.deb $$release || exit; \
	done

rig: package-amd64 ## runs scenarios and power cuts on a virtual device: tests/rig. 77: impossible on this machine
	tests/rig/run amd64 $(POWER_CUTS)

rig-arm64: ## as `rig`, on a virtual device that calls itself a Raspberry Pi 4, with the cross-built package
	cross/build arm64
	tests/rig/run arm64 $(POWER_CUTS)

demo: ## shows everything on this machine: no root, no configuration, no installation
	@$(CARGO) run --release -- demo $(DEMO)

bench: ## compares the agent with others on this machine, in ten minutes; prints a table (BENCHMARKS.md)
	tests/install-packages
	$(CARGO) build --release --package pulsegate
	$(CARGO) run --release --package pulsegate-tests --bin bench -- $(BENCH)

ci:
	.ci/run
