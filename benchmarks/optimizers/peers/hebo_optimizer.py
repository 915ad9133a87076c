"""HEBO with its defaults.

Install it with `pip install --no-deps hebo pymoo moocore cffi catboost disjoint-set`: the versions that it pins are
older than the other peers need, and it runs with theirs.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Setting, native


def _parameter(name: str, p: Any) -> dict[str, Any]:
    if isinstance(p, hyppo.Real):
        return {"name": name, "type": "pow" if p.log else "num", "lb": p.low, "ub": p.high}
    if isinstance(p, hyppo.Integer) and p.step == 1:
        return {"name": name, "type": "pow_int" if p.log else "int", "lb": p.low, "ub": p.high}
    if isinstance(p, hyppo.Choice):
        return {"name": name, "type": "cat", "categories": list(range(p.levels))}
    return {"name": name, "type": "int", "lb": 0, "ub": p.levels - 1}  # a stepped integer or an ordinal, by position


class HeboPeer:
    def __init__(self, setting: Setting) -> None:
        np.random.seed(setting.seed)  # noqa: NPY002 - the generator that its evolution draws from
        self.space = setting.space
        self.replicas = setting.replicas
        space = DesignSpace().parse([_parameter(name, p) for name, p in setting.space.parameters.items()])
        self.optimizer = HEBO(space, scramble_seed=setting.seed)

    def ask(self) -> Point:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = self.optimizer.suggest(n_suggestions=1)
        params = {name: native(p, frame[name].iloc[0]) for name, p in self.space.parameters.items()}
        return Point(frame, params, self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.optimizer.observe(point.key, np.array([[sum(losses) / len(losses)]]))

    def recommend(self) -> None:
        """`best_x` is the best value told."""
        return None
