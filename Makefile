# The front door. `make` alone lists the targets.
#
# Everything is built under CARGO_TARGET_DIR, by default target/, which git ignores.

export CARGO_TARGET_DIR ?= $(CURDIR)/target

.PHONY: help python wheels demo test test-next lint bench bench-python fuzz soak sanitize docs ecosystem
.DEFAULT_GOAL := help

help: ## list the targets
	@echo 'make TARGET, where TARGET is'
	@sed -n 's/^\([a-z-]*\):.*## /  \1 \t/p' $(MAKEFILE_LIST) | expand -t 10

python: ## build the extension module for each interpreter, into environments of their own
	@scripts/build-python

ecosystem: ## other libraries' own tests on tepal's loop and on asyncio's
	@scripts/ecosystem

wheels: ## build a wheel for each interpreter
	@scripts/wheels

demo: ## run servers and clients on real connections, and check what they did
	@scripts/demo

test: ## set up what is needed, run every test, list what was absent
	@scripts/test

test-next: ## the Python half on CPython 3.14 and 3.15, out of Debian sid; needs root
	@scripts/test-next

lint: ## formatting, clippy, the house rules, licences and advisories
	@scripts/lint

bench: ## measure against the bare loop, tokio and socat; print the tables
	@scripts/bench $(BENCH_ARGS)

bench-python: ## compare event loops of Python (PYTHON=...): asyncio, uvloop, others, tepal
	@scripts/bench-python $(BENCH_ARGS)

fuzz: ## run each fuzz target for FUZZ_SECONDS (20) under FUZZ_SANITIZER (address)
	@scripts/fuzz

soak: ## every ending of TLS TEPAL_CLOSE_REPEATS (200) times, then the tests for SOAK_SECONDS (600)
	@scripts/soak

sanitize: ## the tests of the crates with unsafe code for memory and system calls, under AddressSanitizer
	@scripts/sanitize

docs: ## build the documentation; a warning is an error
	@scripts/docs
