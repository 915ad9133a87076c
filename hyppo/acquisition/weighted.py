"""Weighted value and distance.

    symbol    shape   meaning
    v         (q,)    surrogate's value at the candidates, scaled to 0..1 over them
    d         (q,)    distance to the nearest visited or pending point, scaled to 0..1 over them
    w         float   weight of the value, cycling through WEIGHTS

score = w v + (1 - w)(1 - d), least is best (Regis & Shoemaker 2007).
"""

import numpy as np

from hyppo._kernels.acquisition import weighted_score
from hyppo._kernels.distance import min_distance
from hyppo.errors import SurrogateError
from hyppo.space import FloatArray
from hyppo.surrogates.base import as_outputs, as_points

WEIGHTS = (0.5, 0.8, 0.95, 1.0)


def distances(x: FloatArray, centres: FloatArray) -> FloatArray:
    """Distance of each x to the nearest centre, infinite without centres, (q, D), (n, D) -> (q,)."""
    points = as_points("x", x)
    out = np.empty(points.shape[0])
    min_distance(points, as_points("centres", centres, points.shape[1]), out)
    return out


def score(value: FloatArray, distance: FloatArray, weight: float) -> FloatArray:
    """Weighted score of candidates, (q,), (q,) -> (q,).

    Raises
    ------
    SurrogateError
        Shapes that do not agree, values that are not finite, or a weight outside [0, 1].

    Examples
    --------
    >>> score(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.8).round(12)
    array([0.2, 0.8])
    """
    if not 0.0 <= weight <= 1.0:
        raise SurrogateError(f"weight: expected a number in [0, 1], got {weight!r}")
    out = np.empty(value.size)
    weighted_score(
        as_outputs("value", value, value.size), as_outputs("distance", distance, value.size), float(weight), out
    )
    return out
