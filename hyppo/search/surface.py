"""The fitted surrogate as a function over the space."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.spatial import cKDTree

from hyppo.search.evidence import gather
from hyppo.search.gaussian_process import process
from hyppo.search.known import Known
from hyppo.search.memory import Memory
from hyppo.search.threads import on_one_thread
from hyppo.seeds import Purpose, generator_for
from hyppo.space import FloatArray, Space
from hyppo.surrogates import gp, outputs

if TYPE_CHECKING:
    from hyppo.surrogates.base import Prediction
    from hyppo.surrogates.gp import GP
    from hyppo.surrogates.outputs import Outputs

SHARES = 4096  # random points of the space that say which share of it is nearest to each point of the search


@dataclass(frozen=True)
class Surface:
    """The Gaussian process over a space, as a function of coordinates."""

    space: Space
    model: "GP"
    outputs: "Outputs"

    def mean(self, unit: FloatArray) -> FloatArray:
        """Posterior mean on the transformed scale, (q, d) -> (q,)."""
        return self.model.predict_mean(self.space.features(unit))

    def predict(self, unit: FloatArray) -> "Prediction":
        """Posterior mean and standard deviation on the transformed scale, (q, d) -> (q,), (q,)."""
        return self.model.predict(self.space.features(unit))

    def loss(self, y: FloatArray) -> FloatArray:
        """Transformed values in units of the loss, no further out than losses that the fit can tell apart."""
        return self.outputs.inverse(y)


@on_one_thread
def surface(known: Known) -> Surface | None:
    """The Gaussian process of a search, with losses on the scale of the space; None if too little is known to fit one.

    The points of a search crowd where losses are low, and the transform that suits them takes all losses elsewhere for
    about the same. Here each point counts by the share of the space that is nearest to it.
    """
    if not known.enough:
        return None
    space = known.space
    spread = space.features(space.spread(generator_for(0, Purpose.EFFECTS).random((SHARES, space.dimension))))
    nearest = cKDTree(known.evidence.x).query(spread)[1]
    evidence = gather(space, known.data, known.risk, transform=lambda score: outputs.fit(score[nearest]))
    # No start from a fit to few points: these may show a wavy function as noise.
    start = gp.cold_start(space.dimension, evidence.noise is not None)
    return Surface(space, process(space, evidence, Memory(), [start])[0], evidence.outputs)
