"""What a peer is to the benchmark: ask and tell on a `hyppo.Space`, minimising, and a recommendation at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hyppo


@dataclass(frozen=True)
class Setting:
    """What a peer is told before it starts.

    Attributes
    ----------
    space : hyppo.Space
    budget : int
        Evaluations in all; only peers whose interface demands it make use of it.
    replicas : int
        Trainings of a point in one evaluation.
    noisy : bool
        Whether trainings of a point differ; only peers whose interface has a setting for it make use of it.
    seed : int
    pending : int
        Points out at a time.
    adaptive : bool
        Whether the optimiser chooses the trainings of a point itself.
    """

    space: hyppo.Space
    budget: int
    replicas: int
    noisy: bool
    seed: int
    pending: int = 1
    adaptive: bool = False


@dataclass(frozen=True)
class Point:
    """A point to train `replicas` times. `key` is the peer's own, for telling."""

    key: Any
    params: Mapping[str, Any]
    replicas: int


@dataclass(frozen=True)
class Recommended:
    """The configuration that a peer recommends, and its estimate and 90 % interval of the mean loss, if it has any."""

    params: Mapping[str, Any]
    interval: tuple[float, float] | None = None
    estimate: float | None = None


def native(parameter: Any, number: float) -> Any:
    """A parameter's value, for a peer that has reals and unit-step integers by value, all others by position."""
    if isinstance(parameter, hyppo.Real):
        return min(max(float(number), parameter.low), parameter.high)
    if isinstance(parameter, hyppo.Integer) and parameter.step == 1:
        return min(max(round(float(number)), parameter.low), parameter.high)
    return parameter.value(round(float(number)))


class Peer(Protocol):
    """One run of one optimiser."""

    def ask(self) -> Point: ...

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        """Losses of the point's trainings.

        A peer with `knows_failures = True` gets NaN for one that failed, the others the loss that it counts as.
        """
        ...

    def recommend(self) -> Recommended | None:
        """None: the point with the best mean of those tried, as the library itself would answer."""
        ...
