"""Results of races, each with a standard error.

    symbol  meaning
    p       problem, s seed, o optimiser
    q       share of random points as good as the one recommended (`reference`)
    n       evaluations
    x       random-equivalent speed-up: 1 / (q n), the evaluations that random search needs in expectation for a point
            as good, over those spent

Means are over seeds, then over problems; of x they are geometric. Random search itself has x = 1.8 without noise, since
E[-ln(n q)] of its best point is Euler's constant, 0.577. Standard errors come from a bootstrap over problems and,
within each, over seeds.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.optimizers.problems.problem import FloatArray
from benchmarks.optimizers.reference import Reference

Record = Mapping[str, Any]
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error: both None of no value at all, the error None of a single one."""

    value: float | None
    error: float | None

    def exp(self) -> "Estimate":
        """exp of the mean, and the error carried along."""
        if self.value is None:
            return self
        return Estimate(math.exp(self.value), None if self.error is None else math.exp(self.value) * self.error)

    def relative(self) -> str:
        """Value and relative error, as a ratio or a speed-up reads best: `22 ±25 %`."""
        if self.value is None:
            return ""
        shown = f"{self.value:.0f}" if self.value >= 100.0 else f"{self.value:.3g}"
        return shown if self.error is None else f"{shown} ±{100.0 * self.error / abs(self.value or 1.0):.0f} %"

    def text(self, digits: int = 1, factor: float = 1.0) -> str:
        if self.value is None:
            return ""
        if self.error is None:
            return f"{factor * self.value:.{digits}f}"
        return f"{factor * self.value:.{digits}f} ± {factor * self.error:.{digits}f}"


def estimate(values: Mapping[str, Sequence[float]]) -> Estimate:
    """Mean over problems of the means over seeds, from `{problem: [a value a seed]}`."""
    groups = [np.asarray(v, dtype=np.float64) for v in values.values() if len(v)]
    if not groups:
        return Estimate(None, None)
    value = float(np.mean([g.mean() for g in groups]))
    if sum(len(g) for g in groups) == 1:
        return Estimate(value, None)
    rng = np.random.default_rng(0)
    means = np.stack([g[rng.integers(len(g), size=(RESAMPLES, len(g)))].mean(axis=1) for g in groups], axis=1)
    chosen = rng.integers(len(groups), size=means.shape)
    return Estimate(value, float(np.take_along_axis(means, chosen, axis=1).mean(axis=1).std()))


class Races:
    """Records of one split, one budget and one number of pending points; failed ones apart."""

    def __init__(self, records: Iterable[Record], references: Callable[[str], Reference]) -> None:
        records = list(records)
        self.failed = [r for r in records if r["error"]]
        self.records = [r for r in records if not r["error"]]
        self.optimizers = list(dict.fromkeys(r["optimizer"] for r in self.records))
        self.families = list(dict.fromkeys(r["family"] for r in self.records))
        self.references = {name: references(name) for name in dict.fromkeys(r["problem"] for r in self.records)}

    def complete(self, leave_out: Collection[str] = ()) -> "Races":
        """Only the optimisers that have run every problem: means over different problems cannot be compared."""
        everywhere = {o for o in self.optimizers if {r["problem"] for r in self.of(o)} == self.references.keys()}
        everywhere -= set(leave_out)
        return Races([r for r in self.records if r["optimizer"] in everywhere], self.references.__getitem__)

    def of(self, optimizer: str, *families: str) -> list[Record]:
        """Races of an optimiser, of all families if none is named."""
        return [r for r in self.records if r["optimizer"] == optimizer and (not families or r["family"] in families)]

    def log_speed_up(self, record: Record, loss: float | None = None, evaluations: int | None = None) -> float:
        """ln x of a race, or of another loss of it, or part of the way."""
        share = self.references[record["problem"]].share(record["final"] if loss is None else loss)
        return -math.log(share * (evaluations or record["budget"]))

    def speed_up(self, optimizer: str, *families: str) -> Estimate:
        return self._mean(self.of(optimizer, *families), self.log_speed_up).exp()

    def oracle(self, optimizer: str, *families: str) -> Estimate:
        """Speed-up had the best of the points tried been recommended, over the speed-up."""
        return self._mean(
            self.of(optimizer, *families), lambda r: self.log_speed_up(r, r["oracle"]) - self.log_speed_up(r)
        ).exp()

    def recommendation(self, optimizer: str, *families: str) -> Estimate:
        """Speed-up of the recommendation over that of the best observed mean."""
        return self._mean(
            self.of(optimizer, *families), lambda r: self.log_speed_up(r) - self.log_speed_up(r, r["observed"][-1])
        ).exp()

    def coverage(self, optimizer: str, *families: str) -> Estimate:
        """Share of intervals that hold the mean loss of the trainings that do not fail."""
        with_interval = [r for r in self.of(optimizer, *families) if r["interval"] is not None]
        return self._mean(
            with_interval, lambda r: float(r["interval"][0] <= r.get("expected", r["final"]) <= r["interval"][1])
        )

    def ranks(self, family: str | None = None) -> dict[str, Estimate]:
        """Mean rank, 1 the best, over those problems and seeds that every optimiser has run; ties share."""
        table: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
        for r in self.records:
            if family in (None, r["family"]):
                table[r["problem"], r["seed"]][r["optimizer"]] = r["final"]
        ranks: dict[str, dict[str, list[float]]] = {o: defaultdict(list) for o in self.optimizers}
        for (problem, _), row in table.items():
            if len(row) == len(self.optimizers):
                # Losses that differ in the last bits are the same point in two ways of writing it.
                losses = [float(f"{row[o]:.9g}") for o in self.optimizers]
                for o, rank in zip(self.optimizers, rankdata(losses), strict=True):
                    ranks[o][problem].append(float(rank))
        return {o: estimate(ranks[o]) for o in self.optimizers}

    def ratio(self, optimizer: str, other: "Races", against: str, families: Sequence[str]) -> Estimate:
        """Speed-up of an optimiser over that of `against` in `other`, on the races that both have run."""
        theirs = {(r["problem"], r["seed"]): other.log_speed_up(r) for r in other.of(against)}
        mine = [r for r in self.of(optimizer) if r["family"] in families and (r["problem"], r["seed"]) in theirs]
        return self._mean(mine, lambda r: self.log_speed_up(r) - theirs[r["problem"], r["seed"]]).exp()

    def seconds(self, optimizer: str) -> tuple[float, float, float]:
        """Median and largest mean time of an ask with its tell, and median of a recommendation, s."""
        asks = [r["ask_seconds"] for r in self.of(optimizer)]
        return (
            float(np.median(asks)),
            float(np.max(asks)),
            float(np.median([r["recommend_seconds"] for r in self.of(optimizer)])),
        )

    def regret(self, optimizer: str, family: str) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Evaluations, geometric mean of the normalised regret, and its relative standard error, (k,) each.

        Regret: true loss of the recommendation above the best loss known of the problem, over that of a median random
        point, but at least 1e-4.
        """
        rows = self.of(optimizer, family)
        marks = sorted({int(k) for r in rows for k in r["recommended"]})
        means, errors = [], []
        for mark in marks:
            values: dict[str, list[float]] = defaultdict(list)
            for r in rows:
                best, median = self.best_known[r["problem"]], self.references[r["problem"]].median
                regret = (r["recommended"][str(mark)] - best) / (median - best)
                values[r["problem"]].append(math.log(max(regret, 1e-4)))
            log_mean = estimate(values)
            means.append(math.exp(log_mean.value or 0.0))
            errors.append(log_mean.error or 0.0)
        return np.array(marks), np.array(means), np.array(errors)

    @cached_property
    def best_known(self) -> dict[str, float]:
        """Least true loss of each problem, in the random sample or in any race."""
        best = {name: reference.best for name, reference in self.references.items()}
        for r in self.records:
            best[r["problem"]] = min(best[r["problem"]], r["oracle"])
        return best

    def _mean(self, records: Iterable[Record], value: Callable[[Record], float]) -> Estimate:
        values: dict[str, list[float]] = defaultdict(list)
        for r in records:
            values[r["problem"]].append(value(r))
        return estimate(values)
