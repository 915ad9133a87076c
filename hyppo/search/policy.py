"""Which training comes next: a point of the design, one that the search proposes, or one more of a known point.

A function of what is known and of the root seed alone, so that a study which goes on from its log asks what the
uninterrupted one would have asked. What is recommended comes from the same models, and so from here too.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.errors import SpaceExhausted
from hyppo.search.columns import Columns
from hyppo.search.design import design_size, sobol
from hyppo.seeds import generator_for
from hyppo.space import FloatArray, Space
from hyppo.stopping import with_censored
from hyppo.trial import State, Trial

if TYPE_CHECKING:
    from hyppo.search.recommend import Recommendation
    from hyppo.search.surface import Surface

SEARCH_PURPOSE = 2  # keeps the search's random streams apart from those of the designs

Point = tuple[FloatArray, dict[str, Any]]  # coordinates (d,), and origin


class Policy:
    """What one study trains next, given what it knows.

    Parameters
    ----------
    space : Space
    seed : int
        Root seed.
    surrogate, target : str
    risk : float
    replicas : (int, int)
        The fewest and the most trainings of a point.
    required : int
        Trainings that a point must have to be recommended, as long as others have as many.

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(x=Real(0, 1))
    >>> policy = Policy(space, 0, surrogate="auto", risk=0.0, target="mean_loss", replicas=(3, 3), required=1)
    >>> [origin["by"] for _, origin in policy.points(Columns(space), 2)]
    ['design', 'design']
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        surrogate: str,
        risk: float,
        target: str,
        replicas: tuple[int, int],
        required: int,
    ) -> None:
        self.space = space
        self.seed = seed
        self.surrogate = surrogate
        self.risk = risk
        self.target = target
        self.replicas = replicas
        self.required = required
        self._design: FloatArray = np.empty((0, space.dimension))  # a memo of what the seed determines

    def points(self, known: Columns, count: int) -> list[Point]:
        """The next new points, up to `count`; none where none is left. Each knows those before it as pending."""
        taken = set(known.taken)
        if self.space.size is not None and len(taken) >= self.space.size:
            return []
        leading = design_size(self.space.dimension)
        # The design goes on where losses are slow to come (many ranks at the start) or trainings fail.
        slow = known.settled().size < max(2, leading // 2)
        designed = self._designed(taken, count if slow else min(count, leading - len(known.trials)))
        proposals: list[Point] = [(unit, {"by": "design"}) for unit in designed]
        if len(proposals) == count:
            return proposals
        taken.update(self.space.keys(np.array(designed).reshape(-1, self.space.dimension)))
        from hyppo.search.propose import propose_batch

        pruned = [t.number for t in known.trials if t.settled is None and t.state is State.PRUNED]
        found = propose_batch(
            self.space,
            with_censored(known.observations(), known.units()[pruned]),
            np.vstack([known.pending_units(), *designed]),
            taken,
            generator_for(self.seed, SEARCH_PURPOSE, len(known.trials) + len(proposals)),
            count - len(proposals),
            surrogate=self.surrogate,
            risk=self.risk,
            previous=[*known.origins(), *(origin for _, origin in proposals)],
        )
        return proposals + [(proposal.unit, proposal.origin) for proposal in found]

    def _designed(self, taken: set[bytes], count: int) -> list[FloatArray]:
        """The first `count` points of the design that were not tried; fewer where it has found all that it can."""
        length = design_size(self.space.dimension)
        while count > 0:
            if len(self._design) < length:
                self._design = sobol(self.space, length, self.seed)
            points = [u for k, u in zip(self.space.keys(self._design), self._design, strict=True) if k not in taken]
            if len(points) >= count or len(self._design) < length:
                return points[:count]
            length *= 2
        return []

    def contender(self, known: Columns, point: Point) -> Trial | None:
        """The trial that deserves the next training more than the new `point`; None under fixed replicas."""
        fewest, most = self.replicas
        settled = known.settled_trials()
        free = np.array([not t.pending and len(t.replicas) < most for t in settled], dtype=np.bool_)
        if fewest == most or not free.any():
            return None
        from hyppo.search.propose import Proposal
        from hyppo.search.replicate import contender

        row = contender(
            self.space,
            known.observations(),
            free,
            Proposal(*point),
            fewest,
            risk=self.risk,
            previous=known.origins(),
        )
        return None if row is None else settled[row]

    def neediest(self, known: Columns) -> Trial:
        """Of an exhausted space, the best of the trials with the fewest replicas.

        Raises
        ------
        SpaceExhausted
            All of them are pending.
        """
        free = [t for t in known.trials if not t.pending and t.state is State.DONE]
        if not free:
            raise SpaceExhausted(
                f"all {self.space.size} points of the space were tried and none can be trained again now; "
                "tell the pending ones first"
            )
        return min(free, key=lambda t: (len(t.replicas), t.score(self.target, self.risk), t.number))

    def recommendation(self, known: Columns) -> "tuple[Trial, Recommendation] | None":
        """The trial to recommend, and why; None where no trial has a loss."""
        from hyppo.search.recommend import recommend

        settled = known.settled_trials()
        if not settled:
            return None
        found = recommend(
            self.space,
            known.observations(),
            surrogate=self.surrogate,
            risk=self.risk,
            required=self.required,
            previous=known.origins(),
        )
        return None if found is None else (settled[found.row], found)

    def surface(self, known: Columns) -> "Surface | None":
        """The fitted surrogate over the space; None where there is too little to fit one."""
        from hyppo.search.surface import surface

        return surface(self.space, known.observations(), risk=self.risk, previous=known.origins())
