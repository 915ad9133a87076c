"""The space: several named parameters as one lattice in the unit cube, and as features for surrogates."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hyppo.arguments import number
from hyppo.errors import SpaceError
from hyppo.space.parameters import AnyParameter, FloatArray, IntArray, Integer, Real, parameter_from_json


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
        Number of distinct points; None if a parameter is continuous.

    Raises
    ------
    SpaceError
        No parameter, a name given twice or not a string, a value that is not a parameter.

    Examples
    --------
    >>> from hyppo.space import Choice, Integer
    >>> space = Space(width=Integer(8, 64, log=True), act=Choice(["relu", "gelu"]))
    >>> space.size, space.decode(space.encode({"width": 32, "act": "gelu"}))
    (114, {'width': 32, 'act': 'gelu'})
    """

    def __init__(self, parameters: Mapping[str, AnyParameter] | None = None, /, **named: AnyParameter) -> None:
        if parameters is not None and not isinstance(parameters, Mapping):
            raise SpaceError(f"Space: expected parameters by name, got {parameters!r}")
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
        unit: FloatArray = self.unit_of(np.array([self._indices(params)], dtype=np.int64))[0]
        return unit

    def encode_all(self, points: Sequence[Mapping[str, Any]]) -> FloatArray:
        """Lattice coordinates of several points at a fraction of the cost of one by one, (q, d); errors as `encode`."""
        level = np.array([self._indices(params) for params in points], dtype=np.int64)
        return self.unit_of(level.reshape(len(points), self.dimension))

    def _indices(self, params: Mapping[str, Any]) -> list[int]:
        if not isinstance(params, Mapping):
            raise SpaceError(f"params: expected a mapping of {list(self.names)}, got {params!r}")
        if params.keys() != self._parameters.keys():
            missing = [n for n in self.names if n not in params]
            unknown = [n for n in params if n not in self._parameters]
            raise SpaceError(f"params: missing {missing}, unknown {unknown}; the space has {list(self.names)}")
        index = []
        for name, parameter in self._parameters.items():
            try:
                index.append(parameter.index(params[name]))
            except SpaceError as error:
                raise SpaceError(f"params[{name!r}]: {error}") from None
        return index

    def native(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` in the space's order, as native Python values; a real number stays the very one given."""
        unit = self.encode(params)
        decoded = self.decode(unit)
        return {n: number(n, params[n]) if isinstance(p, Real) else decoded[n] for n, p in self._parameters.items()}

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
    def _uneven(self) -> tuple[tuple[int, Integer], ...]:
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
        scaled = unit * self._steps
        np.rint(scaled, out=scaled)
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, self._steps, out=scaled)
        out = scaled.astype(np.int64)
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
        """Hashable identity of each point, for sets: equal if the levels are equal."""
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
        """The differences of `other` from this space, in words; empty if both are equal."""
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
