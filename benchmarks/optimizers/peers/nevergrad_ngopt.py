"""nevergrad's `NGOpt`, which chooses among its algorithms by space and budget."""

import warnings
from collections.abc import Sequence
from typing import Any

import nevergrad as ng
import numpy as np

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting


def _parameter(p: Any) -> Any:
    if isinstance(p, hyppo.Real):
        return ng.p.Log(lower=p.low, upper=p.high) if p.log else ng.p.Scalar(lower=p.low, upper=p.high)
    if isinstance(p, hyppo.Integer) and not p.log:
        return ng.p.Scalar(lower=0, upper=p.levels - 1).set_integer_casting()
    if isinstance(p, hyppo.Integer):
        return ng.p.Scalar(lower=0.0, upper=1.0)  # the logarithm, rounded to the lattice
    if isinstance(p, hyppo.Ordinal):
        return ng.p.TransitionChoice(range(p.levels))
    return ng.p.Choice(range(p.levels))


class NevergradPeer:
    def __init__(self, setting: Setting) -> None:
        self.space = setting.space
        self.replicas = setting.replicas
        space = ng.p.Dict(**{name: _parameter(p) for name, p in setting.space.parameters.items()})
        space.random_state = np.random.RandomState(setting.seed)
        space.function.deterministic = not setting.noisy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.optimizer = ng.optimizers.NGOpt(parametrization=space, budget=setting.budget)

    def ask(self) -> Point:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            candidate = self.optimizer.ask()
        return Point(candidate, self._params(candidate.value), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.optimizer.tell(point.key, sum(losses) / len(losses))

    def recommend(self) -> Recommended:
        return Recommended(self._params(self.optimizer.provide_recommendation().value))

    def _params(self, value: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, p in self.space.parameters.items():
            if isinstance(p, hyppo.Real):
                params[name] = min(max(float(value[name]), p.low), p.high)
            elif isinstance(p, hyppo.Integer) and p.log:
                params[name] = p.value(int(p.snap(np.array([value[name]]))[0]))
            else:
                params[name] = p.value(int(value[name]))
        return params
