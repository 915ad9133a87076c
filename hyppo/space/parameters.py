"""The kinds of parameters: their values, and the lattice that maps them to [0, 1]."""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hyppo.arguments import native, number, quoted, whole
from hyppo.errors import SpaceError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Scalar = int | float | str | bool | None

# A real parameter is a lattice too, of 2^40 steps: finer than any loss can tell, coarse enough for exact integers.
REAL_LEVELS = 2**40
LISTED_LEVELS = 4096  # logarithmic integers up to here look their level up in a table


class Parameter(Protocol):
    """One axis of a space. Vectors are along points: shape (q,)."""

    @property
    def levels(self) -> int: ...

    @property
    def continuous(self) -> bool: ...

    @property
    def ordered(self) -> bool: ...

    def index(self, value: Any) -> int:
        """Level of a value; raises SpaceError if the parameter has no such value."""
        ...

    def value(self, index: int) -> Any:
        """Native Python value of a level."""
        ...

    def unit(self, index: IntArray) -> FloatArray:
        """Levels to coordinates in [0, 1]."""
        ...

    def snap(self, unit: FloatArray) -> IntArray:
        """Coordinates to the nearest level."""
        ...

    def spread(self, uniform: FloatArray) -> IntArray:
        """Uniform variates in [0, 1) to levels, as the parameter's own measure wants them."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Real:
    """A real number between two bounds, both included.

    Parameters
    ----------
    low, high : float
        Bounds, `low < high` (equal bounds make a constant).
    log : bool
        Search the logarithm; needs `low > 0`.

    Raises
    ------
    SpaceError
        Bounds reversed, not finite, or not positive under `log`.

    Examples
    --------
    >>> Real(1e-4, 1e-1, log=True).value(Real(1e-4, 1e-1, log=True).index(1e-2))
    0.01
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", _flag("Real", "log", self.log))
        low = number("Real: low", self.low, error=SpaceError)
        high = number("Real: high", self.high, error=SpaceError)
        if low > high:
            raise SpaceError(f"Real: low must not exceed high, got low={self.low!r}, high={self.high!r}")
        if self.log and low <= 0:
            raise SpaceError(f"Real: log=True needs low > 0, got low={self.low!r}")
        if not math.isfinite(high - low):
            raise SpaceError(f"Real: high - low overflows, got low={self.low!r}, high={self.high!r}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @cached_property
    def _steps(self) -> int:
        # Neighbouring floats that are further apart than the lattice would make two levels of one value.
        if self.log:
            distinct = _log_ratio(self.high, self.low) / 2**-50
        else:
            distinct = (self.high - self.low) / (4 * math.ulp(max(abs(self.low), abs(self.high))))
        return 0 if self.low == self.high else int(min(max(distinct, 1), REAL_LEVELS))

    @property
    def levels(self) -> int:
        return self._steps + 1

    @property
    def continuous(self) -> bool:
        return self.low < self.high

    @property
    def ordered(self) -> bool:
        return True

    def index(self, value: Any) -> int:
        x = number("value", value, error=SpaceError)
        if not self.low <= x <= self.high:
            raise SpaceError(f"expected a number in [{self.low}, {self.high}], got {value!r}")
        if self.levels == 1:
            return 0
        if self.log:
            fraction = _log_ratio(x, self.low) / _log_ratio(self.high, self.low)
        else:
            fraction = (x - self.low) / (self.high - self.low)
        return min(max(round(fraction * self._steps), 0), self._steps)

    def value(self, index: int) -> float:
        if index <= 0:
            return self.low
        if index >= self.levels - 1:
            return self.high
        fraction = index / self._steps
        if self.log:
            exponent = fraction * _log_ratio(self.high, self.low)
            if exponent < 709:
                raw = self.low * math.exp(exponent)
            else:  # the exponential overflows
                raw = self.low * math.exp(exponent / 2) * math.exp(exponent / 2)
        else:
            raw = self.low + fraction * (self.high - self.low)
        width = (raw * _log_ratio(self.high, self.low) if self.log else self.high - self.low) / self._steps
        # The shortest decimal that still names this level: 0.01, not 0.010000000000003.
        for digits in range(1, 17):
            short = float(f"{raw:.{digits}g}")
            if abs(short - raw) <= width and self.low <= short <= self.high and self.index(short) == index:
                return short
        return min(max(raw, self.low), self.high)

    def unit(self, index: IntArray) -> FloatArray:
        return np.asarray(index / max(self.levels - 1, 1), dtype=np.float64)

    def snap(self, unit: FloatArray) -> IntArray:
        return np.rint(np.clip(unit, 0.0, 1.0) * (self.levels - 1)).astype(np.int64)

    def spread(self, uniform: FloatArray) -> IntArray:
        return self.snap(uniform)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "real", "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Integer:
    """An integer between two bounds, both included.

    Parameters
    ----------
    low, high : int
        Bounds, `low <= high`.
    step : int
        Distance of neighbouring values, counted from `low`; the last value is the largest that does not exceed `high`.
    log : bool
        Neighbours are even in the logarithm; needs `low > 0`.

    Raises
    ------
    SpaceError
        Bounds reversed or not integers, a step below one, or a bound that is not positive under `log`.

    Examples
    --------
    >>> [Integer(2, 9, step=3).value(i) for i in range(Integer(2, 9, step=3).levels)]
    [2, 5, 8]
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", _flag("Integer", "log", self.log))
        for bound_name, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            bound = whole(f"Integer: {bound_name}", value, error=SpaceError)
            if not -(2**63) <= bound < 2**63:
                raise SpaceError(f"Integer: {bound_name}: expected an integer of at most 64 bits, got {quoted(value)}")
            object.__setattr__(self, bound_name, bound)
        if self.low > self.high:
            raise SpaceError(f"Integer: low must not exceed high, got low={self.low}, high={self.high}")
        if self.step < 1:
            raise SpaceError(f"Integer: step must be at least 1, got {self.step}")
        if self.log and self.low <= 0:
            raise SpaceError(f"Integer: log=True needs low > 0, got low={self.low}")
        if self.levels > REAL_LEVELS:
            raise SpaceError(f"Integer: at most 2^40 values, got {self.levels}; use a Real or a larger step")

    @property
    def levels(self) -> int:
        return (self.high - self.low) // self.step + 1

    @property
    def continuous(self) -> bool:
        return False

    @property
    def ordered(self) -> bool:
        return True

    @property
    def _last(self) -> int:
        return self.low + (self.levels - 1) * self.step

    def index(self, value: Any) -> int:
        x = whole("value", value, error=SpaceError)
        if not self.low <= x <= self.high:
            raise SpaceError(f"expected an integer in [{self.low}, {self.high}], got {quoted(value)}")
        steps, rest = divmod(x - self.low, self.step)
        if rest:
            raise SpaceError(f"expected {self.low} plus a multiple of step={self.step}, got {value!r}")
        return steps

    def value(self, index: int) -> int:
        return self.low + min(max(int(index), 0), self.levels - 1) * self.step

    def unit(self, index: IntArray) -> FloatArray:
        if self.levels == 1:
            return np.zeros(np.shape(index))
        if self.log:
            values = (self.low + np.asarray(index) * self.step).astype(np.float64)
            return np.asarray(np.log(values / self.low) / math.log(self._last / self.low))
        return np.asarray(index / (self.levels - 1), dtype=np.float64)

    @cached_property
    def _middles(self) -> FloatArray:
        """Coordinates half-way between neighbouring levels."""
        units = self.unit(np.arange(self.levels))
        return np.asarray(0.5 * (units[1:] + units[:-1]))

    def snap(self, unit: FloatArray) -> IntArray:
        if self.log and 1 < self.levels <= LISTED_LEVELS:
            return np.searchsorted(self._middles, unit)
        clipped = np.clip(unit, 0.0, 1.0)
        if self.log and self.levels > 1:
            values = self.low * np.exp(clipped * math.log(self._last / self.low))
            below = np.clip(((values - self.low) // self.step).astype(np.int64), 0, self.levels - 1)
            above = np.minimum(below + 1, self.levels - 1)
            nearer = np.abs(self.unit(above) - clipped) < np.abs(self.unit(below) - clipped)
            return np.where(nearer, above, below)
        return np.rint(clipped * (self.levels - 1)).astype(np.int64)

    def spread(self, uniform: FloatArray) -> IntArray:
        if self.log and self.levels > 1:
            # Every value owns the stretch from half a step below to half a step above, in the logarithm.
            low, high = (
                math.log(self.low - self.step / 2 if self.low > self.step / 2 else self.low * 0.75),
                math.log(self._last + self.step / 2),
            )
            values = np.exp(low + np.clip(uniform, 0.0, 1.0) * (high - low))
            return np.clip(np.rint((values - self.low) / self.step), 0, self.levels - 1).astype(np.int64)
        return np.minimum((np.clip(uniform, 0.0, 1.0) * self.levels).astype(np.int64), self.levels - 1)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "integer", "low": self.low, "high": self.high, "step": self.step, "log": self.log}


def _flag(kind: str, what: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise SpaceError(f"{kind}: {what} must be True or False, got {value!r}")
    return bool(value)


def _log_ratio(high: float, low: float) -> float:
    """log(high / low), also where the ratio overflows."""
    ratio = high / low
    return math.log(ratio) if math.isfinite(ratio) else math.log(high) - math.log(low)


def _values(kind: str, values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    # A set has another order in another process.
    unordered = isinstance(values, str | bytes | Set | Mapping) or getattr(values, "shape", None) == ()
    if unordered or not isinstance(values, Iterable):
        raise SpaceError(f"{kind}: expected a list of values, got {values!r}")
    listed = tuple(native(v) for v in values)
    if not listed:
        raise SpaceError(f"{kind}: expected at least one value, got none")
    for v in listed:
        if not isinstance(v, int | float | str | bool | None):
            raise SpaceError(
                f"{kind}: values are numbers, strings, booleans or None, got {v!r}; "
                "name the object by a string and look it up in the objective"
            )
        if isinstance(v, float) and not math.isfinite(v):
            raise SpaceError(f"{kind}: values must be finite, got {v!r}")
    if len({(type(v), v) for v in listed}) < len(listed):
        raise SpaceError(f"{kind}: values must differ, got {list(listed)!r}")
    return listed


class _Listed:
    """Base of `Choice` and `Ordinal`: a parameter given by the list of its values."""

    values: tuple[Scalar, ...]

    @property
    def levels(self) -> int:
        return len(self.values)

    @property
    def continuous(self) -> bool:
        return False

    def index(self, value: Any) -> int:
        given = native(value)
        # True == 1 == 1.0 in Python: the type decides first, equality second.
        for same_type in (True, False):
            for i, v in enumerate(self.values):
                if (
                    v == given
                    and (type(v) is type(given)) is same_type
                    and isinstance(v, bool) is isinstance(given, bool)
                ):
                    return i
        raise SpaceError(f"expected one of {list(self.values)!r}, got {value!r}")

    def value(self, index: int) -> Scalar:
        return self.values[min(max(int(index), 0), self.levels - 1)]

    def unit(self, index: IntArray) -> FloatArray:
        return np.asarray(index / max(self.levels - 1, 1), dtype=np.float64)

    def snap(self, unit: FloatArray) -> IntArray:
        return np.rint(np.clip(unit, 0.0, 1.0) * (self.levels - 1)).astype(np.int64)

    def spread(self, uniform: FloatArray) -> IntArray:
        return np.minimum((np.clip(uniform, 0.0, 1.0) * self.levels).astype(np.int64), self.levels - 1)


@dataclass(frozen=True)
class Choice(_Listed):
    """One of several values without an order.

    Raises
    ------
    SpaceError
        No value, a value twice, or one that is not a number, string, boolean or None.

    Examples
    --------
    >>> Choice(["relu", "gelu"]).value(1)
    'gelu'
    """

    values: tuple[Scalar, ...]

    def __init__(self, values: Iterable[Scalar]) -> None:
        object.__setattr__(self, "values", _values("Choice", values))

    @property
    def ordered(self) -> bool:
        return False

    def to_json(self) -> dict[str, Any]:
        return {"kind": "choice", "values": list(self.values)}


@dataclass(frozen=True)
class Ordinal(_Listed):
    """One of several values in the order given; neighbours are alike.

    Raises
    ------
    SpaceError
        As `Choice`.

    Examples
    --------
    >>> Ordinal([16, 32, 64]).index(64)
    2
    """

    values: tuple[Scalar, ...]

    def __init__(self, values: Iterable[Scalar]) -> None:
        object.__setattr__(self, "values", _values("Ordinal", values))

    @property
    def ordered(self) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {"kind": "ordinal", "values": list(self.values)}


AnyParameter = Real | Integer | Choice | Ordinal


def parameter_from_json(spec: Mapping[str, Any]) -> AnyParameter:
    """The parameter that `to_json` described."""
    match spec:
        case {"kind": "real", "low": low, "high": high, "log": log}:
            return Real(low, high, log)
        case {"kind": "integer", "low": low, "high": high, "step": step, "log": log}:
            return Integer(low, high, step, log)
        case {"kind": "choice", "values": values}:
            return Choice(values)
        case {"kind": "ordinal", "values": values}:
            return Ordinal(values)
    raise SpaceError(f"not a parameter: {spec!r}")
