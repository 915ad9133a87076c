"""Candidates on the lattice of a mixed space, none of them tried before.

    symbol   shape   meaning
    unit     (q, d)  lattice coordinates
    sigma    (q,)    standard deviation of a perturbation, as a fraction of a parameter's range
    mask     (q, d)  which coordinates of which candidate move

An ordered parameter moves by a normal step, reflected at its bounds, and by one level at least; an unordered one
jumps to any other of its values.
"""

from collections.abc import Callable, Set

import numpy as np
import numpy.typing as npt

from hyppo._kernels.neighbours import neighbours
from hyppo.space import FloatArray, Space

BoolArray = npt.NDArray[np.bool_]

POOL = 200  # uniform candidates of an ask
ENUMERATED = 2_000  # spaces with at most as many points are searched exactly
SEARCHED = 2**20  # spaces with at most as many are listed before they are called exhausted
DRAWS = 20  # rounds of uniform points in which a larger one must show a free point


def enumerate_points(space: Space, start: int, stop: int) -> FloatArray:
    """Points start..stop of a finite space in lexicographic order, (stop - start, d)."""
    index = np.arange(start, stop)
    level = np.empty((index.size, space.dimension), dtype=np.int64)
    for j in range(space.dimension - 1, -1, -1):
        index, level[:, j] = np.divmod(index, space.levels[j])
    return space.unit_of(level)


def free(space: Space, unit: FloatArray, taken: Set[bytes]) -> FloatArray:
    """Those of `unit` that are not taken, each once, in their order."""
    keys = space.keys(unit)
    count = len(keys)
    # Backwards, so that the first row of each key stays. `zip` and `dict` loop in C over thousands of keys.
    first = dict(zip(reversed(keys), range(count - 1, -1, -1), strict=True))
    if not taken.isdisjoint(first):
        for key in [key for key in first if key in taken]:
            del first[key]
    return unit if len(first) == count else unit[sorted(first.values())]


def uniform(space: Space, generator: np.random.Generator, count: int) -> FloatArray:
    """Uniform lattice points, (count, d): every value of a list or an integer range has equal mass."""
    return space.spread(generator.random((count, space.dimension)))


def fresh(
    space: Space, generator: np.random.Generator, taken: Set[bytes], count: int, visited: FloatArray
) -> FloatArray:
    """Up to `count` free points, near to uniform; none if a long search finds no free point.

    If almost all of a space is refused, the free points are found around the `visited` ones, (v, d).
    """
    size = space.combinations
    if size is not None and size <= ENUMERATED:
        points = free(space, enumerate_points(space, 0, size), taken)
        return points[generator.permutation(points.shape[0])[:count]]
    for _ in range(DRAWS):
        points = free(space, uniform(space, generator, count), taken)
        if points.shape[0]:
            return points
    if size is not None and size <= SEARCHED:
        step = 2**14
        for start in range(0, size, step):
            points = free(space, enumerate_points(space, start, min(start + step, size)), taken)
            if points.shape[0]:
                return points[generator.permutation(points.shape[0])[:count]]
    elif visited.shape[0]:
        for _ in range(DRAWS):
            points = free(space, around(space, generator, generator.permutation(visited), count), taken)
            if points.shape[0]:
                return points
    return np.empty((0, space.dimension))


def moving(space: Space, generator: np.random.Generator, probability: FloatArray) -> BoolArray:
    """Coordinates that move, each with its row's probability and at least one a row, (q,) -> (q, d)."""
    able = space.levels > 1
    mask = (generator.random((probability.size, space.dimension)) < probability[:, None]) & able
    if able.any():
        one = np.flatnonzero(able)[generator.integers(int(able.sum()), size=probability.size)]
        still = ~mask.any(axis=1)
        mask[still, one[still]] = True
    return mask


def perturb(
    space: Space, generator: np.random.Generator, base: FloatArray, sigma: FloatArray, mask: BoolArray
) -> FloatArray:
    """Neighbours of `base`: the coordinates in `mask` move, (q, d), (q,), (q, d) -> (q, d)."""
    step = generator.standard_normal(base.shape) * sigma[:, None]
    jump = generator.random(base.shape)
    # Reflection at both bounds of any number of times: a triangle wave of period 2.
    moved = base + step + 1.0
    moved -= 2.0 * np.floor(0.5 * moved)
    level = space.level_of(np.vstack([base, np.abs(moved - 1.0)]))
    count = base.shape[0]
    ordered = np.array([parameter.ordered for parameter in space.parameters.values()])
    out = np.empty((count, space.dimension), dtype=np.int64)
    neighbours(level[:count], level[count:], step, jump, mask, space.levels - 1, ordered, out)
    return space.unit_of(out)


def around(
    space: Space,
    generator: np.random.Generator,
    parents: FloatArray,
    count: int,
    scales: tuple[float, float] = (0.01, 0.4),
) -> FloatArray:
    """Perturbations of `parents` in turn: sigma log-uniform in `scales`, each coordinate moving with a probability
    log-uniform in 1/d..1, (p, d) -> (count, d)."""
    base = parents[np.arange(count) % parents.shape[0]]
    sigma = np.exp(generator.uniform(np.log(scales[0]), np.log(scales[1]), count))
    probability = np.exp(generator.uniform(-np.log(space.dimension), 0.0, count))
    return perturb(space, generator, base, sigma, moving(space, generator, probability))


def dycors(
    space: Space, generator: np.random.Generator, parent: FloatArray, sigma: float, probability: float, count: int
) -> FloatArray:
    """Perturbations of one point at one scale, each coordinate moving with `probability` (Regis & Shoemaker 2013)."""
    base = np.repeat(parent[None, :], count, axis=0)
    mask = moving(space, generator, np.full(count, probability))
    return perturb(space, generator, base, np.full(count, sigma), mask)


def evolve(
    space: Space,
    generator: np.random.Generator,
    pool: FloatArray,
    worth: Callable[[FloatArray], FloatArray],
    taken: Set[bytes],
    *,
    rounds: int = 3,
    parents: int = 4,
    children: int = 50,
) -> FloatArray:
    """The point of greatest worth: the best of `pool` and of `rounds` generations of children of the best, (d,).

    `pool` (q, d) holds free points, at least one; children are free points too.
    """
    points = pool
    worths = worth(pool)
    size = space.combinations
    exact = size is not None and size <= ENUMERATED
    for round_ in range(0 if exact else rounds):
        best = np.argsort(-worths, kind="stable")[:parents]
        # Narrower from round to round, to polish the best candidates at the end.
        scales = 0.003 / (1.0 + round_), 0.2 / (1.0 + round_)
        born = free(space, around(space, generator, points[best], children, scales), taken)
        if born.shape[0]:
            points = np.vstack([points[best], born])
            worths = np.concatenate([worths[best], worth(born)])
    chosen: FloatArray = points[int(np.argmax(worths))]
    return chosen
