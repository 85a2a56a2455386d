"""Benchmarks: one command each, `python -m benchmarks.bench_<name>`; every figure says how it was measured."""
