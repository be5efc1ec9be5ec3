# The commands of this repository. Everything they install goes into .venv-*, node_modules, target and .local.
.DEFAULT_GOAL := help
.PHONY: help aws dev watch test chaos fuzz bench bench-peers load release bench-start clean-local

help:
	@echo "make dev          the whole system on 127.0.0.1, with an emulator of a Forge site; Ctrl-C ends it"
	@echo "make aws          the local AWS alone, for single Rust tests; Ctrl-C ends it"
	@echo "make watch        the functions, rebuilt at every save, on 127.0.0.1:8080 for a tunnel"
	@echo "make test         everything that must pass: formats, lints, unit, wire and end-to-end tests"
	@echo "make chaos        kills check-services 400 times (KILLS=, SEED=); nothing may be lost or told twice"
	@echo "make fuzz         fuzzes what may be probed, for 300 seconds (FUZZ_SECONDS=)"
	@echo "make bench        what 1,000 checks cost on their whole way (ROUNDS=)"
	@echo "make bench-peers  the same targets checked by prometheus-blackbox-exporter, side by side (ROUNDS=)"
	@echo "make load         rounds of 100, 1,000 and 10,000 services with hostile targets (TENANTS=, SERVICES=, TICKS=)"
	@echo "make release      builds what AWS would get, and checks that it can run there"
	@echo "make bench-start  the same, and what a cold start of each function costs"
	@echo "make clean-local  forgets what the local stack has stored"

aws dev watch test chaos bench bench-peers load release bench-start:
	@python3 infra/local/start.py $@

# Without a sanitizer it runs on stable Rust; there is no unsafe code to watch.
FUZZ_SECONDS ?= 300
fuzz:
	cargo install cargo-fuzz --locked --version 0.13.2 --root .local/tools
	mkdir -p fuzz/corpus/target_url
	PATH="$(CURDIR)/.local/tools/bin:$$PATH" cargo fuzz run --sanitizer none target_url fuzz/corpus/target_url fuzz/seeds/target_url -- \
		-dict=fuzz/target_url.dict -max_len=400 -max_total_time=$(FUZZ_SECONDS)

clean-local:
	rm -rf .local
