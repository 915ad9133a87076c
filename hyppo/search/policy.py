"""Choose the next training: a point of the design, a point that the search proposes, or a known point again.

The choice depends only on the trials and the root seed, so that a study continued from its log asks for the same points
as the uninterrupted one. The recommendation uses the same models, so it is made here too.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyppo.config import Config
from hyppo.errors import SpaceExhausted
from hyppo.search.budget import UNKNOWN, Left
from hyppo.search.columns import Columns
from hyppo.search.design import design_size, sobol
from hyppo.search.known import Known
from hyppo.search.memory import Step
from hyppo.search.propose import Proposal, propose
from hyppo.seeds import Purpose, generator_for
from hyppo.space import FloatArray, IntArray, Space
from hyppo.text import counted
from hyppo.trial import State, Trial

if TYPE_CHECKING:
    from hyppo.search.recommend import Recommendation
    from hyppo.search.surface import Surface

LONGEST_DESIGN = 64  # longest design, as a multiple of the points wanted and tried
FAILING = 0.1  # failures are frequent from this share of all trainings on


@dataclass(frozen=True)
class Further:
    """Further trainings of a known trial."""

    trial: Trial
    count: int


class Policy:
    """Chooses the next trainings of one study from its trials.

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
        self._design: FloatArray = np.empty((0, space.dimension))  # cache; the seed determines it

    def next(self, columns: Columns, count: int, left: Left = UNKNOWN) -> list[Proposal | Further]:
        """The next trainings: new points and further replicas of known ones, at least one and up to `count` in all.

        Each point is chosen with those before it as pending. The list is empty if `left` has no trials and the order of
        the contenders is clear, or depends on running trainings.

        Raises
        ------
        SpaceExhausted
            No new point is left, and no known one can be trained again now.
        """
        known = columns.known(self.config.risk)
        further = self._contenders(columns, known, count, left)
        room = count - sum(f.count for f in further)
        if left.trials is not None:
            room = min(room, left.trials)
        points = self._points(columns, known, room) if room > 0 else []
        if not further and not points and left.trials != 0:
            return [Further(self._neediest(columns), 1)]
        return [*further, *points]

    def _points(self, columns: Columns, known: Known, count: int) -> list[Proposal]:
        """The next new points, up to `count`; none if none is left."""
        asked = len(columns.trials)
        if self.exhausted(columns):
            return []
        leading = design_size(self.space.dimension)
        # The design continues while few losses are known (many ranks at the start, or failures).
        slow = columns.settled().size < max(2, leading // 2)
        designed = self._designed(known.taken, count if slow else min(count, leading - asked))
        proposals = [Proposal(unit, Step("design")) for unit in designed]
        if len(proposals) == count:
            return proposals
        generator = generator_for(self.config.seed, Purpose.SEARCH, asked + len(proposals))
        found = propose(known.with_pending(designed), generator, count - len(proposals), by=self.config.surrogate)
        return proposals + found

    def _designed(self, taken: Set[bytes], count: int) -> list[FloatArray]:
        """The first `count` points of the design that were not tried; fewer if it has no more."""
        length = design_size(self.space.dimension)
        longest = LONGEST_DESIGN * (count + len(taken) + length)  # `feasible` may refuse all of them
        while count > 0 and length <= longest:
            if len(self._design) < length:
                self._design = sobol(self.space, length, self.config.seed)
            points = [u for k, u in zip(self.space.keys(self._design), self._design, strict=True) if k not in taken]
            if len(points) >= count or len(self._design) < length:
                return points[:count]
            length *= 2
        return []

    def exhausted(self, columns: Columns) -> bool:
        """Whether every point was tried, except those that `feasible` refuses."""
        if self.space.size is not None and len(columns.taken) >= self.space.size:
            return True
        if self.config.feasible is None:
            return False
        from hyppo.acquisition.candidates import POOL, fresh

        generator = generator_for(self.config.seed, Purpose.FEASIBLE, len(columns.trials))
        return not len(fresh(self.space, generator, columns.taken, POOL, columns.units()))

    def _contenders(self, columns: Columns, known: Known, count: int, left: Left) -> list[Further]:
        """Contenders for which a further training is worth more than a new point, `count` trainings at most."""
        fewest, most = self.config.replicas
        if fewest == most:
            return []
        from hyppo.search.replicate import contenders, due

        spent, points = columns.asked, len(columns.trials)
        number = due(points, spent, spent - fewest * points, count, left, self.exhausted(columns))
        if number == 0:
            return []
        rows = columns.settled()
        room, failed = columns.room(rows, most), self._failed(columns, known)
        generator = generator_for(self.config.seed, Purpose.CONTENDERS, spent)
        found = contenders(known, room, failed, columns.failed > FAILING * spent, generator, number)
        return [Further(columns.trials[rows[row]], more) for row, more in found.items()]

    def _neediest(self, columns: Columns) -> Trial:
        """The best of the trials with the fewest replicas, for an exhausted space.

        Raises
        ------
        SpaceExhausted
            Each trial is pending, failed or was stopped early.
        """
        free = [t for t in columns.trials if not t.pending and t.state is State.DONE and t.params in self.space]
        if not free:
            if not columns.trials:
                raise SpaceExhausted(
                    "feasible refused every point that was looked at: it may refuse all of the space; if not, "
                    "study.enqueue(params) begins at a point that it accepts"
                )
            pending = any(t.pending for t in columns.trials)
            why = "tell the losses of a pending one first" if pending else "each failed or was stopped early"
            tried = counted(len(columns.trials), "trial")
            raise SpaceExhausted(
                f"all points of the space were tried ({tried}), and none can be trained again now: {why}"
            )
        return min(
            free,
            key=lambda t: (len(t.replicas), t.score(self.config.target, self.config.risk, self.config.score), t.number),
        )

    @staticmethod
    def _failed(columns: Columns, known: Known) -> IntArray:
        """Failed trainings of each row of the observations, (n,); none of the censored ones at their end."""
        failed = np.zeros(known.data.mean.size, dtype=np.int64)
        settled = columns.failures(columns.settled())
        failed[: settled.size] = settled
        return failed

    def recommendation(self, columns: Columns) -> "tuple[Trial, Recommendation] | None":
        """The trial to recommend, and why; None if no trial has a loss."""
        from hyppo.search.recommend import recommend

        settled = columns.settled_trials()
        if not settled:
            return None
        known = columns.known(self.config.risk)
        found = recommend(
            known,
            required=self.config.required,
            failed=self._failed(columns, known),
            quantity=self.config.quantity("loss"),
        )
        return None if found is None else (settled[found.row], found)

    def estimates(self, columns: Columns) -> list[tuple[Trial, float, tuple[float, float]]]:
        """Trials that have the trainings they need, each with its estimated loss and the 90 % interval."""
        from hyppo.search.recommend import estimate

        settled = columns.settled_trials()
        if not settled:
            return []
        known = columns.known(self.config.risk)
        found = estimate(known, required=self.config.required, failed=self._failed(columns, known))
        if found is None:
            return []
        rows = known.evidence.row[found.index]
        values = zip(rows, found.value.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
        return [(settled[row], value, (low, high)) for row, value, low, high in values]

    def surface(self, columns: Columns) -> "Surface | None":
        """The fitted surrogate over the space; None if there are too few losses to fit one."""
        from hyppo.search.surface import surface

        return surface(columns.known(self.config.risk))
