"""The knowledge at one moment of a study, and the models fitted to it, each at most once.

An ask may propose points, weigh them against further replicas of known ones, and recommend; all of these look at the
same evidence and the same Gaussian process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.search.evidence import Evidence, Observations, gather
from hyppo.search.gaussian_process import conditioned, due, process
from hyppo.search.memory import Memory, ProcessStep
from hyppo.space import FloatArray, Space

if TYPE_CHECKING:
    from hyppo.search.success import Outcomes, Prudence, Success
    from hyppo.surrogates.gp import GP

FEWEST = 4  # different points with a loss from which a model is worth its name


@dataclass(frozen=True, eq=False)
class Known:
    """The knowledge at one moment.

    Attributes
    ----------
    space : Space
    data : Observations
        Trials with a loss, and pruned ones at the loss that they are taken for.
    pending : (p, d) array
        Coordinates of points without a loss yet.
    taken : set of bytes
        `space.keys` of all points that were ever tried or are pending, those of `data` and `pending` among them;
        points that the user's function refuses count as taken (see `hyppo.search.feasible`).
    memory : Memory
        Of earlier asks.
    risk : float
        Weight of the spread in the score, >= 0.
    outcomes : Outcomes, optional
        How the trials ended, failed ones among them.
    """

    space: Space
    data: Observations
    pending: FloatArray
    taken: set[bytes]
    memory: Memory = field(default_factory=Memory)
    risk: float = 0.0
    outcomes: "Outcomes | None" = None

    def with_pending(self, unit: Sequence[FloatArray]) -> "Known":
        """The same with further pending points, each (d,)."""
        if not len(unit):
            return self
        more = np.array(unit)
        taken = self.taken.copy()
        taken.update(self.space.keys(more))
        known = replace(self, pending=np.vstack([self.pending, more]), taken=taken)
        # The losses are the same, and so are the models fitted to them.
        known.__dict__.update(
            {name: self.__dict__[name] for name in ("evidence", "fitted", "model", "success") if name in self.__dict__}
        )
        return known

    @property
    def params(self) -> list[dict[str, Any]]:
        """Parameters of the points with a loss, of pruned ones too."""
        return [self.space.decode(unit) for unit in self.data.unit]

    @property
    def losses(self) -> FloatArray:
        """Their mean losses, (n,); `data` has the spreads."""
        return self.data.mean

    @property
    def pending_params(self) -> list[dict[str, Any]]:
        """Parameters of the pending points."""
        return [self.space.decode(unit) for unit in self.pending]

    @cached_property
    def evidence(self) -> Evidence:
        """The observations as surrogates take them."""
        return gather(self.space, self.data, self.risk, self.memory.spread)

    @property
    def varied(self) -> bool:
        """Whether there are two different points with different scores, the least that a model can learn from."""
        return self.data.mean.size > 1 and self.evidence.n > 1 and bool(np.ptp(self.evidence.y) > 0.0)

    @property
    def enough(self) -> bool:
        """Whether there are enough different points for a recommendation to rest on a model."""
        return self.data.mean.size >= FEWEST and self.evidence.n >= FEWEST and self.varied

    @cached_property
    def fitted(self) -> "tuple[GP, ProcessStep]":
        """The Gaussian process, and the step that a point proposed by it leaves; only if `varied`."""
        return process(self.space, self.evidence, self.memory)

    @cached_property
    def success(self) -> "Success | None":
        """The probability that a training succeeds; None if it is the same everywhere, as far as is known."""
        if self.outcomes is None or not self.outcomes.instructive or not self.varied:
            return None
        from hyppo.search import success

        best = self.evidence.x[int(np.argmin(self.evidence.y))]
        return success.fit(self.space, self.outcomes, best, self.memory.success)

    def log_success(self, unit: FloatArray) -> FloatArray | None:
        """Logarithm of that probability at coordinates `unit`, (q, d) -> (q,)."""
        return (
            None if self.success is None else self.success.log_probability(self.space.features(unit, on_lattice=True))
        )

    def prudence(self, log_success: FloatArray | None) -> "Prudence | None":
        """The rule that puts candidates which are likely to fail behind others, by some of them; None without it."""
        if self.outcomes is None or log_success is None:
            return None
        from hyppo.search.success import Prudence

        return Prudence.among(log_success, self.outcomes.bound)

    @cached_property
    def model(self) -> "GP":
        """The Gaussian process for asks that leave no step of it: as of its last fit; only if `varied`."""
        if "fitted" in self.__dict__ or not due(self.space, self.evidence, self.memory):
            return self.fitted[0]
        return conditioned(self.space, self.evidence, self.memory)
