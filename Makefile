# 邻里 Linli. `make demo` shows it, `make test` tests it; both install what they need on Debian 12.
#
# Everything is built into one cache outside the clone, so that a fresh clone finds it again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/linli/target
export CARGO_TERM_COLOR ?= auto

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SECONDS ?=
BENCH_EVENTS ?= 1000000

BUILD_PACKAGES := gcc libc6-dev make pkg-config
DEMO_PACKAGES := curl
TEST_PACKAGES := curl e2fsprogs faketime iproute2 mosquitto mosquitto-clients mount openssl postgresql prometheus prometheus-alertmanager python3-aiosmtpd python3-venv sip-tester systemd util-linux
BENCH_PACKAGES := iproute2 nats-server postgresql rsyslog rsyslog-relp sec util-linux

# A package is installed only where it is missing, so that a second run needs no network.
define install
	@missing=""; for package in $(1); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

.PHONY: help build release demo schemathesis oidc-provider peers test test-rust test-postgres check bench docs docs-check man clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## both programs, for development
	$(call install,$(BUILD_PACKAGES))
	cargo build --locked --workspace --bins

release: ## both programs, for use
	$(call install,$(BUILD_PACKAGES))
	cargo build --locked --release --workspace --bins

demo: ## a hub and three agents; SECONDS=30 ends by itself
	$(call install,$(BUILD_PACKAGES) $(DEMO_PACKAGES))
	cargo build --locked --workspace --bins
	@exec "$(CARGO_TARGET_DIR)/debug/linli-demo" $(if $(SECONDS),--seconds $(SECONDS))

test: ## all tests, with what they need
	$(call install,$(BUILD_PACKAGES) $(TEST_PACKAGES))
	$(MAKE) schemathesis
	$(MAKE) oidc-provider
	$(MAKE) peers
	$(MAKE) test-rust
	$(MAKE) test-postgres
	@tests/imports >/dev/null
	@docs/check
	@if [ -x systemd/check ]; then systemd/check; fi
	@if [ -x configs/prometheus/check ]; then configs/prometheus/check; fi

# The checker of the OpenAPI document; without a network the test that wants it says that it is skipped.
SCHEMATHESIS := $(HOME)/.cache/linli/schemathesis
schemathesis:
	@[ -x "$(SCHEMATHESIS)/bin/schemathesis" ] || { python3 -m venv "$(SCHEMATHESIS)" && \
	  "$(SCHEMATHESIS)/bin/pip" install --quiet "schemathesis==4.32.5"; } || echo "schemathesis could not be installed"

# The OpenID provider of the tests, as tests/oidc/package-lock.json pins it. Node is Debian's where there is none.
OIDC_PROVIDER := $(HOME)/.cache/linli/oidc-provider
oidc-provider:
	@command -v node >/dev/null && command -v npm >/dev/null || $(MAKE) node || echo "node could not be installed"
	@cmp -s tests/oidc/package-lock.json "$(OIDC_PROVIDER)/installed" || { mkdir -p "$(OIDC_PROVIDER)" && \
	  cp tests/oidc/package.json tests/oidc/package-lock.json "$(OIDC_PROVIDER)" && \
	  npm ci --prefix "$(OIDC_PROVIDER)" --no-audit --no-fund --ignore-scripts --loglevel error && \
	  cp tests/oidc/package-lock.json "$(OIDC_PROVIDER)/installed"; } || echo "oidc-provider could not be installed"

# What plays the devices in the tests of sources.
PEERS := $(HOME)/.cache/linli/peers
peers:
	@cmp -s tests/peers/requirements.txt "$(PEERS)/installed" || { python3 -m venv "$(PEERS)" && \
	  "$(PEERS)/bin/pip" install --quiet -r tests/peers/requirements.txt && \
	  cp tests/peers/requirements.txt "$(PEERS)/installed"; } || echo "the peers of sources could not be installed"

.PHONY: node
node:
	$(call install,nodejs npm)

test-rust:
	cargo build --locked --workspace --bins
	@if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --locked --workspace --no-fail-fast; \
	else \
	  cargo test --locked --workspace --no-fail-fast -- --test-threads 2; \
	fi

# What needs a hub's database, once more with PostgreSQL, on a socket of its own; sources of agents know no database. Of the whole workspace, so that it is
# what was built before.
test-postgres:
	@directory=$$(mktemp -d) && trap 'tests/postgres stop "$$directory"' EXIT && tests/postgres start "$$directory" && \
	export LINLI_TEST_POSTGRES="$$directory" && \
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --locked --workspace -E '(package(linli-hub) or package(linli-store) or package(linli-tests)) and not binary(/^sources_/)' --no-fail-fast; \
	else \
	  cargo test --locked --package linli-hub --package linli-store --package linli-tests --no-fail-fast -- --test-threads 2; \
	fi

check: ## format, lints, docs, dependencies
	$(call install,$(BUILD_PACKAGES))
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --locked check bans licenses sources
	tests/imports
	docs/check

bench: ## the tables of docs/src/measurements.md, beside rsyslog, NATS and SEC on the same events
	$(call install,$(BUILD_PACKAGES) $(BENCH_PACKAGES))
	$(MAKE) peers
	cargo build --locked --release --workspace --bins
	"$(CARGO_TARGET_DIR)/release/linli-bench" --events $(BENCH_EVENTS)
	cargo bench --locked --workspace --bench codec --bench decode --bench spool --bench ingest --bench correlate --bench sec
	@directory=$$(mktemp -d) && trap 'tests/postgres stop "$$directory"' EXIT && tests/postgres start "$$directory" && \
	LINLI_BENCH_POSTGRES="$$directory" cargo bench --locked --package linli-hub --bench cases

# Links, pages, lengths, commands and paths of the documents; commands of the programs only where these are built.
docs-check:
	@docs/check

MDBOOK_VERSION := 0.4.52
docs: docs-check ## the handbook, into $(CARGO_TARGET_DIR)/book
	@mdbook --version 2>/dev/null | grep -q 'v$(MDBOOK_VERSION)$$' || cargo install --locked mdbook --version $(MDBOOK_VERSION)
	mdbook build docs --dest-dir "$(CARGO_TARGET_DIR)/book"

man: build ## man pages and completions, into $(CARGO_TARGET_DIR)/man
	"$(CARGO_TARGET_DIR)/debug/linli-agent" man "$(CARGO_TARGET_DIR)/man"
	"$(CARGO_TARGET_DIR)/debug/linli-hub" man "$(CARGO_TARGET_DIR)/man"

clean: ## the cache
	cargo clean
