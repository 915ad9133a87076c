"""The losses that a training reported, step by step: two arrays a curve, and few enough of them to keep."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

POINTS = 1024
"""Most points of a curve that a study keeps. A tuple of tuples takes 112 bytes a point, two arrays take 16."""


class Curve(Sequence[tuple[int, float]]):
    """Reported losses as a sequence of (step, loss); it cannot be changed.

    Parameters
    ----------
    steps : array of int64, shape (n,)
    losses : array of float64, shape (n,)

    Examples
    --------
    >>> curve = Curve.of([(0, 0.9), (1, 0.5)])
    >>> curve[1], len(curve), curve == ((0, 0.9), (1, 0.5))
    ((1, 0.5), 2, True)
    """

    __slots__ = ("losses", "steps")

    def __init__(self, steps: npt.NDArray[np.int64], losses: npt.NDArray[np.float64]) -> None:
        if steps.ndim != 1 or steps.shape != losses.shape:
            raise ValueError(f"a curve has as many steps as losses, got shapes {steps.shape} and {losses.shape}")
        steps.flags.writeable = losses.flags.writeable = False
        self.steps = steps
        self.losses = losses

    @staticmethod
    def of(points: Iterable[tuple[int, float]]) -> "Curve":
        """A curve of (step, loss) pairs.

        Raises
        ------
        TypeError, ValueError, OverflowError
            A step is not an integer of 64 bits, or a loss is not a number.
        """
        if isinstance(points, Curve):
            return points
        pairs = list(points)
        for step, _ in pairs:
            if isinstance(step, bool) or not isinstance(step, int | np.integer):
                raise TypeError(f"a step is an integer, got {step!r}")
        return Curve(
            np.array([step for step, _ in pairs], dtype=np.int64),
            np.array([float(loss) for _, loss in pairs], dtype=np.float64),
        )

    @property
    def counts_up(self) -> bool:
        """Whether the steps are 0, 1, 2, ..."""
        return bool(np.array_equal(self.steps, np.arange(len(self.steps))))

    def thinned(self, points: int = POINTS) -> "Curve":
        """At most `points` of the points: every k-th, the lowest and the last.

        The smallest power of two that suffices is taken for k, so that curves of about the same length keep the same
        steps, at which they can be compared.

        >>> Curve.of((step, 1 / (step + 1)) for step in range(10)).thinned(7).steps.tolist()
        [0, 2, 4, 6, 8, 9]
        """
        n = len(self)
        if n <= points:
            return self
        k = 2
        while -(-n // k) + 2 > points and k < n:
            k *= 2
        finite = np.flatnonzero(np.isfinite(self.losses))
        lowest = finite[np.argmin(self.losses[finite])] if finite.size else 0
        kept = np.union1d(np.arange(0, n, k), [lowest, n - 1])
        return Curve(self.steps[kept], self.losses[kept])

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, at: int) -> tuple[int, float]: ...
    @overload
    def __getitem__(self, at: slice) -> "Curve": ...
    def __getitem__(self, at: int | slice) -> "tuple[int, float] | Curve":
        if isinstance(at, slice):
            return Curve(self.steps[at], self.losses[at])
        return int(self.steps[at]), float(self.losses[at])

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(zip(self.steps.tolist(), self.losses.tolist(), strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            if not isinstance(other, Sequence) or isinstance(other, str):
                return NotImplemented
            return tuple(self) == tuple(other)
        return np.array_equal(self.steps, other.steps) and np.array_equal(self.losses, other.losses, equal_nan=True)

    def __hash__(self) -> int:
        return hash((self.steps.tobytes(), self.losses.tobytes()))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Curve, (self.steps.copy(), self.losses.copy())


EMPTY = Curve.of(())
