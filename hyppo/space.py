"""The search space: named parameters, the unit cube, and the lattice between them.

    symbol  meaning
    d       number of parameters
    unit    (d,) float64 in [0, 1]: a point's lattice coordinates, both ends included
    level   (d,) int64: the same point in integers; two points are the same where their levels are
    D       number of feature columns (a choice of three and more values takes one column a value)

A point travels as `params` (a dict of native Python values) outside and as `unit` inside; `level` decides identity, so
that a duplicate is never a matter of comparing floats.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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
        """Level of a value; raises SpaceError where the value is not of this parameter."""
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


def _number(kind: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpaceError(f"{kind}: {what} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise SpaceError(f"{kind}: {what} must be finite, got {value!r}")
    return float(value)


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
        low, high = _number("Real", "low", self.low), _number("Real", "high", self.high)
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
            distinct = math.log(self.high / self.low) / 2**-50
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
        number = _number("Real", "value", value)
        if not self.low <= number <= self.high:
            raise SpaceError(f"expected a number in [{self.low}, {self.high}], got {value!r}")
        if self.levels == 1:
            return 0
        if self.log:
            fraction = math.log(number / self.low) / math.log(self.high / self.low)
        else:
            fraction = (number - self.low) / (self.high - self.low)
        return min(max(round(fraction * self._steps), 0), self._steps)

    def value(self, index: int) -> float:
        if index <= 0:
            return self.low
        if index >= self.levels - 1:
            return self.high
        fraction = index / self._steps
        if self.log:
            raw = self.low * math.exp(fraction * math.log(self.high / self.low))
        else:
            raw = self.low + fraction * (self.high - self.low)
        width = (raw * math.log(self.high / self.low) if self.log else self.high - self.low) / self._steps
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
        for what, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            if _number("Integer", what, value) != int(value):
                raise SpaceError(f"Integer: {what} must be an integer, got {value!r}")
            object.__setattr__(self, what, int(value))
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
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise SpaceError(f"expected an integer in [{self.low}, {self.high}], got {value!r}")
        if not math.isfinite(value) or value != int(value) or not self.low <= value <= self.high:
            raise SpaceError(f"expected an integer in [{self.low}, {self.high}], got {value!r}")
        steps, rest = divmod(int(value) - self.low, self.step)
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
        clipped = np.clip(unit, 0.0, 1.0)
        if self.log and 1 < self.levels <= LISTED_LEVELS:
            return np.searchsorted(self._middles, clipped)
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


def _values(kind: str, values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise SpaceError(f"{kind}: expected a list of values, got {values!r}")
    native = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if not native:
        raise SpaceError(f"{kind}: expected at least one value, got none")
    for v in native:
        if not isinstance(v, int | float | str | bool | None):
            raise SpaceError(
                f"{kind}: values are numbers, strings, booleans or None, got {v!r}; "
                "name the object by a string and look it up in the objective"
            )
        if isinstance(v, float) and not math.isfinite(v):
            raise SpaceError(f"{kind}: values must be finite, got {v!r}")
    if len({(type(v), v) for v in native}) < len(native):
        raise SpaceError(f"{kind}: values must differ, got {list(native)!r}")
    return native


class _Listed:
    """What `Choice` and `Ordinal` share: a parameter given by the list of its values."""

    values: tuple[Scalar, ...]

    @property
    def levels(self) -> int:
        return len(self.values)

    @property
    def continuous(self) -> bool:
        return False

    def index(self, value: Any) -> int:
        native = value.item() if isinstance(value, np.generic) else value
        # True == 1 == 1.0 in Python: the type decides first, equality second.
        for same_type in (True, False):
            for i, v in enumerate(self.values):
                if (
                    v == native
                    and (type(v) is type(native)) is same_type
                    and isinstance(v, bool) is isinstance(native, bool)
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


class Space:
    """Named parameters, in the order given.

    Parameters
    ----------
    parameters : mapping of str to parameter, optional
        For names that are no Python identifiers.
    **named
        One parameter a keyword.

    Attributes
    ----------
    names : tuple of str
    dimension : int
        Number of parameters, d.
    size : int or None
        Number of distinct points; None where a parameter is continuous.

    Raises
    ------
    SpaceError
        No parameter, a name given twice or not a string, a value that is not a parameter.

    Examples
    --------
    >>> space = Space(width=Integer(8, 64, log=True), act=Choice(["relu", "gelu"]))
    >>> space.size, space.decode(space.encode({"width": 32, "act": "gelu"}))
    (114, {'width': 32, 'act': 'gelu'})
    """

    def __init__(self, parameters: Mapping[str, AnyParameter] | None = None, /, **named: AnyParameter) -> None:
        given = dict(parameters or {})
        twice = sorted(given.keys() & named.keys())
        if twice:
            raise SpaceError(f"Space: {twice} given twice, in the mapping and as keyword")
        given.update(named)
        if not given:
            raise SpaceError("Space: expected at least one parameter, got none")
        for name, parameter in given.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"Space: a parameter's name is a non-empty string, got {name!r}")
            if not isinstance(parameter, AnyParameter):
                raise SpaceError(f"Space: {name!r} must be Integer, Real, Choice or Ordinal, got {parameter!r}")
        self._parameters: dict[str, AnyParameter] = given

    @property
    def parameters(self) -> Mapping[str, AnyParameter]:
        return self._parameters

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parameters)

    @property
    def dimension(self) -> int:
        return len(self._parameters)

    @cached_property
    def levels(self) -> IntArray:
        """Number of levels of each parameter, (d,)."""
        return np.array([p.levels for p in self._parameters.values()], dtype=np.int64)

    @cached_property
    def size(self) -> int | None:
        if any(p.continuous for p in self._parameters.values()):
            return None
        return math.prod(p.levels for p in self._parameters.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and list(self._parameters.items()) == list(other._parameters.items())

    def __hash__(self) -> int:
        return hash(tuple(self._parameters.items()))

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{name}={parameter}' for name, parameter in self._parameters.items())})"

    # -- params <-> unit ------------------------------------------------------------------------------------------

    def encode(self, params: Mapping[str, Any]) -> FloatArray:
        """Lattice coordinates of a point, (d,).

        Raises
        ------
        SpaceError
            Names missing or unknown, or a value outside its parameter.
        """
        if not isinstance(params, Mapping):
            raise SpaceError(f"params: expected a mapping of {list(self.names)}, got {params!r}")
        missing = [n for n in self.names if n not in params]
        unknown = [n for n in params if n not in self._parameters]
        if missing or unknown:
            raise SpaceError(f"params: missing {missing}, unknown {unknown}; the space has {list(self.names)}")
        level = np.empty((1, self.dimension), dtype=np.int64)
        for j, (name, parameter) in enumerate(self._parameters.items()):
            try:
                level[0, j] = parameter.index(params[name])
            except SpaceError as error:
                raise SpaceError(f"params[{name!r}]: {error}") from None
        unit: FloatArray = self.unit_of(level)[0]
        return unit

    def native(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` in the space's order, as native Python values; a real number stays the very one given."""
        unit = self.encode(params)
        decoded = self.decode(unit)
        return {n: float(params[n]) if isinstance(p, Real) else decoded[n] for n, p in self._parameters.items()}

    def decode(self, unit: npt.ArrayLike) -> dict[str, Any]:
        """Native values of the lattice point nearest to `unit`, (d,)."""
        level = self.level_of(np.atleast_2d(np.asarray(unit, dtype=np.float64)))[0]
        return {name: p.value(int(level[j])) for j, (name, p) in enumerate(self._parameters.items())}

    # -- vectors of points, (q, d) --------------------------------------------------------------------------------
    # An ask looks at thousands of candidates some hundreds at a time, where a call of numpy costs more than its work:
    # parameters with even levels, which are nearly all, go through one call together.

    def _checked(self, array: npt.NDArray[Any]) -> None:
        if array.ndim != 2 or array.shape[1] != self.dimension:
            raise SpaceError(f"expected points of shape (q, {self.dimension}), got {array.shape}")

    @cached_property
    def _uneven(self) -> tuple[tuple[int, "Integer"], ...]:
        """Parameters whose neighbouring levels are not all as far apart."""
        return tuple(
            (j, p) for j, p in enumerate(self._parameters.values()) if isinstance(p, Integer) and p.log and p.levels > 1
        )

    @cached_property
    def _steps(self) -> FloatArray:
        """Steps from the first level to the last, (d,)."""
        return np.asarray(self.levels - 1, dtype=np.float64)

    def level_of(self, unit: FloatArray) -> IntArray:
        """Levels of the nearest lattice points, (q, d) -> (q, d)."""
        self._checked(unit)
        out = np.rint(np.minimum(np.maximum(unit, 0.0), 1.0) * self._steps).astype(np.int64)
        for j, parameter in self._uneven:
            out[:, j] = parameter.snap(unit[:, j])
        return out

    def unit_of(self, level: IntArray) -> FloatArray:
        """Coordinates of levels, (q, d) -> (q, d)."""
        self._checked(level)
        out: FloatArray = level / np.maximum(self._steps, 1.0)
        for j, parameter in self._uneven:
            out[:, j] = parameter.unit(level[:, j])
        return out

    def snap(self, unit: FloatArray) -> FloatArray:
        """Nearest lattice points, (q, d) -> (q, d)."""
        return self.unit_of(self.level_of(unit))

    def spread(self, uniform: FloatArray) -> FloatArray:
        """Uniform variates to lattice points, equal mass to every value of a list or a range, (q, d) -> (q, d)."""
        self._checked(uniform)
        clipped = np.minimum(np.maximum(uniform, 0.0), 1.0)
        level = np.minimum((clipped * self.levels).astype(np.int64), self.levels - 1)
        level[:, self._reals] = np.rint(clipped[:, self._reals] * self._steps[self._reals])
        for j, parameter in self._uneven:
            level[:, j] = parameter.spread(uniform[:, j])
        return self.unit_of(level)

    @cached_property
    def _reals(self) -> IntArray:
        return np.array([j for j, p in enumerate(self._parameters.values()) if isinstance(p, Real)], dtype=np.int64)

    def keys(self, unit: FloatArray) -> list[bytes]:
        """Hashable identity of each point, for sets: equal where the levels are equal."""
        level = np.ascontiguousarray(self.level_of(unit))
        found: list[bytes] = level.view(np.dtype((np.void, level.itemsize * self.dimension)))[:, 0].tolist()
        return found

    # -- coordinates for surrogates -------------------------------------------------------------------------------

    @cached_property
    def owner(self) -> IntArray:
        """Parameter that each feature column belongs to, (D,)."""
        return np.array(
            [j for j, p in enumerate(self._parameters.values()) for _ in range(_feature_columns(p))], dtype=np.int64
        )

    def features(self, unit: FloatArray) -> FloatArray:
        """Coordinates in which distance means likeness, (q, d) -> (q, D).

        Ordered parameters keep their coordinate. A choice of three and more values is one-hot times 1/sqrt(2), so that
        any change of value is a distance of one; of two values, one column of 0 and 1.
        """
        level = self.level_of(unit)
        single, choices = self._feature_layout
        on_lattice = self.unit_of(level)
        if not choices:
            return on_lattice
        out = np.empty((unit.shape[0], self.owner.size))
        out[:, single[1]] = on_lattice[:, single[0]]
        for j, first, count in choices:
            out[:, first : first + count] = (level[:, j, None] == np.arange(count)) * math.sqrt(0.5)
        return out

    @cached_property
    def _feature_layout(self) -> tuple[tuple[IntArray, IntArray], tuple[tuple[int, int, int], ...]]:
        """Parameters with one column and their columns; of the others parameter, first column, columns."""
        columns = np.array([_feature_columns(p) for p in self._parameters.values()])
        first = np.cumsum(columns) - columns
        single = np.flatnonzero(columns == 1)
        several = tuple((int(j), int(first[j]), int(columns[j])) for j in np.flatnonzero(columns > 1))
        return (single, first[single]), several

    # -- description ----------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        return json.dumps({name: p.to_json() for name, p in self._parameters.items()}, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Space":
        return Space({name: parameter_from_json(spec) for name, spec in json.loads(text).items()})

    def difference(self, other: "Space") -> str:
        """What `other` has that this space has not, in words; empty where both are equal."""
        lines: list[str] = []
        for name in dict.fromkeys((*self.names, *other.names)):
            mine, theirs = self._parameters.get(name), other._parameters.get(name)
            if mine != theirs:
                lines.append(f"{name}: {mine or 'absent'} here, {theirs or 'absent'} there")
        if not lines and self.names != other.names:
            lines.append(f"order of parameters: {list(self.names)} here, {list(other.names)} there")
        return "; ".join(lines)


def _feature_columns(parameter: AnyParameter) -> int:
    return 1 if parameter.ordered or parameter.levels <= 2 else parameter.levels
