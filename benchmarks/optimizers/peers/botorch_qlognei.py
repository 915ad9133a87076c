"""BoTorch: its default Gaussian process and qLogNoisyExpectedImprovement, as in its tutorials.

The space goes in as `hyppo`'s features (unit cube, choices one-hot), relaxed while the acquisition is optimised and
rounded to the lattice after. If there are replicas, it is told the variance of their mean.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.stats import qmc

from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting
from benchmarks.optimizers.problems.problem import FloatArray


class BotorchPeer:
    def __init__(self, setting: Setting) -> None:
        torch.manual_seed(setting.seed)
        torch.set_num_threads(1)
        self.space = setting.space
        self.replicas = setting.replicas
        self.columns = [np.flatnonzero(setting.space.owner == j) for j in range(setting.space.dimension)]
        design = 2 * (setting.space.dimension + 1)
        engine = qmc.Sobol(setting.space.dimension, rng=np.random.default_rng(setting.seed))
        uniform = engine.random_base2((design - 1).bit_length())[:design]
        self.design = list(setting.space.spread(uniform))
        self.tried: list[FloatArray] = []
        self.means: list[float] = []
        self.variances: list[float] = []
        self.out: list[Point] = []

    def ask(self) -> Point:
        unit = self.design.pop(0) if self.design else self._propose()
        point = Point(unit, self.space.decode(unit), self.replicas)
        self.out.append(point)
        return point

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.out = [p for p in self.out if p is not point]
        self.tried.append(point.key)
        self.means.append(float(np.mean(losses)))
        self.variances.append(float(np.var(losses, ddof=1)) / len(losses) if len(losses) > 1 else 0.0)

    def recommend(self) -> Recommended:
        """Best posterior mean of the points tried."""
        if len(self.means) < 2:
            return Recommended(self.space.decode(self.tried[0]))
        model, x = self._fit()
        with torch.no_grad():
            row = int(model.posterior(x).mean.argmax())
        return Recommended(self.space.decode(self.tried[row]))

    def _features(self, units: Sequence[FloatArray]) -> Any:
        return torch.from_numpy(self.space.features(np.array(units)))

    def _fit(self) -> tuple[Any, Any]:
        x = self._features(self.tried)
        y = -torch.tensor(self.means, dtype=torch.double)[:, None]
        variance = None
        if self.replicas > 1:
            floor = 1e-6 * float(y.var()) + 1e-12  # BoTorch's own least noise, relative to standardised outputs
            variance = torch.tensor(self.variances, dtype=torch.double)[:, None].clamp_min(floor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SingleTaskGP(x, y, variance)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model, x

    def _propose(self) -> FloatArray:
        model, x = self._fit()
        pending = self._features([p.key for p in self.out]) if self.out else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            acquisition = qLogNoisyExpectedImprovement(model, X_baseline=x, X_pending=pending, prune_baseline=True)
            bounds = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).double()
            found, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512)
        row = found[0].detach().numpy()
        unit = np.empty(self.space.dimension)
        for j, (columns, levels) in enumerate(zip(self.columns, self.space.levels, strict=True)):
            unit[j] = row[columns[0]] if len(columns) == 1 else np.argmax(row[columns]) / max(int(levels) - 1, 1)
        snapped: FloatArray = self.space.snap(unit[None, :])[0]
        return snapped
