"""`hyppo` itself, by its public names, and variants that answer one question each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting


class StudyPeer:
    """A `hyppo.Study`; `means=True` tells it one loss an evaluation, so that it never sees the replicas' spread."""

    knows_failures = True

    def __init__(self, setting: Setting, *, means: bool = False, **options: Any) -> None:
        self.means = means
        self.asked = setting.replicas if means else 0
        if not setting.adaptive:
            options.setdefault("replicas", 1 if means else setting.replicas)
        self.study = hyppo.Study(setting.space, seed=setting.seed, **options)

    def ask(self) -> Point:
        trial = self.study.ask()
        return Point(trial.number, trial.params, self.asked or len(trial.seeds))

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        told = [float(np.nanmean(losses))] if self.means and not np.isnan(losses).all() else list(losses)
        self.study.tell(point.key, told)

    def recommend(self) -> Recommended:
        best = self.study.best
        return Recommended(best.params, best.interval, best.estimate)


def default(setting: Setting) -> StudyPeer:
    """Every point gets the replicas of an evaluation."""
    return StudyPeer(setting)


def gp(setting: Setting) -> StudyPeer:
    """The Gaussian process alone."""
    return StudyPeer(setting, surrogate="gp")


def rbf(setting: Setting) -> StudyPeer:
    """The radial basis functions alone."""
    return StudyPeer(setting, surrogate="rbf")


def adaptive(setting: Setting) -> StudyPeer:
    """Adaptive replicas, from one or two per point, with the same total number of trainings."""
    fewest = max(1, setting.replicas - 1)
    return StudyPeer(setting, replicas=(fewest, 4 * setting.replicas) if setting.noisy else setting.replicas)


def means(setting: Setting) -> StudyPeer:
    """Told only the mean of the replicas, to measure the value of the spread."""
    return StudyPeer(setting, means=True)
