"""The prediction of every surrogate, and the checks that all surrogates share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hyppo.errors import SurrogateError
from hyppo.space import FloatArray

BLOCK = 1024  # candidates predicted at a time: bounds the memory, keeps the BLAS busy
CACHED = 2**16  # entries of a block of products that stays in the second-level cache


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the latent function, each (q,); `std` is 0 if the surrogate has none."""

    mean: FloatArray
    std: FloatArray


class FittedModel(Protocol):
    """A frozen model of the outputs over feature space."""

    def predict(self, x: FloatArray) -> Prediction:
        """Prediction at features x, (q, D)."""
        ...


def as_points(name: str, x: npt.ArrayLike, columns: int | None = None) -> FloatArray:
    """C-contiguous float64 points, (n, D).

    Raises
    ------
    SurrogateError
        Not two-dimensional, other than `columns` columns, or not finite.
    """
    points = np.ascontiguousarray(x, dtype=np.float64)
    if points.ndim != 2 or (columns is not None and points.shape[1] != columns):
        expected = "(n, D)" if columns is None else f"(n, {columns})"
        raise SurrogateError(f"{name}: expected points of shape {expected}, got shape {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise SurrogateError(f"{name}: expected finite features, got {points[row]} in row {row}")
    return points


def as_outputs(name: str, y: npt.ArrayLike, n: int) -> FloatArray:
    """C-contiguous float64 vector, (n,).

    Raises
    ------
    SurrogateError
        Another shape, or not finite: leave failed trials out instead of giving them a loss.
    """
    values = np.ascontiguousarray(y, dtype=np.float64)
    if values.shape != (n,):
        raise SurrogateError(f"{name}: expected one value a point, shape ({n},), got shape {values.shape}")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise SurrogateError(f"{name}: expected finite values, got {values[row]} in row {row}; leave failed trials out")
    return values


def products(x: FloatArray, z: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of x, (q, D), and their products with z, (n, D), a block at a time that stays in the cache.

    With them a mean costs one matrix product and one pass, in which distance, function and sum are one: nothing of size
    q n is ever written to memory.
    """
    transposed = np.ascontiguousarray(z.T)
    step = max(8, CACHED // max(z.shape[0], 1))
    block = np.empty((min(step, x.shape[0]), z.shape[0]))
    for start in range(0, x.shape[0], step):
        some = x[start : start + step]
        yield slice(start, start + step), np.matmul(some, transposed, out=block[: some.shape[0]])
