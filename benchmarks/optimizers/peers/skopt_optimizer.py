"""scikit-optimize's `Optimizer` with its defaults: a Gaussian process and the hedge of three acquisitions."""

from collections.abc import Sequence
from typing import Any

from skopt import Optimizer
from skopt.space import Categorical, Integer, Real

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Setting, native


def _dimension(name: str, p: Any) -> Any:
    if isinstance(p, hyppo.Real):
        return Real(p.low, p.high, prior="log-uniform" if p.log else "uniform", name=name)
    if isinstance(p, hyppo.Integer) and p.step == 1:
        return Integer(p.low, p.high, prior="log-uniform" if p.log else "uniform", name=name)
    if isinstance(p, hyppo.Choice):
        return Categorical(list(range(p.levels)), name=name)
    return Integer(0, p.levels - 1, name=name)  # a stepped integer or an ordinal, by position


class SkoptPeer:
    def __init__(self, setting: Setting) -> None:
        self.space = setting.space
        self.replicas = setting.replicas
        dimensions = [_dimension(name, p) for name, p in setting.space.parameters.items()]
        self.optimizer = Optimizer(dimensions, random_state=setting.seed)

    def ask(self) -> Point:
        numbers = self.optimizer.ask()
        parameters = self.space.parameters.items()
        params = {name: native(p, number) for (name, p), number in zip(parameters, numbers, strict=True)}
        return Point(numbers, params, self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.optimizer.tell(point.key, sum(losses) / len(losses))

    def recommend(self) -> None:
        """`result.x` is the best value told."""
        return None
