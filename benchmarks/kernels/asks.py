"""Time of an ask with its tell beside pySOT's DYCORS: ten parameters of all kinds, n losses known, CPU time.

Both know the same n random points: `hyppo` by `Study.add`, pySOT as its experimental design (left to itself it starts
afresh with few points as soon as its search has converged, and is then as quick at any n). The first ask counts,
in which one fits from nothing and the other factors its matrix; it is also shown separately.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import hyppo
from benchmarks.kernels.clock import Figure
from hyppo.space import FloatArray
from hyppo.surrogates import gp

SPACE = hyppo.Space(
    lr=hyppo.Real(1e-5, 1e-1, log=True),
    decay=hyppo.Real(1e-6, 1e-2, log=True),
    dropout=hyppo.Real(0.0, 0.6),
    momentum=hyppo.Real(0.5, 0.99),
    width=hyppo.Integer(16, 512, log=True),
    depth=hyppo.Integer(1, 8),
    batch=hyppo.Ordinal([16, 32, 64, 128, 256]),
    activation=hyppo.Choice(["relu", "gelu", "tanh"]),
    optimizer=hyppo.Choice(["sgd", "adam", "rmsprop"]),
    norm=hyppo.Choice([True, False]),
)
ASKS = 10
SIZES = (50, 200, 500, 1000, 2000)
Turn = Callable[[], float]  # asks, tells, and returns the CPU seconds of both


def loss(unit: FloatArray) -> float:
    """A bowl with ripples over the unit cube."""
    return float(np.sum((unit - 0.3) ** 2) + 0.1 * np.sin(9.0 * unit[0]))


def known(n: int) -> FloatArray:
    """The points that both know, (n, d) lattice coordinates."""
    return SPACE.spread(np.random.default_rng(0).random((n, SPACE.dimension)))


def timed(ask: Callable[[], Any], tell: Callable[[Any, float], object]) -> Turn:
    """A turn of an ask, which gives something with `params`, and the tell of its loss, which is not timed."""

    def turn() -> float:
        start = time.process_time()
        point = ask()
        asked = time.process_time() - start
        value = loss(SPACE.encode(point.params))
        start = time.process_time()
        tell(point, value)
        return asked + time.process_time() - start

    return turn


def ours(n: int) -> Turn:
    study = hyppo.Study(SPACE, seed=0)
    for unit in known(n):
        study.add(SPACE.decode(unit), [loss(unit)])

    return timed(study.ask, lambda trial, value: study.tell(trial.number, [value]))


def dycors(n: int) -> Turn:
    from pySOT.experimental_design import ExperimentalDesign
    from pySOT.strategy import DYCORSStrategy

    from benchmarks.optimizers.peers.coordinates import Box
    from benchmarks.optimizers.peers.protocol import Setting
    from benchmarks.optimizers.peers.pysot_strategies import PysotPeer

    box = Box(SPACE)
    points = known(n) * np.where(box.integer, box.high, 1.0)

    class Given(ExperimentalDesign):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dim, self.num_pts = points.shape[1], n

        def generate_points(self, lb: object = None, ub: object = None, int_var: object = None) -> FloatArray:
            return points

    def strategy(**options: Any) -> Any:
        return DYCORSStrategy(**(options | {"exp_design": Given()}))

    peer = PysotPeer(Setting(SPACE, n + 10 * ASKS, 1, False, 0), strategy)
    for _ in range(n):
        point = peer.ask()
        peer.tell(point, [loss(SPACE.encode(point.params))])

    return timed(peer.ask, lambda point, value: peer.tell(point, [value]))


def figures(sizes: tuple[int, ...] = SIZES, repeats: int = 3) -> list[Figure]:
    """Mean over ten asks of both, the least of some repeats in turn; a cold fit; an ask among ten thousand."""
    warm = ours(30)
    for _ in range(4):
        warm()
    out = []
    for n in sizes:
        best: dict[str, FloatArray] = {}
        for _ in range(repeats):
            for name, made in (("hyppo", ours(n)), ("dycors", dycors(n))):
                spent = np.array([made() for _ in range(ASKS)])
                if name not in best or spent.mean() < best[name].mean():
                    best[name] = spent
        mine, theirs = 1e3 * best["hyppo"], 1e3 * best["dycors"]
        out.append(Figure("ask + tell, mean of ten", n, mine.mean(), "ms", "pySOT DYCORS", theirs.mean(), 1.0))
        out.append(Figure("without the first", n, mine[1:].mean(), "ms", "pySOT DYCORS", theirs[1:].mean()))
        out.append(Figure("the first", n, mine[0], "ms", "pySOT DYCORS", theirs[0]))
    unit = known(2000)
    x, y = SPACE.features(unit), np.array([loss(row) for row in unit])
    y = (y - y.mean()) / y.std()
    start = time.process_time()
    gp.fit(x, y, owner=SPACE.owner)
    out.append(Figure("cold fit to all points", 2000, time.process_time() - start, "s", bar=2.0))
    turn = ours(10_000)
    out.append(Figure("first ask", 10_000, turn(), "s", bar=1.0))
    out.append(Figure("an ask, mean of ten", 10_000, float(np.mean([turn() for _ in range(ASKS)])), "s", bar=1.0))
    return out
