"""Trains the recorded tables: every configuration of a small lattice with many seeds. `problems.tables` reads them.

One module a table, each with a `TABLE` (`networks` has several, by name); trainings are real ones, made so small that a
table takes a few CPU minutes. The data are fixed; the seed draws initial values, batches, dropout, and all other
random numbers of a training.
"""

import importlib

from benchmarks.optimizers.problems.tables import FAMILIES, FOLDER
from benchmarks.optimizers.tabulate.table import Table

TABLES = tuple(name for splits in FAMILIES.values() for tables in splits.values() for name in tables)


def table(name: str) -> Table:
    """The table of a name such as `wine` or `digits-conv`.

    Raises
    ------
    ValueError
        No table of that name.
    """
    if name not in TABLES:
        raise ValueError(f"table: expected one of {list(TABLES)}, got {name!r}")
    if any(name in tables for tables in FAMILIES["network"].values()):
        from benchmarks.optimizers.tabulate.networks import table as network

        return network(name)
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    made: Table = module.TABLE
    return made


def tabulate(name: str) -> None:
    """Train all of one table and write it."""
    table(name).write(FOLDER / f"{name}.npz")
