"""The next points to try.

A proposer turns the known losses into points. `PROPOSERS` holds those with a name; a study also takes a user's object.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from hyppo import acquisition
from hyppo.errors import HyppoError, StudyError
from hyppo.search.improvement import Improvement
from hyppo.search.known import Known
from hyppo.search.local import LocalSearch
from hyppo.search.memory import Memory, ModelStep, Step
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray

SEARCHED = 16  # first points of an ask that are searched for like a single one; later ones are picked from candidates
NOISY = -3.0  # log of a learned noise variance from which it rules the search


@dataclass(frozen=True, eq=False)
class Proposal:
    """A point to try, and the step that proposed it."""

    unit: FloatArray  # (d,)
    step: Step


class Proposer(Protocol):
    """Chooses the next points."""

    def propose(
        self, known: Known, count: int, generator: np.random.Generator
    ) -> "Sequence[Proposal | Mapping[str, Any]]":
        """Up to `count` points that are neither tried nor pending, the most promising first.

        Parameters
        ----------
        known : Known
            `known.space`, `known.params` with `known.losses`, `known.pending_params`.
        count : int
            At least 1.
        generator : numpy.random.Generator
            Belongs to this ask: a proposer that uses no other random numbers proposes the same after a restart.

        Returns
        -------
        sequence of dict
            Parameters by name. (The proposers of this package give a `Proposal` each.)
        """


@on_one_thread
def propose(
    known: Known, generator: np.random.Generator, count: int = 1, by: str | Proposer = "auto"
) -> list[Proposal]:
    """Up to `count` points to try, from one fit of each surrogate; fewer if the space has no more.

    Each point takes those before it as pending.

    Parameters
    ----------
    known : Known
    generator : numpy.random.Generator
        Of this ask alone.
    count : int
        At least 1.
    by : str or Proposer
        A name in `PROPOSERS`, or a proposer. If all points of a user's proposer are known, a random new point is
        returned.

    Raises
    ------
    StudyError
        A user's proposer gave something that is no point of the space.

    Examples
    --------
    >>> from hyppo.search.evidence import Observations
    >>> from hyppo.space import Real, Space
    >>> unit = np.array([[0.0], [0.4], [1.0]])
    >>> data = Observations(unit, np.array([1.0, 0.1, 1.2]), np.full(3, np.nan), np.ones(3, dtype=np.int64))
    >>> space = Space(a=Real(0, 1))
    >>> known = Known(space, data, pending=np.empty((0, 1)), taken=set(space.keys(unit)))
    >>> [proposal.step.by for proposal in propose(known, np.random.default_rng(0), 3)]
    ['gp', 'rbf', 'gp']
    """
    if isinstance(by, str):
        return PROPOSERS[by].propose(known, count, generator)
    taken = known.taken.copy()
    new: list[Proposal] = []
    for point in by.propose(known, count, generator):
        proposal = point if isinstance(point, Proposal) else _proposal(known, point, by)
        (key,) = known.space.keys(proposal.unit[None, :])
        if key not in taken and len(new) < count:
            taken.add(key)
            new.append(proposal)
    return new or Uniform().propose(known, 1, generator)


def _proposal(known: Known, point: Any, by: Proposer) -> Proposal:
    """A user's point, checked."""
    name = type(by).__qualname__
    if not isinstance(point, Mapping):
        raise StudyError(f"surrogate {name}: expected a list of dictionaries of parameters, got {point!r} in it")
    try:
        unit = known.space.encode(known.space.native(point))
    except HyppoError as error:
        raise StudyError(f"surrogate {name}: {error}") from error
    return Proposal(unit, Step(f"user:{name}"))


def _free(known: Known, count: int, generator: np.random.Generator) -> FloatArray:
    """Free points, near to uniform, (q, d); none if the space has no more."""
    wanted = max(acquisition.candidates.POOL, count)
    visited = np.vstack([known.data.unit, known.pending])
    return acquisition.candidates.fresh(known.space, generator, known.taken, wanted, visited)


class Uniform:
    """Random points."""

    def propose(self, known: Known, count: int, generator: np.random.Generator) -> list[Proposal]:
        return [Proposal(unit, Step("random")) for unit in _free(known, count, generator)[:count]]


@dataclass(frozen=True)
class Turns:
    """The Gaussian process and the local search take turns.

    Attributes
    ----------
    process_next : callable
        Whether the next turn is the process's, given the memory.
    ensemble : bool
        Whether the local search draws an ensemble through the intervals of the losses.
    """

    process_next: Callable[[Memory], bool]
    ensemble: bool = False

    def propose(self, known: Known, count: int, generator: np.random.Generator) -> list[Proposal]:
        space, pool = known.space, _free(known, count, generator)
        if pool.shape[0] == 0:
            return []
        if not known.varied:
            visited = np.vstack([known.data.unit, known.pending])
            return spread_out(
                space.features(visited, on_lattice=True), space.features(pool, on_lattice=True), pool, count
            )
        seen, memory = known.taken.copy(), known.memory
        given: list[FloatArray] = []
        proposals: list[Proposal] = []
        improvement: Improvement | None = None
        theta = None if known.success is None else known.success.theta
        step: ModelStep
        local = LocalSearch(known, generator, pool, ensemble=self.ensemble)
        while len(proposals) < count:
            unit: FloatArray | None = None
            waiting = np.vstack([known.pending, *given])
            if self.process_next(memory):
                if improvement is None or len(given) < SEARCHED:
                    room = count - len(given)
                    improvement = Improvement(known, waiting, seen, generator, pool, given=len(given), room=room)
                unit, step = improvement.next(given, seen), improvement.step
            if unit is None:
                found = local.next(waiting, seen, memory)
                if found is None:
                    break
                unit, step = found
            step = replace(step, batch=len(proposals), success=theta)
            seen.update(space.keys(unit[None, :]))
            given.append(unit)
            memory = memory.after(step)
            proposals.append(Proposal(unit, step))
        return proposals


def alternate(memory: Memory) -> bool:
    """Every other turn is the process's; every third if single trainings turned out noisy.

    The local search bears noise better: every third turn instead of every other was worth 1.7 times the trainings under
    such noise, and cost a tenth without noise or with replicas.
    """
    last = memory.process
    noisy = last is not None and not last.known_noise and last.theta[-1] > NOISY
    return last is None or memory.since_process >= (2 if noisy else 1)


def spread_out(centres: FloatArray, x: FloatArray, pool: FloatArray, count: int) -> list[Proposal]:
    """Points of `pool`, whose features are `x`, each as far as possible from `centres` and the others."""
    distance = acquisition.weighted.distances(x, centres)
    proposals: list[Proposal] = []
    for _ in range(min(count, pool.shape[0])):
        row = int(np.argmax(distance))
        proposals.append(Proposal(pool[row], Step("design")))
        distance = np.minimum(distance, acquisition.weighted.distances(x, x[row : row + 1]))
        distance[row] = -1.0
    return proposals


PROPOSERS: dict[str, Uniform | Turns] = {
    "auto": Turns(alternate),
    "gp": Turns(lambda memory: True),
    "rbf": Turns(lambda memory: False, ensemble=True),
    "random": Uniform(),
}
