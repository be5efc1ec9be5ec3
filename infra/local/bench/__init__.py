"""Measures check-services: `make bench`, `make bench-peers` and `make load`."""
