"""The interface of a peer: ask and tell on a `hyppo.Space`, minimising, and a recommendation at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hyppo


@dataclass(frozen=True)
class Setting:
    """The settings of a peer before it starts.

    Attributes
    ----------
    space : hyppo.Space
    budget : int
        Total number of evaluations; only peers whose interface requires it use it.
    replicas : int
        Trainings of a point in one evaluation.
    noisy : bool
        Whether trainings of a point differ; only peers whose interface has a setting for it use it.
    seed : int
    pending : int
        Number of pending points.
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
    """A point to train `replicas` times. `key` identifies it for the peer's `tell`."""

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

        A peer with `knows_failures = True` gets NaN for a failed training, other peers get its substitute loss.
        """
        ...

    def recommend(self) -> Recommended | None:
        """None stands for the tried point with the best mean, if that is the library's own answer."""
        ...
