"""Benchmarks: each module has a docstring (its first line says what it measures) and `main()`."""
