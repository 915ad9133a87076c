"""KerasTuner's `build(hp)` functions, unchanged: the space is taken from the `hp` calls that they make.

KerasTuner itself is not needed. Its spaces are trees; hyppo's are flat: every parameter that `build` may ask for is
in the space and has a value in every trial. If a value of another parameter makes `build` not ask for it, it has its
default, so that no two trials train the same network.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hyppo import Choice, Integer, Ordinal, Real, Space
from hyppo.errors import SpaceError, StudyError, notify
from hyppo.training.resume import random_state, set_random_state
from hyppo.training.seeding import restored_switches

Parameter = Integer | Real | Choice | Ordinal
Scalar = int | float | str | bool | None

MOST_BUILDS = 500  # networks built to find the parameters of a function
FEW_LEVELS = 16  # an integer with at most as many, whose ends lead to different parameters, is looked at everywhere
CHECKS = 16  # random points at which inactive parameters are checked


class HyperParameters:
    """The argument of `build`: the methods of KerasTuner's class of this name that build functions use.

    A call gives the value from `values`, or else the parameter's default (KerasTuner's: the lowest, or the first).
    `parameters` holds the parameters that were asked for.

    Examples
    --------
    >>> hp = HyperParameters({"units": 64})
    >>> hp.Int("units", 32, 128, step=32), hp.Float("lr", 1e-4, 1e-2, sampling="log")
    (64, 0.0001)
    >>> hp.parameters["units"]
    Integer(low=32, high=128, step=32, log=False)
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.values: dict[str, Any] = {}  # of the parameters that were asked for, as `build` sees them
        self.active: set[str] = set()  # names that were asked for outside of scopes that do not apply
        self.unmet: dict[str, list[tuple[str, Any]]] = {}  # the other names, with the parents of those scopes
        self._given = dict(values)
        self._scopes: list[str] = []
        self._unmet: list[tuple[str, Any]] = []  # parents of the scopes that do not apply, and their values

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> int:
        """An integer between two bounds, both included; under `sampling="log"` a step is a factor."""
        name = self._scoped(name)
        log = _is_log(name, sampling)
        if log and step is not None:
            parameter: Parameter = Ordinal(_powers(name, min_value, max_value, step))
        else:
            parameter = Integer(min_value, max_value, step=step or 1, log=log)
        return int(self._ask(name, parameter, min_value if default is None else default, parent_name, parent_values))

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> float:
        """A real number between two bounds, both included; under `sampling="log"` a step is a factor."""
        name = self._scoped(name)
        log = _is_log(name, sampling)
        low, high = float(min_value), float(max_value)
        parameter: Parameter
        if step is None:
            parameter = Real(low, high, log=log)
        elif log:
            parameter = Ordinal(_powers(name, low, high, step))
        else:
            parameter = Ordinal([float(f"{low + i * step:.15g}") for i in range(int((high - low) / step + 1e-9) + 1)])
        return float(self._ask(name, parameter, low if default is None else default, parent_name, parent_values))

    def Choice(
        self,
        name: str,
        values: Sequence[Scalar],
        ordered: bool | None = None,
        default: Scalar = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """One of `values`; numbers are ordered unless told otherwise."""
        if ordered is None:
            ordered = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        parameter = Ordinal(values) if ordered else Choice(values)
        first = values[0] if default is None and None not in values else default
        return self._ask(self._scoped(name), parameter, first, parent_name, parent_values)

    def Boolean(
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> bool:
        """False or True."""
        return bool(self._ask(self._scoped(name), Choice([False, True]), default, parent_name, parent_values))

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """`value`, which is not searched."""
        self.values[self._scoped(name)] = value
        return value

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Parameters inside are called `name/...`."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextlib.contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """Parameters inside are part of the space, and have their defaults where the parent has another value."""
        before = self._unmet
        self._unmet = [*before, *self._failing(parent_name, parent_values)]
        try:
            yield
        finally:
            self._unmet = before

    def get(self, name: str) -> Any:
        """The value of a parameter that was asked for before."""
        name = self._scoped(name)
        if name not in self.values:
            raise StudyError(f"hp.get({name!r}): asked for so far: {', '.join(self.values) or 'nothing'}")
        return self.values[name]

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._scoped(name) in self.values

    def _scoped(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    def _failing(self, parent_name: str, parent_values: Any) -> list[tuple[str, Any]]:
        """The parent and its value if that is none of `parent_values`, else nothing."""
        if self._scoped(parent_name) not in self.values:
            raise StudyError(f"a parameter depends on {parent_name!r}, which must be asked for before it")
        listed = isinstance(parent_values, Sequence | set) and not isinstance(parent_values, str)
        value = self.get(parent_name)
        return [] if value in (parent_values if listed else [parent_values]) else [(self._scoped(parent_name), value)]

    def _ask(self, name: str, parameter: Parameter, default: Any, parent_name: str | None, parent_values: Any) -> Any:
        known = self.parameters.setdefault(name, parameter)
        if known != parameter:
            raise SpaceError(
                f"build asks for {name!r} as {known} and as {parameter}: in a flat space one name is one parameter; "
                "give the two different names"
            )
        unmet = [*self._unmet, *([] if parent_name is None else self._failing(parent_name, parent_values))]
        if unmet:
            self.unmet.setdefault(name, []).extend(unmet)
        else:
            self.active.add(name)
        self.values[name] = default if unmet else self._given.get(name, default)
        return self.values[name]


class _Asked(HyperParameters):
    """The point of a trial: every parameter that is asked for must be part of its space."""

    def __init__(self, values: Mapping[str, Any], space: Space) -> None:
        super().__init__(values)
        self._space = space

    def _ask(self, name: str, parameter: Parameter, default: Any, parent_name: str | None, parent_values: Any) -> Any:
        if self._space.parameters.get(name) != parameter:
            raise SpaceError(
                f"build asks for {name!r} as {parameter}, which it did not while its parameters were collected "
                f"(found: {', '.join(self._space.names)}); ask for it whatever the other parameters are, and use its "
                "value where it applies"
            )
        return super()._ask(name, parameter, default, parent_name, parent_values)


def _is_log(name: str, sampling: str | None) -> bool:
    if sampling not in (None, "linear", "log"):
        raise SpaceError(
            f"{name!r}: sampling={sampling!r} has no counterpart; search the distance from the upper bound with "
            'sampling="log" instead'
        )
    return sampling == "log"


def _powers(name: str, low: Any, high: Any, factor: float) -> list[Any]:
    if not low > 0 or not factor > 1:
        raise SpaceError(f"{name!r}: sampling='log' needs min_value > 0 and step > 1, got {low!r} and {factor!r}")
    values = [low]
    while values[-1] * factor <= high * (1 + 1e-12):
        values.append(values[-1] * factor)
    return values


def _branches(parameter: Parameter) -> list[Any]:
    """Values on which a function's course may depend: all of a choice, the ends of an integer."""
    match parameter:
        case Integer():
            return [parameter.value(0), parameter.value(parameter.levels - 1)]
        case Choice() | Ordinal():
            return list(parameter.values)
        case _:
            return []


@dataclass(frozen=True)
class _Trace:
    """One call of `build`: the values of the parameters that it asked for, and whether it returned."""

    values: Mapping[str, Any]
    active: frozenset[str]
    complete: bool


class _Explorer:
    """Finds the parameters of a function, and the values of each that make others inactive."""

    def __init__(self, build: Callable[[HyperParameters], Any]) -> None:
        self._build = build
        self._traces: list[_Trace] = []
        self._inactive: dict[str, dict[str, list[Any]]] = {}  # parameter -> other parameter -> its values
        self.parameters: dict[str, Parameter] = {}
        self.defaults: dict[str, Any] = {}

    def explore(self) -> None:
        """Call the function with the defaults, and with each branch of the parameters that it then asks for."""
        waiting: list[tuple[dict[str, Any], str, list[_Trace]]] = []  # values, the last that was set, calls without it
        self._branch(waiting, {})
        while waiting:
            values, name, siblings = waiting.pop(0)
            if len(self._traces) >= MOST_BUILDS:
                raise SpaceError(
                    f"build has more than {MOST_BUILDS} branches to look into; give the space as a hyppo.Space"
                )
            trace = self._branch(waiting, values)
            for sibling in siblings:
                self._compare(name, sibling, trace)
            siblings.append(trace)
            parameter = self.parameters[name]
            few = isinstance(parameter, Integer) and parameter.levels <= FEW_LEVELS
            if few and trace.active != siblings[0].active:
                tried = [s.values[name] for s in siblings] + [v[name] for v, n, _ in waiting if n == name]
                inner = [parameter.value(level) for level in range(parameter.levels)]
                waiting += [({**values, name: value}, name, siblings) for value in inner if value not in tried]

    def _branch(self, waiting: list[tuple[dict[str, Any], str, list[_Trace]]], values: dict[str, Any]) -> _Trace:
        """Call the function, and add the branches of parameters that no earlier call asked for."""
        known = set(self.parameters)
        trace = self._call(values)
        for name in [name for name in self.parameters if name not in known]:
            siblings = [trace]  # of the same values, but for this parameter
            others = [b for b in _branches(self.parameters[name]) if b != trace.values.get(name)]
            waiting += [({**values, name: other}, name, siblings) for other in others]
        return trace

    def _call(self, values: Mapping[str, Any]) -> _Trace:
        hp = HyperParameters(values)
        hp.parameters = self.parameters  # a name stands for one parameter in all branches
        complete = True
        state = random_state()
        try:
            with restored_switches():  # the names of its layers and metrics are those of the first training
                self._build(hp)
        except (SpaceError, StudyError):
            raise
        except Exception:
            if not values:
                raise
            # A combination that cannot be built fails in its trial, with its traceback; its parameters count.
            complete = False
        finally:
            set_random_state(state)  # initial weights of a network that is thrown away change no later number
        for name, value in hp.values.items():
            if name in hp.parameters:
                self.defaults.setdefault(name, value)
        for name, unmet in hp.unmet.items():
            for parent, value in unmet:
                self._note(name, parent, value)
        trace = _Trace(hp.values, frozenset(hp.active), complete)
        self._traces.append(trace)
        return trace

    def _compare(self, name: str, one: _Trace, other: _Trace) -> None:
        """Note the parameters that only one of two calls asked for, which differ in the value of `name`."""
        for with_it, without in ((one, other), (other, one)):
            if without.complete:
                for inactive in with_it.active - without.active:
                    self._note(inactive, name, without.values[name])

    def _note(self, inactive: str, other: str, value: Any) -> None:
        values = self._inactive.setdefault(inactive, {}).setdefault(other, [])
        if value not in values:
            values.append(value)

    def space(self) -> Space:
        """The space. A parameter is inactive for the values with which no call of `build` asked for it."""
        space = Space(self.parameters)
        if self._inactive:
            generator = np.random.default_rng(0)  # every process of a study has the same space
            for unit in space.spread(generator.random((CHECKS, space.dimension))):
                self._call(space.decode(unit))
            space = Space(self.parameters)  # a point may have led to further ones
        conditions = {name: self._condition(space, name) for name in self._inactive}
        conditions = {name: condition for name, condition in conditions.items() if condition}
        return space.inactive_if(
            conditions, {n: self.defaults[n] for n in conditions if _holds(self.parameters[n], self.defaults[n])}
        )

    def _condition(self, space: Space, name: str) -> dict[str, list[Any]]:
        """Values of earlier parameters at which a parameter is inactive in every call."""
        earlier = space.names[: space.names.index(name)]
        asking = [trace for trace in self._traces if name in trace.active]
        condition: dict[str, list[Any]] = {}
        for other, values in self._inactive[name].items():
            if other not in earlier or not all(other in trace.active for trace in asking):
                continue
            asked_at = [trace.values[other] for trace in asking]
            never = [v for v in values if v not in asked_at and _holds(self.parameters[other], v)]
            if never:
                condition[other] = never
        return condition


def _holds(parameter: Parameter, value: Any) -> bool:
    """Whether a value, such as a default, is one of the parameter's."""
    try:
        parameter.index(value)
    except SpaceError:
        return False
    return True


class Build:
    """A `build(hp)` function with its space. Called with a replica, it builds that trial's network.

    A trial or `study.best` will do too: anything with `params`.

    Attributes
    ----------
    space : hyppo.Space
        All parameters that the function may ask for, with those inactive that it does not ask for.
    """

    def __init__(self, build: Callable[[HyperParameters], Any]) -> None:
        self._build = build
        # These networks are thrown away: build them on the CPU, and leave the GPU to trainings. With "cpu:0", torch
        # would move the parameters, and they would no longer be parameters; Keras 3.5 needs the number on JAX.
        with keras.device("cpu:0" if keras.backend.backend() == "jax" else "cpu"):
            explorer = _Explorer(build)
            explorer.explore()
            if not explorer.parameters:
                raise SpaceError("build asks for no parameter: there is nothing to search")
            self.space = explorer.space()

    def __call__(self, replica: Any) -> Any:
        hp = _Asked(replica.params, self.space)
        network = self._build(hp)
        own = {name: value for name, value in replica.params.items() if name in self.space.parameters}
        for name in hp.active.intersection(self.space.inactive(own)):  # the study's space may have further parameters
            notify(
                f"build asks for {name!r} with {dict(replica.params)}, which seemed to make it inactive while the "
                "parameters were collected: it has its default in all such trials; ask for it whatever the other "
                "parameters are, and use its value where it applies",
                stacklevel=2,
            )
        return network


def from_build(build: Any) -> Build:
    """A KerasTuner build function, or a HyperModel with one, for hyppo.

    The function is called several times to find its parameters: with the defaults, then with each value of each choice
    and both ends of each integer, as far as these lead to further parameters. `hp.Fixed` is not part of the space. A
    parameter that the function does not ask for because of the value of another is inactive then: it has its default,
    and no two trials train the same network (`Space.inactive_if`). Random points check this.

    Parameters
    ----------
    build : callable, or an object with such a method `build`
        Takes `hp`, returns a compiled model.

    Raises
    ------
    SpaceError
        Nothing is asked for, or one name stands for two parameters, or `sampling="reverse_log"`.

    Examples
    --------
    ::

        network = hyppo_keras.from_build(build)

        def train(replica):
            hyppo_keras.fit(replica, network(replica), x, y, validation_split=0.2, epochs=20)

        study = hyppo.Study(network.space, train)
        study.run(trials=20)
        model = network(study.best)  # the recommended network, untrained
    """
    method = getattr(build, "build", build)
    if not callable(method):
        raise StudyError(f"build: expected a function of hp, or an object with one called build, got {build!r}")
    fit = getattr(type(build), "fit", None)
    if fit is not None and not fit.__module__.startswith("keras"):  # KerasTuner's own does nothing but model.fit
        notify(
            f"{type(build).__name__}.fit is not called: give hyppo_keras.fit its arguments in the training function, "
            "and add the parameters that it asks hp for to the space: hyppo.Space(network.space, "
            "batch=hyppo.Ordinal([32, 64]))",
            stacklevel=2,
        )
    return Build(method)
