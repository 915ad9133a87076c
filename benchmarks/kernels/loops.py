"""Every kernel of the registry beside its reference in numpy and scipy, and beside the machine's rates."""

import time

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.kernels.clock import in_turn, machine_rates
from benchmarks.kernels.registry import REGISTRY


def table(q: int, n: int, columns: int, console: Console) -> None:
    """Microseconds, and shares of dgemm and stream; the first call compiles, or loads from the cache."""
    rates = machine_rates()
    out = Table(title=f"Kernels at n = {n:,}, q = {q:,}, D = {columns}")
    for i, heading in enumerate(
        ("kernel", "us", "reference us", "x", "Gop/s", "of dgemm", "of stream", "first call s")
    ):
        out.add_column(heading, justify="left" if i == 0 else "right")
    for name, entry in REGISTRY.items():
        arguments = entry.arguments(np.random.default_rng(0), q, n, columns)
        into = np.empty(entry.shape(q, n, columns))
        start = time.process_time()
        entry.kernel(*arguments, into)
        first = time.process_time() - start
        ours, theirs = in_turn(
            [
                lambda entry=entry, arguments=arguments, into=into: entry.kernel(*arguments, into),  # type: ignore[misc]
                lambda entry=entry, arguments=arguments: entry.reference(*arguments),  # type: ignore[misc]
            ]
        )
        operations = entry.operations(q, n, columns) / ours
        moved = (into.nbytes + sum(a.nbytes for a in arguments if isinstance(a, np.ndarray))) / ours
        out.add_row(
            name,
            f"{ours * 1e6:.1f}",
            f"{theirs * 1e6:.1f}",
            f"{theirs / ours:.1f}",
            f"{operations / 1e9:.2f}",
            f"{100.0 * operations / rates['dgemm']:.0f} %",
            f"{100.0 * moved / rates['stream']:.0f} %",
            f"{first:.2f}",
        )
    console.print(out)
