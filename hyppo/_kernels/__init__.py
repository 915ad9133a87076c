"""Compiled loops. A kernel never checks, allocates or draws random numbers; its output comes last and is overwritten.

The fronts in `hyppo.surrogates` and `hyppo.acquisition` pass C-contiguous float64 arrays only, so that each kernel is
compiled once, for any dimension and any memory order of the caller's arrays.
"""
