"""A problem: a space, a true loss over it, and the noise of a training.

symbol   shape   meaning
unit     (q, d)  lattice coordinates in [0, 1], as `hyppo.Space` has them
natural  (q, d)  a real's or an integer's value; of a choice or an ordinal the position in its list
loss     (q,)    true (mean) loss, which scores a recommendation
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

import hyppo

FloatArray = npt.NDArray[np.float64]


def natural(space: hyppo.Space, unit: FloatArray) -> FloatArray:
    """Values of points on the lattice, (q, d) -> (q, d); a choice and an ordinal give their position."""
    level = space.level_of(unit)
    out = np.empty(unit.shape)
    for j, p in enumerate(space.parameters.values()):
        if isinstance(p, hyppo.Real):
            u = p.unit(level[:, j])
            out[:, j] = p.low * (p.high / p.low) ** u if p.log else p.low + u * (p.high - p.low)
        elif isinstance(p, hyppo.Integer):
            out[:, j] = p.low + level[:, j] * p.step
        else:
            out[:, j] = level[:, j]
    return out


def natural_of(space: hyppo.Space, params: Mapping[str, Any]) -> FloatArray:
    """The same of one point as a dict, (1, d); a real keeps the very value given."""
    row = [
        float(params[name]) if isinstance(p, hyppo.Real | hyppo.Integer) else float(p.index(params[name]))
        for name, p in space.parameters.items()
    ]
    return np.array([row])


@dataclass(frozen=True)
class Noise:
    """Zero-mean noise of one training: a spread that depends on the point, times a variate of unit variance.

    Parameters
    ----------
    name : str
    spread : callable
        (unit (q, d), height (q,)) -> (q,): standard deviation, in units of the problem's `scale`. Height is the true
        loss above the best of a random sample, in the same unit.
    variate : callable
        Generator -> float, of mean 0 and variance 1.
    """

    name: str
    spread: Callable[[FloatArray, FloatArray], FloatArray]
    variate: Callable[[np.random.Generator], float]


@dataclass(frozen=True)
class Problem:
    """Something to minimise.

    Parameters
    ----------
    name : str
        Unique, and sufficient to create the problem: `bbob/f03/d05/i17`.
    family : str
    split : {"choose", "report"}
        Problems for choosing defaults, and reported problems, are never the same.
    space : hyppo.Space
    loss : callable
        natural (q, d) -> true loss (q,).
    noise : Noise, optional
    samples : (n, s) array, optional
        Recorded losses of real trainings, n lattice points in the space's order, s seeds: instead of `noise`. NaN: the
        training failed.
    failed : float
        Substitute loss of a failed training, in the true loss and for optimisers that have no notion of failure.
        NaN: no training fails.
    draw : callable, optional
        (true loss, Generator) -> loss of one training: instead of `noise`.
    replicas : int
        Number of trainings in an evaluation of a point.
    """

    name: str
    family: str
    split: str
    space: hyppo.Space
    loss: Callable[[FloatArray], FloatArray]
    noise: Noise | None = None
    samples: FloatArray | None = None
    failed: float = math.nan
    draw: Callable[[float, np.random.Generator], float] | None = None
    replicas: int = 1

    @property
    def noisy(self) -> bool:
        return self.noise is not None or self.samples is not None or self.draw is not None

    def true(self, params: Mapping[str, Any]) -> float:
        """True loss of one point."""
        return float(self.loss(natural_of(self.space, params))[0])

    def expected(self, params: Mapping[str, Any]) -> float:
        """Mean loss of a training that does not fail: the true value for an estimate and its interval."""
        if self.samples is None:
            return self.true(params)
        row = self._recorded(self.space.encode(params)[None, :])
        return self.failed if np.isnan(row).all() else float(np.nanmean(row))

    def _recorded(self, unit: FloatArray) -> FloatArray:
        """Losses of one point, (1, d) -> (s,)."""
        assert self.samples is not None
        row: FloatArray = self.samples[
            np.ravel_multi_index(tuple(self.space.level_of(unit)[0]), tuple(self.space.levels))
        ]
        return row

    def resampled(self, params: Mapping[str, Any], seed: int, training: int) -> float:
        """Loss of one training, drawn with replacement from the recorded ones; NaN if it failed.

        `losses` draws without replacement: after eight of ten the mean of a point is nearly its true one. These are
        independent, and their expected value is `expected`.
        """
        unit = self.space.encode(params)[None, :]
        address = [zlib.crc32(self.name.encode()), seed, zlib.crc32(self.space.keys(unit)[0]), training]
        return float(np.random.default_rng(address).choice(self._recorded(unit)))

    def with_seed(self, params: Mapping[str, Any], training: int) -> float:
        """Loss of the training of one recorded seed, the same for all points; NaN if it failed."""
        row = self._recorded(self.space.encode(params)[None, :])
        return float(row[training % len(row)])

    @cached_property
    def _levels(self) -> tuple[float, float]:
        """Best of 4,096 random points, and from it to their tenth percentile: the scale on which good points differ."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        unit = self.space.spread(rng.random((4096, self.space.dimension)))
        losses = self.loss(natural(self.space, unit))
        low, tenth = np.quantile(losses, [0.0, 0.1])
        return float(low), float(tenth - low) or 1.0

    @property
    def scale(self) -> float:
        return self._levels[1]

    def losses(self, params: Mapping[str, Any], seed: int, first: int, count: int) -> list[float]:
        """Losses of trainings `first` ... `first + count - 1` of a point in the run of `seed`.

        They depend on nothing else: every peer that tries the point in this run draws the same ones. NaN: it failed.
        """
        if not self.noisy:
            return [self.true(params)] * count
        unit = self.space.encode(params)[None, :]
        key = self.space.keys(unit)[0]
        address = [zlib.crc32(self.name.encode()), seed, zlib.crc32(key)]
        if self.samples is not None:
            row = self._recorded(unit)
            order = np.random.default_rng(address).permutation(len(row))
            return [float(row[order[r % len(row)]]) for r in range(first, first + count)]
        true = self.true(params)
        if self.draw is not None:
            return [self.draw(true, np.random.default_rng([*address, r])) for r in range(first, first + count)]
        assert self.noise is not None
        low, scale = self._levels
        height = np.array([max(true - low, 0.0) / scale])
        spread = scale * float(self.noise.spread(unit, height)[0])
        return [
            true + spread * self.noise.variate(np.random.default_rng([*address, r]))
            for r in range(first, first + count)
        ]
