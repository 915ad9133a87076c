"""The next points to try."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyppo import acquisition
from hyppo.search.evidence import Observations, checked, gather
from hyppo.search.improvement import Improvement
from hyppo.search.local import LocalSearch
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, Space

__all__ = ["Proposal", "propose", "propose_batch"]

NOISY = -3.0  # log of a learned noise variance from which it rules the search


@dataclass(frozen=True)
class Proposal:
    """A point to try, and where it comes from in a form that JSON keeps."""

    unit: FloatArray  # (d,)
    origin: dict[str, Any]


def propose(
    space: Space,
    data: Observations,
    pending: FloatArray,
    taken: Set[bytes],
    generator: np.random.Generator,
    *,
    surrogate: str = "auto",
    risk: float = 0.0,
    previous: Sequence[Mapping[str, Any]] = (),
) -> Proposal | None:
    """The next point to try.

    Parameters
    ----------
    space : Space
    data : Observations
        What is known.
    pending : (p, d) array
        Coordinates of points without a loss yet.
    taken : set of bytes
        `space.keys` of all points that were ever tried or are pending.
    generator : numpy.random.Generator
        Of this ask alone.
    surrogate : {"auto", "gp", "rbf", "random"}
        "auto" lets both models take turns.
    risk : float
        Weight of the spread in the score, >= 0.
    previous : sequence of mappings
        Origins of all earlier trials, by number.

    Returns
    -------
    Proposal or None
        A point that is not taken; None where the space has no other.

    Raises
    ------
    StudyError
        An unknown surrogate, or a negative risk.

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(a=Real(0, 1))
    >>> unit = np.array([[0.0], [0.4], [1.0]])
    >>> data = Observations(unit, np.array([1.0, 0.1, 1.2]), np.full(3, np.nan), np.ones(3, dtype=np.int64))
    >>> proposal = propose(space, data, np.empty((0, 1)), set(space.keys(unit)), np.random.default_rng(0))
    >>> proposal.origin["by"], bool(0.1 < proposal.unit[0] < 0.7)
    ('gp', True)
    """
    found = propose_batch(space, data, pending, taken, generator, 1, surrogate=surrogate, risk=risk, previous=previous)
    return found[0] if found else None


@on_one_thread
def propose_batch(
    space: Space,
    data: Observations,
    pending: FloatArray,
    taken: Set[bytes],
    generator: np.random.Generator,
    count: int,
    *,
    surrogate: str = "auto",
    risk: float = 0.0,
    previous: Sequence[Mapping[str, Any]] = (),
) -> list[Proposal]:
    """Up to `count` points to try, from one fit of each surrogate; the first is what `propose` gives.

    Each further point takes those before it for pending. Fewer come where the space has no more.

    Parameters
    ----------
    count : int
        At least 1; the others are those of `propose`.

    Raises
    ------
    StudyError
        As `propose`.

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(a=Real(0, 1))
    >>> unit = np.array([[0.0], [0.4], [1.0]])
    >>> data = Observations(unit, np.array([1.0, 0.1, 1.2]), np.full(3, np.nan), np.ones(3, dtype=np.int64))
    >>> batch = propose_batch(space, data, np.empty((0, 1)), set(), np.random.default_rng(0), 3)
    >>> [proposal.origin["by"] for proposal in batch]
    ['gp', 'rbf', 'gp']
    """
    checked(surrogate, risk)
    seen = {*taken, *space.keys(data.unit), *space.keys(pending)}
    pool = acquisition.candidates.fresh(space, generator, seen, max(acquisition.candidates.POOL, count))
    if pool.shape[0] == 0:
        return []
    if surrogate == "random":
        return [Proposal(unit, {"by": "random"}) for unit in pool[:count]]
    evidence = gather(space, data, risk)
    if evidence.n < 2 or not np.ptp(evidence.y) > 0.0:
        return apart(space, np.vstack([evidence.x, space.features(pending)]), pool, count)
    origins = list(previous)
    given: list[FloatArray] = []
    proposals: list[Proposal] = []
    improvement: Improvement | None = None
    distance = LocalSearch(space, evidence, generator, pool, ensemble=surrogate == "rbf")
    while len(proposals) < count:
        unit: FloatArray | None = None
        if surrogate == "gp" or (surrogate == "auto" and is_process_turn(origins)):
            if improvement is None:
                waiting, room = np.vstack([pending, *given]), count - len(given)
                improvement = Improvement(
                    space, evidence, waiting, seen, generator, pool, origins, given=len(given), room=room
                )
            unit, origin = improvement.next(given, seen), improvement.origin
        if unit is None:
            found = distance.next(np.vstack([pending, *given]), seen, origins)
            if found is None:
                break
            unit, origin = found
        if proposals:
            origin = origin | {"batch": len(proposals)}
        seen.update(space.keys(unit[None, :]))
        given.append(unit)
        origins.append(origin)
        proposals.append(Proposal(unit, origin))
    return proposals


def is_process_turn(previous: Sequence[Mapping[str, Any]]) -> bool:
    """Every other ask; every third where single trainings turned out noisy, in which the local search bears up better.

    Measured: every third instead of every other was worth 1.7 times the trainings under such noise, and cost a tenth
    without noise or with replicas.
    """
    since = 0
    for origin in reversed(previous):
        if origin.get("by") == "gp":
            noisy = not origin["known_noise"] and origin["theta"][-1] > NOISY
            return since >= (2 if noisy else 1)
        since += origin.get("by") == "rbf"
    return True


def apart(space: Space, centres: FloatArray, pool: FloatArray, count: int) -> list[Proposal]:
    """Points of the pool as far from everything as it has, while there is nothing to learn from."""
    x = space.features(pool)
    distance = acquisition.weighted.distances(x, centres)
    proposals: list[Proposal] = []
    for _ in range(min(count, pool.shape[0])):
        row = int(np.argmax(distance))
        proposals.append(Proposal(pool[row], {"by": "design"}))
        distance = np.minimum(distance, acquisition.weighted.distances(x, x[row : row + 1]))
        distance[row] = -1.0
    return proposals
