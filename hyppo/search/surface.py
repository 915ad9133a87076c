"""The fitted surrogate as a function over the space."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, Space

if TYPE_CHECKING:
    from hyppo.surrogates.base import Prediction
    from hyppo.surrogates.gp import GP
    from hyppo.surrogates.outputs import Outputs


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
        """Transformed values in units of the loss."""
        return self.outputs.inverse(y)


@on_one_thread
def surface(known: Known) -> Surface | None:
    """The surrogate that a search would use; None if too little is known to fit one."""
    return Surface(known.space, known.fitted[0], known.evidence.outputs) if known.enough else None
