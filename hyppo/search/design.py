"""The initial design: points that cover a space before anything is known of it.

It lives on the lattice, has no point twice, is smaller than asked where the space is smaller, and spans the
linear tail of a radial-basis surrogate: [1, unit] has full column rank over the parameters that can vary, as far as the
number of points allows (Powell 1992).
"""

from collections.abc import Iterator

import numpy as np

from hyppo.seeds import Purpose, generator_for
from hyppo.space import FloatArray, Space

ENUMERABLE = 4096  # spaces up to this size are listed, larger ones sampled: there duplicates are rare


def design_size(dimension: int) -> int:
    """Points of the initial design for a space of `dimension` parameters: max(4, d + 1)."""
    return max(4, dimension + 1)


def sobol(space: Space, n: int, seed: int = 0) -> FloatArray:
    """Scrambled Sobol points on the lattice, (m, d) with m = min(n, size of the space).

    A longer design begins with the shorter one of the same seed.

    Parameters
    ----------
    space : Space
    n : int
        Points asked for, at least 0.
    seed : int
        Root seed of the study.

    References
    ----------
    Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14:466.

    Examples
    --------
    >>> from hyppo.space import Integer
    >>> sobol(Space(a=Integer(0, 1), b=Integer(0, 1)), 9).shape
    (4, 2)
    """
    # Of the first design_size(d) points, one that adds no rank is passed over if the points left are all needed for
    # it: on binary axes Sobol's first d + 1 points can span less than half of the linear tail.
    leading = design_size(space.dimension)
    full = min(leading, 1 + int(np.sum(space.levels > 1)))
    basis = np.empty((0, space.dimension + 1))
    chosen: dict[bytes, FloatArray] = {}
    passed: dict[bytes, FloatArray] = {}
    for key, unit in _stream(space, n, seed):
        if len(chosen) == n:
            break
        if key in chosen:
            continue
        if len(chosen) < leading and len(basis) < full:
            rest = _orthogonal(basis, unit)
            if rest is not None:
                basis = np.vstack([basis, rest])
            elif leading - len(chosen) <= full - len(basis):
                passed.setdefault(key, unit)
                continue
        chosen[key] = unit
    for key, unit in passed.items():
        if len(chosen) < n:
            chosen.setdefault(key, unit)
    return np.array(list(chosen.values())).reshape(-1, space.dimension)


def _orthogonal(basis: FloatArray, unit: FloatArray) -> FloatArray | None:
    """Unit vector of [1, unit] that `basis` (orthonormal rows) does not span; None where it spans all of it."""
    row = np.concatenate([[1.0], unit])
    row /= np.linalg.norm(row)
    for _ in range(2):  # twice is enough for orthogonality to rounding (Kahan & Parlett)
        row = row - basis.T @ (basis @ row)
    norm = float(np.linalg.norm(row))
    return row / norm if norm > 1e-6 else None


def _stream(space: Space, n: int, seed: int) -> Iterator[tuple[bytes, FloatArray]]:
    """Keyed lattice points of the Sobol sequence, patiently; then all of a small finite space, in random order."""
    from scipy.stats import qmc

    engine = qmc.Sobol(space.dimension, rng=generator_for(seed, Purpose.DESIGN, 0))
    drawn, patience = 0, 32 * (n + 8)
    while drawn < patience:
        unit = space.spread(np.asarray(engine.random(max(8, drawn))))
        drawn += len(unit)
        yield from zip(space.keys(unit), unit, strict=True)
    if space.combinations is not None and space.combinations <= ENUMERABLE:
        order = generator_for(seed, Purpose.DESIGN, 2).permutation(space.combinations)
        unit = space.unit_of(np.stack(np.unravel_index(order, tuple(space.levels)), axis=1).astype(np.int64))
        yield from zip(space.keys(unit), unit, strict=True)
