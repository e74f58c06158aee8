# `make` alone says what there is. Everything runs from a clean checkout on Debian with rustup's stable cargo and apt.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
FUZZ_SECONDS ?= 60
CRASH_KILLS ?= 10000
CRASH_RUNS ?= 100000
BENCH_SUITES ?= decode memory queue ship apply-sqlite apply-plugin apply-mariadb apply-mariadb-bulk live-log live-snapshot live-lag sqlite-source

# Rust first looks beside rustup, which a non-interactive shell may not have on its PATH.
export PATH := $(HOME)/.cargo/bin:$(PATH)

PROGRAMS := rlog-extract rlog-ship rlog-queue rlog-apply rlog-dump
BUILT := target/release

.PHONY: help build demo test check servers tools bench fuzz crash plugin-check install uninstall deb clean

help:
	@echo 'make build              release binaries in $(BUILT)/'
	@echo 'make demo               see it work: a live database, its log, a replica, and what happened in between'
	@echo 'make test               everything that CI runs: format, lints, documentation, all tests, a slice of each fuzz target'
	@echo 'make check              the quick part of it: format, lints, documentation'
	@echo "make bench              rlog beside its peers on generated loads; results in benches/runs/ (RLOG_BENCH_SCALE=0.1 is quick; BENCH_SUITES=$(firstword $(BENCH_SUITES)) is one suite)"
	@echo 'make fuzz               every fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo 'make crash              the long crash campaign: CRASH_KILLS ($(CRASH_KILLS)) kills, CRASH_RUNS ($(CRASH_RUNS)) simulated power cuts'
	@echo 'make plugin-check       the tests of plug-ins once more under valgrind: errors of memory and leaks (some minutes)'
	@echo 'make install            binaries, manual pages, completions below DESTDIR and PREFIX ($(PREFIX)); make uninstall'
	@echo 'make deb                a Debian package in dist/'
	@echo 'make servers            the database servers that tests use, unpacked into .servers/ (or $$RLOG_SERVERS)'

# What the build needs and a fresh machine may lack.
tools:
	.ci/tools

build: tools
	$(CARGO) build --release --locked

demo: tools
	.ci/tools sqlite3:sqlite3
	$(CARGO) build --release --locked
	PATH="$(CURDIR)/$(BUILT):$$PATH" examples/demo

servers:
	tests/servers/fetch

check: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

# Servers first: without the network it should fail in the first minute, not the last.
test: servers check
	.ci/tools ssh:openssh-client /usr/sbin/sshd:openssh-server
	$(CARGO) test --locked
	$(CARGO) check --locked --no-default-features
	fuzz/run -s 10 -n 20000
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) fmt --manifest-path benches/Cargo.toml --check
	$(CARGO) check --locked --manifest-path benches/Cargo.toml --target-dir target/benches

bench: servers build
	$(CARGO) run --release --locked --manifest-path benches/Cargo.toml --target-dir target/benches -- $(BENCH_SUITES)

fuzz: tools
	fuzz/run -s $(FUZZ_SECONDS)

crash: servers tools
	RLOG_CRASH_KILLS=$(CRASH_KILLS) RLOG_CRASH_RUNS=$(CRASH_RUNS) $(CARGO) test --locked --release --features planted --test crash -- --include-ignored --nocapture --test-threads=2
	RLOG_CRASH_KILLS=$(CRASH_KILLS) RLOG_CRASH_RUNS=$(CRASH_RUNS) $(CARGO) test --locked --release --test sqlite -- --nocapture kills shadow

plugin-check: tools
	.ci/tools valgrind:valgrind
	RLOG_PLUGIN_VALGRIND=1 $(CARGO) test --locked --test plugin -- listeners:: streams:: kills:: contract::

# Not through `build`, so that `sudo make install` after `make build` needs no compiler for root.
$(PROGRAMS:%=$(BUILT)/%):
	$(MAKE) build

install: $(PROGRAMS:%=$(BUILT)/%)
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/share/man/man1" \
	  "$(DESTDIR)$(PREFIX)/share/man/man3" "$(DESTDIR)$(PREFIX)/share/man/man5" \
	  "$(DESTDIR)$(PREFIX)/share/man/man7" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" \
	  "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d" "$(DESTDIR)$(PREFIX)/share/rlog"
	install -m 755 $(PROGRAMS:%=$(BUILT)/%) "$(DESTDIR)$(PREFIX)/bin"
	install -m 644 include/rlog_plugin.h "$(DESTDIR)$(PREFIX)/include"
	install -m 644 man/*.1 "$(DESTDIR)$(PREFIX)/share/man/man1"
	install -m 644 man/*.3 "$(DESTDIR)$(PREFIX)/share/man/man3"
	install -m 644 man/*.5 "$(DESTDIR)$(PREFIX)/share/man/man5"
	install -m 644 man/*.7 "$(DESTDIR)$(PREFIX)/share/man/man7"
	install -m 644 completions/bash/* "$(DESTDIR)$(PREFIX)/share/bash-completion/completions"
	install -m 644 completions/zsh/* "$(DESTDIR)$(PREFIX)/share/zsh/site-functions"
	install -m 644 completions/fish/* "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	install -m 644 misc/rlog.magic "$(DESTDIR)$(PREFIX)/share/rlog"

uninstall:
	cd "$(DESTDIR)$(PREFIX)" && rm -f $(PROGRAMS:%=bin/%) $(patsubst man/%.1,share/man/man1/%.1,$(wildcard man/*.1)) \
	  include/rlog_plugin.h $(patsubst man/%.3,share/man/man3/%.3,$(wildcard man/*.3)) \
	  $(patsubst man/%.5,share/man/man5/%.5,$(wildcard man/*.5)) $(patsubst man/%.7,share/man/man7/%.7,$(wildcard man/*.7)) $(PROGRAMS:%=share/bash-completion/completions/%) \
	  $(PROGRAMS:%=share/zsh/site-functions/_%) $(PROGRAMS:%=share/fish/vendor_completions.d/%.fish) share/rlog/rlog.magic
	-rmdir "$(DESTDIR)$(PREFIX)/share/rlog"

deb: build
	misc/deb dist

clean:
	$(CARGO) clean
