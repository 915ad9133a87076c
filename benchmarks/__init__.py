"""Measurements: `python -m benchmarks.kernels`, and the problems that searches are compared on."""
