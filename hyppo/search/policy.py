"""Which training comes next: a point of the design, one that the search proposes, or one more of a known point.

A function of what is known and of the root seed alone, so that a study which goes on from its log asks what the
uninterrupted one would have asked. What is recommended comes from the same models, and so from here too.
"""

from collections.abc import Set
from typing import TYPE_CHECKING

import numpy as np

from hyppo.config import Config
from hyppo.errors import SpaceExhausted
from hyppo.search.columns import Columns
from hyppo.search.design import design_size, sobol
from hyppo.search.known import Known
from hyppo.search.memory import Step
from hyppo.search.propose import Proposal, propose
from hyppo.seeds import generator_for
from hyppo.space import FloatArray, Space
from hyppo.trial import State, Trial

if TYPE_CHECKING:
    from hyppo.search.recommend import Recommendation
    from hyppo.search.surface import Surface

SEARCH_PURPOSE = 2  # keeps the search's random streams apart from those of the designs


class Policy:
    """What one study trains next, given what it knows.

    Parameters
    ----------
    space : Space
    config : Config

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(x=Real(0, 1))
    >>> policy = Policy(space, Config())
    >>> [proposal.step.by for proposal in policy.next(Columns(space), 2)]
    ['design', 'design']
    """

    def __init__(self, space: Space, config: Config) -> None:
        self.space = space
        self.config = config
        self._design: FloatArray = np.empty((0, space.dimension))  # a memo of what the seed determines

    def next(self, columns: Columns, count: int) -> list[Proposal] | Trial:
        """The next new points, up to `count`, or a known trial that deserves the next training more.

        Each point knows those before it as pending. A known trial comes if the space has no new point, and under
        adaptive replicas.

        Raises
        ------
        SpaceExhausted
            No new point is left, and no known one can be trained again now.
        """
        known = columns.known(self.config.risk)
        points = self._points(columns, known, count)
        if not points:
            return self._neediest(columns)
        return self._contender(columns, known, points[0]) or points

    def _points(self, columns: Columns, known: Known, count: int) -> list[Proposal]:
        """The next new points, up to `count`; none if none is left."""
        asked = len(columns.trials)
        if self.space.size is not None and len(known.taken) >= self.space.size:
            return []
        leading = design_size(self.space.dimension)
        # The design goes on where losses are slow to come (many ranks at the start) or trainings fail.
        slow = columns.settled().size < max(2, leading // 2)
        designed = self._designed(known.taken, count if slow else min(count, leading - asked))
        proposals = [Proposal(unit, Step("design")) for unit in designed]
        if len(proposals) == count:
            return proposals
        generator = generator_for(self.config.seed, SEARCH_PURPOSE, asked + len(proposals))
        found = propose(known.with_pending(designed), generator, count - len(proposals), by=self.config.surrogate)
        return proposals + found

    def _designed(self, taken: Set[bytes], count: int) -> list[FloatArray]:
        """The first `count` points of the design that were not tried; fewer where it has found all that it can."""
        length = design_size(self.space.dimension)
        while count > 0:
            if len(self._design) < length:
                self._design = sobol(self.space, length, self.config.seed)
            points = [u for k, u in zip(self.space.keys(self._design), self._design, strict=True) if k not in taken]
            if len(points) >= count or len(self._design) < length:
                return points[:count]
            length *= 2
        return []

    def _contender(self, columns: Columns, known: Known, point: Proposal) -> Trial | None:
        """The trial that deserves the next training more than the new `point`; None under fixed replicas."""
        fewest, most = self.config.replicas
        settled = columns.settled_trials()
        free = np.array([not t.pending and len(t.replicas) < most for t in settled], dtype=np.bool_)
        if fewest == most or not free.any():
            return None
        from hyppo.search.replicate import contender

        row = contender(known, free, point, fewest)
        return None if row is None else settled[row]

    def _neediest(self, columns: Columns) -> Trial:
        """Of an exhausted space, the best of the trials with the fewest replicas.

        Raises
        ------
        SpaceExhausted
            All of them are pending.
        """
        free = [t for t in columns.trials if not t.pending and t.state is State.DONE]
        if not free:
            raise SpaceExhausted(
                f"all {self.space.size} points of the space were tried and none can be trained again now; "
                "tell the pending ones first"
            )
        return min(free, key=lambda t: (len(t.replicas), t.score(self.config.target, self.config.risk), t.number))

    def recommendation(self, columns: Columns) -> "tuple[Trial, Recommendation] | None":
        """The trial to recommend, and why; None where no trial has a loss."""
        from hyppo.search.recommend import recommend

        settled = columns.settled_trials()
        if not settled:
            return None
        found = recommend(columns.known(self.config.risk), required=self.config.required)
        return None if found is None else (settled[found.row], found)

    def surface(self, columns: Columns) -> "Surface | None":
        """The fitted surrogate over the space; None where there is too little to fit one."""
        from hyppo.search.surface import surface

        return surface(columns.known(self.config.risk))
