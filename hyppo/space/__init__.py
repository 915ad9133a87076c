"""The search space: named parameters, the unit cube, and the lattice between them.

    symbol  meaning
    d       number of parameters
    unit    (d,) float64 in [0, 1]: a point's lattice coordinates, both ends included
    level   (d,) int64: the same point in integers; two points are the same if their levels are
    D       number of feature columns (a choice of three and more values takes one column a value)

A point travels as `params` (a dict of native Python values) outside and as `unit` inside; `level` decides identity, so
that a duplicate is never a matter of comparing floats.
"""

from hyppo.space.parameters import AnyParameter, Choice, FloatArray, IntArray, Integer, Ordinal, Parameter, Real
from hyppo.space.space import Space

__all__ = [
    "AnyParameter",
    "Choice",
    "FloatArray",
    "IntArray",
    "Integer",
    "Ordinal",
    "Parameter",
    "Real",
    "Space",
]
