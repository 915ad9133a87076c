"""Recorded losses of real trainings: real noise, ties, heavy tails and failures.

Every point of a small lattice was trained with many seeds (`python -m benchmarks.optimizers tabulate`); a training
draws a seed of its point without replacement, NaN if that training failed. The true loss is the mean over all seeds, in
which a failed one counts as the table's `failed` loss: that of a model which has learnt nothing, or worse.
"""

from functools import cache
from pathlib import Path

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray, Problem

FOLDER = Path(__file__).parent.parent / "tables"
# Of `network` all are fully connected networks on tables of numbers; of `recorded` no two are of a kind.
FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "network": {
        "choose": ("wine", "digits", "iris", "friedman", "moons", "clusters"),
        "report": ("breast-cancer", "diabetes", "digits-lower-half"),
    },
    "recorded": {
        "choose": ("digits-conv", "graph-nodes", "pendulum-rollout", "gan-ring"),
        "report": (
            "echo-state",
            "digits-few",
            "mackey-glass",
            "oscillator-pinn",
            "boosting-diabetes",
            "keras-denoiser",
            "sinogram-unet",
        ),
    },
}
REPLICAS = 3


def names(family: str, split: str) -> list[str]:
    """Names of the tables of a family and split that were recorded."""
    return [f"{family}/{table}" for table in FAMILIES[family][split] if (FOLDER / f"{table}.npz").exists()]


@cache
def _table(table: str) -> tuple[hyppo.Space, FloatArray, float]:
    """Space, losses (n, s), and the loss that a failed training counts as."""
    with np.load(FOLDER / f"{table}.npz", allow_pickle=False) as file:
        failed = float(file["failed"]) if "failed" in file else np.nan
        return hyppo.Space.from_json(str(file["space"])), file["losses"].astype(np.float64), failed


def problem(name: str) -> Problem:
    """The problem of a name such as `network/diabetes` or `recorded/gan-ring`."""
    family, _, table = name.partition("/")
    space, samples, failed = _table(table)
    means = np.where(np.isnan(samples), failed, samples).mean(axis=1)
    shape = tuple(space.levels)
    parameters = list(space.parameters.values())
    assert not any(isinstance(p, hyppo.Real) for p in parameters)
    low = np.array([p.low if isinstance(p, hyppo.Integer) else 0 for p in parameters])
    step = np.array([p.step if isinstance(p, hyppo.Integer) else 1 for p in parameters])

    def loss(natural: FloatArray) -> FloatArray:
        position = (natural.astype(np.int64) - low) // step
        return np.asarray(means[np.ravel_multi_index(tuple(position.T), shape)])

    split = next(s for s, tables in FAMILIES[family].items() if table in tables)
    return Problem(name, family, split, space, loss, samples=samples, failed=failed, replicas=REPLICAS)
