"""pySOT's SRBF and DYCORS with a cubic RBF and a linear tail, asynchronous as by default, restarts on.

Its strategies propose to a controller of POAP; this adapter is that controller, one proposal an ask.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from poap.controller import Controller
from pySOT.experimental_design import SymmetricLatinHypercube
from pySOT.optimization_problems import OptimizationProblem
from pySOT.strategy import DYCORSStrategy, SRBFStrategy
from pySOT.surrogate import CubicKernel, LinearTail, RBFInterpolant

from benchmarks.optimizers.peers.coordinates import Box
from benchmarks.optimizers.peers.protocol import Point, Setting


class _BoxProblem(OptimizationProblem):  # type: ignore[misc]
    """The bounds alone; losses come by `tell`."""

    def __init__(self, box: Box) -> None:
        super().__init__()
        self.dim = box.space.dimension
        self.lb, self.ub = box.low, box.high
        self.int_var = np.flatnonzero(box.integer)
        self.cont_var = np.flatnonzero(~box.integer)

    def eval(self, x: Any) -> float:
        raise NotImplementedError("losses are told, not evaluated here")


class PysotPeer:
    """One strategy; the symmetric Latin hypercube of 2 (d + 1) points that its examples start from.

    With more pending, as many more: its surrogate needs d + 1 losses before the design is out.
    """

    def __init__(self, setting: Setting, strategy: Any) -> None:
        np.random.seed(setting.seed)  # noqa: NPY002 - the generator that pySOT draws from
        self.box = Box(setting.space)
        self.replicas = setting.replicas
        d = setting.space.dimension
        design = max(2 * (d + 1), d + 1 + setting.pending)
        self.controller = Controller()
        self.strategy = strategy(
            max_evals=setting.budget + 1,  # at the last evaluation it would answer with its end, not with a point
            opt_prob=_BoxProblem(self.box),
            exp_design=SymmetricLatinHypercube(dim=d, num_pts=min(design, setting.budget)),
            surrogate=RBFInterpolant(
                dim=d, lb=self.box.low, ub=self.box.high, kernel=CubicKernel(), tail=LinearTail(d)
            ),
            asynchronous=True,
        )

    def ask(self) -> Point:
        proposal = self.strategy.propose_action()
        if proposal is None or proposal.action != "eval":
            raise RuntimeError(f"pySOT proposed {proposal and proposal.action}, expected a point to evaluate")
        proposal.record = self.controller.new_feval(proposal.args)
        proposal.accept()
        return Point(proposal.record, self.box.params(proposal.args[0]), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        point.key.complete(sum(losses) / len(losses))

    def recommend(self) -> None:
        """`controller.best_point()` is the best value told."""
        return None


def srbf(setting: Setting) -> PysotPeer:
    return PysotPeer(setting, SRBFStrategy)


def dycors(setting: Setting) -> PysotPeer:
    return PysotPeer(setting, DYCORSStrategy)
