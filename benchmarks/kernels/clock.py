"""CPU time on one thread, the machine's rates, and a figure beside its bar."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.linalg import lapack


def least_seconds(call: Callable[[], Any], budget: float = 0.3, fewest: int = 3) -> float:
    """Least CPU time of as many calls as fit into `budget` seconds, `fewest` at least.

    CPU time of one thread, since the clock would see the neighbours; the least, since noise only adds. Calls shorter
    than a hundred microseconds are timed some at a time: the counter itself takes part of one.
    """
    start = time.process_time()
    call()
    several = max(1, int(1e-4 / max(time.process_time() - start, 1e-6)))
    best, spent, calls = np.inf, 0.0, 0
    while calls < fewest or spent < budget:
        start = time.process_time()
        for _ in range(several):
            call()
        seconds = time.process_time() - start
        best, spent, calls = min(best, seconds / several), spent + seconds, calls + 1
    return float(best)


def in_turn(calls: Sequence[Callable[[], Any]], rounds: int = 7) -> list[float]:
    """Least CPU time of each of several calls, which take turns: whatever the machine does meets all of them."""
    best = [np.inf] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            best[i] = min(best[i], least_seconds(call, budget=0.0, fewest=1))
    return best


def machine_rates() -> dict[str, float]:
    """dgemm and dpotrf at n = 1,000 in operations, stream in bytes a second."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((1000, 1000))
    out = np.empty_like(a)
    spd = np.asfortranarray(a @ a.T + 1000.0 * np.eye(1000))
    b, c = np.ones(8_000_000), np.ones(8_000_000)

    def triad() -> None:
        np.multiply(b, 1.0001, out=c)
        np.add(c, b, out=c)

    return {
        "dgemm": 2.0 * 1000**3 / least_seconds(lambda: np.matmul(a, a, out=out)),
        "dpotrf": 1000**3 / 3.0 / least_seconds(lambda: lapack.dpotrf(spd, lower=0)),
        # multiply reads one array and writes one, add reads two and writes one
        "stream": 5.0 * b.nbytes / least_seconds(triad),
    }


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    name : str
    n : int
    ours : float
        In `unit`.
    against : str
        The peer or limit; empty if only the bar counts.
    theirs : float or None
        In the same unit.
    bar : float or None
        Upper bound of ours / theirs, or of ours without a peer.
    """

    name: str
    n: int
    ours: float
    unit: str
    against: str = ""
    theirs: float | None = None
    bar: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.theirs is None else self.ours / self.theirs

    @property
    def kept(self) -> bool | None:
        """Whether the bar is kept; None without one."""
        measured = self.ours if self.ratio is None else self.ratio
        return None if self.bar is None else measured <= self.bar

    def row(self) -> dict[str, Any]:
        """As a record for JSON."""
        return self.__dict__ | {"ratio": self.ratio, "kept": self.kept}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"


def show(title: str, figures: Sequence[Figure], console: Console) -> None:
    """A table of figures."""
    table = Table(title=title)
    for i, heading in enumerate(("figure", "n", "ours", "", "against", "theirs", "ratio", "bar", "kept")):
        table.add_column(heading, justify="left" if i in (0, 3, 4) else "right")
    for f in figures:
        kept = {None: "", True: "yes", False: "no"}[f.kept]
        table.add_row(
            f.name,
            f"{f.n:,}" if f.n else "",
            _number(f.ours),
            f.unit,
            f.against,
            "" if f.theirs is None else _number(f.theirs),
            "" if f.ratio is None else f"{f.ratio:.2f}",
            "" if f.bar is None else f"{f.bar:g}",
            kept,
        )
    console.print(table)
