"""hetGP: a Gaussian process with noise by point, and expected improvement that may train a visited point again.

`hetgpy` models and scores; the search is the usual one on a lattice: the best candidate of random points, neighbours of
the best visited ones and the visited ones themselves, of which the last is a replica. The Gaussian process is
fitted again for each training.

References
----------
Binois, Gramacy & Ludkovski: Practical heteroscedastic Gaussian process modeling for large simulation experiments.
Journal of Computational and Graphical Statistics 27 (2018).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from hetgpy import hetGP
from hetgpy.optim import crit_EI
from scipy.stats import qmc

from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting
from benchmarks.optimizers.problems.problem import FloatArray

CANDIDATES = 500
QUIET = {"trace": -1, "returnKi": True, "factr": 1e9, "ignore_MLE_divide_invalid": True}
NEIGHBOURS = 20  # of each of the five best


class HetgpyPeer:
    def __init__(self, setting: Setting) -> None:
        self.space = setting.space
        self.rng = np.random.default_rng(setting.seed)
        engine = qmc.LatinHypercube(setting.space.dimension, rng=np.random.default_rng(setting.seed))
        self.design = list(setting.space.spread(engine.random(2 * (setting.space.dimension + 1))))
        self.units: list[FloatArray] = []  # one a training
        self.losses: list[float] = []
        self.model: Any = None
        self.fitted = 0

    def ask(self) -> Point:
        unit = self.design.pop(0) if self.design else self._propose()
        return Point(unit, self.space.decode(unit), 1)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.units += [point.key] * len(losses)
        self.losses += losses

    def recommend(self) -> Recommended | None:
        """The visited point with the best posterior mean."""
        if len(self.losses) <= self.space.dimension:
            return None
        visited = np.unique(np.array(self.units), axis=0)
        mean = self._fit().predict(self.space.features(visited))["mean"]
        return Recommended(self.space.decode(visited[int(np.argmin(mean))]))

    def _propose(self) -> FloatArray:
        model = self._fit()
        visited = np.unique(np.array(self.units), axis=0)
        mean = model.predict(self.space.features(visited))["mean"]
        best = visited[np.argsort(mean)[:5]]
        near = np.repeat(best, NEIGHBOURS, axis=0)
        moved = self.rng.random(near.shape) < 2.0 / near.shape[1]
        near = self.space.snap(np.where(moved, np.clip(near + 0.2 * self.rng.normal(size=near.shape), 0, 1), near))
        drawn = self.space.spread(self.rng.random((CANDIDATES, self.space.dimension)))
        candidates = np.concatenate([visited, near, drawn])
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            gain = np.ravel(crit_EI(self.space.features(candidates), model))
        chosen: FloatArray = candidates[int(np.argmax(np.nan_to_num(gain)))]
        return chosen

    def _fit(self) -> Any:
        n = len(self.losses)
        if self.model is not None and n == self.fitted:
            return self.model
        y = np.array(self.losses)
        y = (y - y.mean()) / (y.std() or 1.0)
        model = hetGP()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model.mle(self.space.features(np.array(self.units)), y, covtype="Matern5_2", maxit=50, settings=QUIET)
        self.model, self.fitted = model, n
        return model
