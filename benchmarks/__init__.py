"""Benchmarks: run `make bench`; see README.md here."""
