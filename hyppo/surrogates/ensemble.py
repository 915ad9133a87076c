"""An ensemble of interpolants through the confidence intervals of the losses.

    symbol   shape    meaning
    l, u     (n,)     loss and its spread: the interval is [l - 2u, l + 2u]
    M        int      members

Each member interpolates, at every point, one of {l, l - 2u, l + 2u}, drawn independently. Mean and standard deviation
over the members are the prediction. One factorisation serves all members.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyppo.errors import SurrogateError
from hyppo.space import FloatArray
from hyppo.surrogates import rbf
from hyppo.surrogates.base import Prediction, as_outputs, as_points

MEMBERS = 30


@dataclass(frozen=True)
class Ensemble:
    """Fitted members."""

    members: rbf.RBF

    def predict(self, x: npt.ArrayLike) -> Prediction:
        """Mean and standard deviation over the members, (q, D) -> (q,), (q,)."""
        values = self.members.values(x)
        return Prediction(values.mean(axis=1), values.std(axis=1))

    def values(self, x: npt.ArrayLike) -> FloatArray:
        """Every member, (q, D) -> (q, M)."""
        return self.members.values(x)


def fit(
    x: npt.ArrayLike,
    loss: npt.ArrayLike,
    spread: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    members: int = MEMBERS,
    ridge: float = 0.0,
) -> Ensemble:
    """Draw the members' values and solve for all of them at once.

    Parameters
    ----------
    x : (n, D) array
        Nodes.
    loss, spread : (n,) arrays
        l and u; a spread of zero makes all members agree at that node.
    generator : numpy.random.Generator
        Decides which end of its interval each member takes at each node.
    members : int
        M >= 2.
    ridge
        As for `rbf.fit`.

    Raises
    ------
    SurrogateError
        As `rbf.fit`; a negative spread; fewer than two members.

    Examples
    --------
    >>> model = fit([[0.0], [1.0]], [1.0, 2.0], [0.0, 0.0], np.random.default_rng(0))
    >>> model.predict([[0.5]]).mean.round(12), model.predict([[0.5]]).std.round(12)
    (array([1.5]), array([0.]))
    """
    nodes = as_points("x", x)
    centre = as_outputs("loss", loss, nodes.shape[0])
    half = as_outputs("spread", spread, nodes.shape[0])
    if members < 2:
        raise SurrogateError(f"members: expected at least 2, got {members!r}")
    if (half < 0.0).any():
        raise SurrogateError("spread: expected standard deviations >= 0, got a negative one")
    ends = generator.integers(-1, 2, size=(nodes.shape[0], members))
    return Ensemble(rbf.fit(nodes, centre[:, None] + 2.0 * half[:, None] * ends, ridge=ridge))
