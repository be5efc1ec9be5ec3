# The commands of this repository. Everything they install goes into .venv-*, node_modules, target and .local.
.DEFAULT_GOAL := help
.PHONY: help dev watch test chaos release bench-start clean-local

help:
	@echo "make dev          the whole system on 127.0.0.1, with a stand-in for a Forge site; Ctrl-C ends it"
	@echo "make watch        the functions, rebuilt at every save, on 127.0.0.1:8080 for a tunnel"
	@echo "make test         everything that must pass: formats, lints, unit, wire and end-to-end tests"
	@echo "make chaos        kills check-services 400 times (KILLS=, SEED=); nothing may be lost or told twice"
	@echo "make release      builds what AWS would get, and checks that it can run there"
	@echo "make bench-start  the same, and what a cold start of each function costs"
	@echo "make clean-local  forgets what the local stack has stored"

dev watch test chaos release bench-start:
	@python3 infra/local/start.py $@

clean-local:
	rm -rf .local
