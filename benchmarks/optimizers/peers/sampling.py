"""Random search and Sobol points, the baselines of every search."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Setting


class Sampling:
    """Points of a stream, independent of the losses."""

    def __init__(self, setting: Setting, uniform: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> None:
        self.replicas = setting.replicas
        self.space: hyppo.Space = setting.space
        self.units = iter(setting.space.spread(uniform))

    def ask(self) -> Point:
        return Point(None, self.space.decode(next(self.units)), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        pass

    def recommend(self) -> None:
        return None


def random(setting: Setting) -> Sampling:
    """Uniform on the lattice."""
    return Sampling(setting, np.random.default_rng(setting.seed).random((setting.budget, setting.space.dimension)))


def sobol(setting: Setting) -> Sampling:
    """Scrambled Sobol points; to the next power of two, of which the first ones are used."""
    engine = qmc.Sobol(setting.space.dimension, rng=np.random.default_rng(setting.seed))
    return Sampling(setting, engine.random_base2((setting.budget - 1).bit_length()))
