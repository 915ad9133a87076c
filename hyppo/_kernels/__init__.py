"""Compiled loops. A kernel never checks, allocates or draws random numbers; its output comes last and is overwritten.

Arrays are C-contiguous float64, which the fronts in `hyppo.surrogates` and `hyppo.acquisition` see to: so that every
kernel is compiled once, whatever the dimension or the memory order of what a caller has.
"""
