"""The fitted surrogate as a function over the space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.search.evidence import Observations, gather
from hyppo.search.gaussian_process import process
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, Space

if TYPE_CHECKING:
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

    def loss(self, y: FloatArray) -> FloatArray:
        """Transformed values in units of the loss."""
        return self.outputs.inverse(y)


@on_one_thread
def surface(
    space: Space, data: Observations, *, risk: float = 0.0, previous: Sequence[Mapping[str, Any]] = ()
) -> Surface | None:
    """The surrogate that `propose` would use; None where there is too little to fit one."""
    if data.mean.size < 4:
        return None
    evidence = gather(space, data, risk)
    if evidence.n < 4 or not np.ptp(evidence.y) > 0.0:
        return None
    return Surface(space, process(space, evidence, previous)[0], evidence.outputs)
