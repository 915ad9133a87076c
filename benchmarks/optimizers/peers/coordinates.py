"""A space as a box of numbers, for libraries that know only reals and integers.

Reals, and integers on a log scale, are a real in [0, 1] in their own scale (rounded to the lattice when decoded);
integers, ordinals and choices are the integer position of their level: as a user of such a library would write it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray


class Box:
    """Bounds `low`, `high` (d,) and the mask `integer` (d,) of a space's numbers."""

    def __init__(self, space: hyppo.Space) -> None:
        self.space = space
        parameters = list(space.parameters.values())
        self.integer = np.array([not isinstance(p, hyppo.Real) and not getattr(p, "log", False) for p in parameters])
        self.low: FloatArray = np.zeros(len(parameters))
        self.high: FloatArray = np.where(self.integer, space.levels - 1, 1).astype(np.float64)

    def params(self, numbers: Sequence[float] | FloatArray) -> dict[str, Any]:
        """The point that numbers within the bounds stand for."""
        return self.space.decode(np.asarray(numbers, dtype=np.float64) / np.maximum(self.high, 1.0))
