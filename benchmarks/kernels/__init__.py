"""Kernels, surrogates and asks against peers and against the machine. Run as `python -m benchmarks.kernels`."""
