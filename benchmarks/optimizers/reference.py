"""Random search as the reference: the share of random points that are as good as a given loss."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import hyppo
from benchmarks.optimizers.problems import problem
from benchmarks.optimizers.problems.problem import FloatArray, Problem, natural

SAMPLES = 2**17
EXACT = 4096  # number of best losses that are all kept; of the others every 32nd is kept
STRIDE = 32


@dataclass(frozen=True)
class Reference:
    """Sorted true losses of random points, and the share of points that are as good as each or better, (m,)."""

    losses: FloatArray
    shares: FloatArray

    def share(self, loss: float) -> float:
        """Share of random points as good as `loss`; at least that of the best one known."""
        as_good = int(np.searchsorted(self.losses, loss + 1e-9 * abs(loss), side="right"))
        return float(self.shares[max(as_good - 1, 0)])

    @property
    def best(self) -> float:
        return float(self.losses[0])

    @cached_property
    def median(self) -> float:
        return float(np.interp(0.5, self.shares, self.losses))


def reference(name: str, folder: Path) -> Reference:
    """The yardstick of a problem, from `folder` or made now and left there."""
    path = folder / (name.replace("/", "_") + ".npz")
    if path.exists():
        with np.load(path) as file:
            return Reference(file["losses"], file["shares"])
    made = _make(problem(name))
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npz")  # another process may be making the same one
    np.savez_compressed(part, losses=made.losses, shares=made.shares)
    part.replace(path)
    return made


def _make(p: Problem) -> Reference:
    space = p.space
    even = all(isinstance(q, hyppo.Choice | hyppo.Ordinal | hyppo.Integer) for q in space.parameters.values())
    even = even and not any(isinstance(q, hyppo.Integer) and q.log for q in space.parameters.values())
    if even and space.size is not None and space.size <= SAMPLES:
        # Every point has the same mass: no sample is needed.
        level = np.stack(np.unravel_index(np.arange(space.size), tuple(space.levels)), axis=1)
        losses = np.sort(p.loss(natural(space, level / np.maximum(space.levels - 1, 1))))
        return Reference(losses, np.arange(1, len(losses) + 1) / len(losses))
    rng = np.random.default_rng(2**31)
    blocks = [p.loss(natural(space, space.spread(rng.random((8192, space.dimension))))) for _ in range(SAMPLES // 8192)]
    losses = np.sort(np.concatenate(blocks))
    kept = np.concatenate([np.arange(EXACT), np.arange(EXACT + STRIDE - 1, SAMPLES, STRIDE)])
    return Reference(losses[kept], (kept + 1) / SAMPLES)
