"""Recorded losses of scikit-learn networks on scikit-learn's own data sets: real training noise.

Every point of a small lattice was trained with many seeds (`python -m benchmarks.optimizers tabulate`); an evaluation
draws seeds of its point without replacement, and the true loss is the mean over all.
"""

from functools import cache
from pathlib import Path

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray, Problem

FOLDER = Path(__file__).parent.parent / "tables"
SPLITS = {
    "choose": ("wine", "digits"),
    "report": ("breast-cancer", "diabetes", "digits-lower-half"),
}
REPLICAS = 3


def names(split: str) -> list[str]:
    """Names of the tables of a split that were recorded."""
    return [f"network/{table}" for table in SPLITS[split] if (FOLDER / f"{table}.npz").exists()]


@cache
def _table(table: str) -> tuple[hyppo.Space, FloatArray]:
    with np.load(FOLDER / f"{table}.npz", allow_pickle=False) as file:
        return hyppo.Space.from_json(str(file["space"])), file["losses"].astype(np.float64)


def problem(name: str) -> Problem:
    """The problem of a name such as `network/diabetes`."""
    table = name.partition("/")[2]
    space, samples = _table(table)
    means = samples.mean(axis=1)
    shape = tuple(space.levels)
    lists = list(space.parameters.values())

    def loss(natural: FloatArray) -> FloatArray:
        # Every parameter of a table is listed, so that natural values are positions.
        return np.asarray(means[np.ravel_multi_index(tuple(natural.astype(np.int64).T), shape)])

    assert all(isinstance(p, hyppo.Choice | hyppo.Ordinal) for p in lists)
    split = next(s for s, tables in SPLITS.items() if table in tables)
    return Problem(name, "network", split, space, loss, samples=samples, replicas=REPLICAS)
