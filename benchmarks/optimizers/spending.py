"""Measures of races at equal trainings, each with a standard error, and their tables.

    symbol  meaning
    T       trainings spent
    x       random-equivalent speed-up, 1 / (q T): see `measures`
    d       distance between the best loss known of a problem and that of a median random point

    picked    share of races that recommend the truly best of the points visited
    regret    (true loss of the recommendation - true loss of the best visited) / d
    optimism  (expected loss of the recommendation - its reported estimate) / d
    coverage  share of 90 % intervals that hold the expected loss

Expected is the true loss; for an optimiser that knows failures it is the mean of the trainings that do not fail.

Differences between two optimisers are paired: the bootstrap draws problems, and seeds within them, that both have run.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

from benchmarks.optimizers.measures import Estimate, Record, estimate
from benchmarks.optimizers.reference import Reference

OWN = "hyppo"


def label(record: Record) -> str:
    """The optimiser, and its trainings of a point when it does not choose them itself."""
    return record["optimizer"] + ("" if record["replicas"] is None else f", {record['replicas']} a point")


class Spendings:
    """Records of races at equal trainings, looked at after `trainings`."""

    def __init__(self, records: Iterable[Record], trainings: int, references: Callable[[str], Reference]) -> None:
        mark = str(trainings)
        self.trainings = trainings
        self.records = [r for r in records if not r["error"] and mark in r["spent"]]
        self.labels = list(dict.fromkeys(label(r) for r in self.records))
        self.families = list(dict.fromkeys(r["family"] for r in self.records))
        self.references = {name: references(name) for name in {r["problem"] for r in self.records}}
        self.mark = mark
        best = {name: reference.best for name, reference in self.references.items()}
        for r in self.records:
            best[r["problem"]] = min(best[r["problem"]], r["spent"][mark]["among"][0])
        self.distance = {name: self.references[name].median - best[name] for name in best}

    def of(self, name: str, *families: str) -> list[Record]:
        return [r for r in self.records if label(r) == name and (not families or r["family"] in families)]

    def log_speed_up(self, record: Record) -> float:
        share = self.references[record["problem"]].share(record["spent"][self.mark]["true"])
        return -math.log(share * self.trainings)

    def speed_up(self, name: str, *families: str) -> Estimate:
        return self.mean(self.of(name, *families), self.log_speed_up).exp()

    def visited_speed_up(self, name: str, *families: str) -> Estimate:
        """Speed-up had the truly best visited point been recommended."""

        def value(record: Record) -> float:
            share = self.references[record["problem"]].share(record["spent"][self.mark]["among"][0])
            return -math.log(share * self.trainings)

        return self.mean(self.of(name, *families), value).exp()

    def ratio(self, name: str, other: str, *families: str) -> Estimate:
        """Speed-up of one over that of another, paired."""
        theirs = {(r["problem"], r["seed"]): self.log_speed_up(r) for r in self.of(other, *families)}
        both = [r for r in self.of(name, *families) if (r["problem"], r["seed"]) in theirs]
        return self.mean(both, lambda r: self.log_speed_up(r) - theirs[r["problem"], r["seed"]]).exp()

    def picked(self, record: Record) -> float:
        state = record["spent"][self.mark]
        return float(state["true"] <= state["among"][0])

    def regret(self, record: Record) -> float:
        state = record["spent"][self.mark]
        return float(state["true"] - state["among"][0]) / self.distance[record["problem"]]

    def optimism(self, record: Record) -> float:
        state = record["spent"][self.mark]
        return float(state["expected"] - state["estimate"]) / self.distance[record["problem"]]

    def covered(self, record: Record) -> float:
        state = record["spent"][self.mark]
        return float(state["interval"][0] <= state["expected"] <= state["interval"][1])

    def width(self, record: Record) -> float:
        low, high = record["spent"][self.mark]["interval"]
        return min((high - low) / self.distance[record["problem"]], 10.0)

    def coverage(self, name: str, *families: str) -> Estimate:
        with_interval = [r for r in self.of(name, *families) if r["spent"][self.mark]["interval"] is not None]
        return self.mean(with_interval, self.covered)

    @staticmethod
    def mean(records: Iterable[Record], value: Callable[[Record], float]) -> Estimate:
        values: dict[str, list[float]] = defaultdict(list)
        for r in records:
            values[r["problem"]].append(value(r))
        return estimate(values)
