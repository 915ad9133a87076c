"""The space: several named parameters as one lattice in the unit cube, and as features for surrogates."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hyppo.arguments import number
from hyppo.errors import SpaceError
from hyppo.space.parameters import AnyParameter, FloatArray, IntArray, Integer, Real, parameter_from_json

COUNTED = 2**20  # combinations of a space whose distinct points are counted


@dataclass(frozen=True)
class _Rule:
    """Levels of other parameters that make a parameter inactive, and its level then."""

    levels: Mapping[str, tuple[int, ...]]
    default: int


class Space:
    """Named parameters, in the order given.

    Parameters
    ----------
    parameters : mapping of str to parameter, or Space, optional
        For names that are no Python identifiers, or a space to add parameters to.
    **named
        One parameter a keyword.

    Attributes
    ----------
    names : tuple of str
    dimension : int
        Number of parameters, d.
    size : int or None
        Number of distinct points; None if a parameter is continuous. An upper bound if some parameters are inactive at
        times (`inactive_if`) and there are more than a million combinations.

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

    def __init__(
        self, parameters: "Mapping[str, AnyParameter] | Space | None" = None, /, **named: AnyParameter
    ) -> None:
        self._rules: dict[str, _Rule] = {}  # of parameters that are inactive at times
        if isinstance(parameters, Space):
            self._rules, parameters = parameters._rules, parameters.parameters
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
    def combinations(self) -> int | None:
        """Product of the numbers of levels, at least `size`; None if a parameter is continuous."""
        if any(p.continuous for p in self._parameters.values()):
            return None
        return math.prod(p.levels for p in self._parameters.values())

    @cached_property
    def size(self) -> int | None:
        total = self.combinations
        if total is None or total > COUNTED or not self._rules:
            return total
        count, step = 0, 2**14
        for start in range(0, total, step):
            index = np.arange(start, min(start + step, total))
            level = np.stack(np.unravel_index(index, tuple(self.levels)), axis=1).astype(np.int64)
            count += int((self._canonical(level) == level).all(axis=1).sum())
        return count

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Space)
            and list(self._parameters.items()) == list(other._parameters.items())
            and self._rules == other._rules
        )

    def __hash__(self) -> int:
        return hash(tuple(self._parameters.items()))

    def __repr__(self) -> str:
        shown = f"Space({', '.join(f'{name}={parameter}' for name, parameter in self._parameters.items())})"
        if not self._rules:
            return shown
        conditions = {name: self._values_of(rule) for name, rule in self._rules.items()}
        defaults = {name: self._parameters[name].value(rule.default) for name, rule in self._rules.items()}
        return f"{shown}.inactive_if({conditions}, {defaults})"

    # -- inactive parameters --------------------------------------------------------------------------------------

    def inactive_if(
        self, conditions: Mapping[str, Mapping[str, Sequence[Any]]], defaults: Mapping[str, Any] | None = None
    ) -> "Space":
        """This space, in which some parameters have no effect for some values of others.

        Points that differ only in inactive parameters are one point: an inactive parameter has its default there, and
        no study trains both.

        Parameters
        ----------
        conditions : mapping of str to mapping of str to sequence
            For a parameter, by the name of an earlier one, those values of the earlier one that make it inactive. If
            several earlier ones are named, one of them is enough.
        defaults : mapping of str to value, optional
            Values of inactive parameters; the lowest or first value of those that are not named.

        Raises
        ------
        SpaceError
            A name that is unknown or not of an earlier parameter, or a value outside its parameter.

        Examples
        --------
        >>> from hyppo.space import Integer
        >>> space = Space(layers=Integer(1, 2), units_2=Integer(8, 64)).inactive_if({"units_2": {"layers": [1]}})
        >>> space.decode(space.encode({"layers": 1, "units_2": 32}))
        {'layers': 1, 'units_2': 8}
        >>> space.size
        58
        """
        defaults = {} if defaults is None else defaults
        if not isinstance(conditions, Mapping) or not isinstance(defaults, Mapping):
            raise SpaceError(f"inactive_if: expected mappings by name, got {conditions!r} and {defaults!r}")
        if not conditions.keys() <= self._parameters.keys() or not defaults.keys() <= conditions.keys():
            raise SpaceError(
                f"inactive_if: expected conditions for some of {list(self.names)}, and defaults for some of those, got "
                f"{list(conditions)} and {list(defaults)}"
            )
        space = Space(self)
        space._rules = {**self._rules, **{n: self._rule(n, c, defaults) for n, c in conditions.items()}}
        return space

    def inactive(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the parameters that are inactive at a point; errors as `encode`.

        >>> from hyppo.space import Choice, Real
        >>> space = Space(dropout=Choice([False, True]), rate=Real(0, 0.5)).inactive_if({"rate": {"dropout": [False]}})
        >>> space.inactive({"dropout": False, "rate": 0.2})
        ('rate',)
        """
        level = self._canonical(np.array([self._indices(params)], dtype=np.int64))[0]
        return tuple(
            self.names[j] for j, _, causes in self._tables if any(level[cause] in levels for cause, levels in causes)
        )

    def _rule(self, name: str, condition: Mapping[str, Sequence[Any]], defaults: Mapping[str, Any]) -> "_Rule":
        if not isinstance(condition, Mapping):
            raise SpaceError(f"inactive_if[{name!r}]: expected values by the name of a parameter, got {condition!r}")
        earlier = self.names[: self.names.index(name)]
        levels: dict[str, tuple[int, ...]] = {}
        for parent, values in condition.items():
            if parent not in earlier:
                raise SpaceError(f"inactive_if[{name!r}]: {parent!r} is not one of the earlier parameters {earlier}")
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise SpaceError(f"inactive_if[{name!r}][{parent!r}]: expected a list of values, got {values!r}")
            levels[parent] = tuple(sorted({self._parameters[parent].index(value) for value in values}))
        return _Rule(levels, self._parameters[name].index(defaults[name]) if name in defaults else 0)

    def _values_of(self, rule: "_Rule") -> dict[str, list[Any]]:
        return {n: [self._parameters[n].value(level) for level in levels] for n, levels in rule.levels.items()}

    @cached_property
    def _tables(self) -> tuple[tuple[int, int, tuple[tuple[int, IntArray], ...]], ...]:
        """Column and default level of each parameter with a rule, and the columns and levels that make it inactive."""
        column = {name: j for j, name in enumerate(self.names)}
        return tuple(
            (
                column[name],
                self._rules[name].default,
                tuple((column[n], np.array(some, dtype=np.int64)) for n, some in self._rules[name].levels.items()),
            )
            for name in self.names
            if name in self._rules
        )

    def _canonical(self, level: IntArray) -> IntArray:
        """Levels with the default of each inactive parameter, (q, d) -> (q, d); the very array if there is no rule."""
        if not self._rules:
            return level
        out = level.copy()
        for j, default, causes in self._tables:  # in the order of the space: causes come before their effects
            for cause, levels in causes:
                out[np.isin(out[:, cause], levels), j] = default
        return out

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

    def __contains__(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` is a point of the space.

        >>> {"x": 2.0} in Space(x=Real(0, 1))
        False
        """
        try:
            self._indices(params)
        except SpaceError:
            return False
        return True

    def native(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` in the space's order, as native Python values; a real number stays the very one given."""
        index = self._indices(params)
        level = self._canonical(np.array([index], dtype=np.int64))[0]
        return {
            name: number(name, params[name]) if isinstance(p, Real) and level[j] == index[j] else p.value(int(level[j]))
            for j, (name, p) in enumerate(self._parameters.items())
        }

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
        return self._canonical(out)

    def unit_of(self, level: IntArray) -> FloatArray:
        """Coordinates of levels, (q, d) -> (q, d)."""
        self._checked(level)
        level = self._canonical(level)
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

    def features(self, unit: FloatArray, *, on_lattice: bool = False) -> FloatArray:
        """Coordinates in which distance means likeness, (q, d) -> (q, D).

        Ordered parameters keep their coordinate. A choice of three and more values is one-hot times 1/sqrt(2), so that
        any change of value is a distance of one; of two values, one column of 0 and 1. Set `on_lattice` if all points
        are lattice points, as those of `snap` are: half of the time is to look for the nearest one.
        """
        self._checked(unit)
        if not on_lattice:
            unit = self.snap(unit)
        (single, columns), choices = self._feature_layout
        if not choices:
            return unit
        out = np.zeros((unit.shape[0], self.owner.size))
        out[:, columns] = unit[:, single]
        rows = np.arange(unit.shape[0])
        for j, first, count in choices:
            out[rows, first + np.rint(unit[:, j] * (count - 1)).astype(np.int64)] = math.sqrt(0.5)
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
        specs = {name: p.to_json() for name, p in self._parameters.items()}
        for name, rule in self._rules.items():
            default = self._parameters[name].value(rule.default)
            specs[name] |= {"inactive_if": self._values_of(rule), "default": default}
        return json.dumps(specs, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Space":
        specs = json.loads(text)
        conditions = {name: spec["inactive_if"] for name, spec in specs.items() if "inactive_if" in spec}
        return Space({name: parameter_from_json(spec) for name, spec in specs.items()}).inactive_if(
            conditions, {name: specs[name]["default"] for name in conditions}
        )

    def difference(self, other: "Space") -> str:
        """The differences of the parameters of `other` from those of this space, in words; empty if there are none.

        The conditions of `inactive_if` do not count: they change no point, only which points are trained.
        """
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
