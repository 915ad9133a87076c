"""Transport of an objective to another process: by name if it has one, otherwise by value."""

import importlib
import itertools
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import hyppo
from hyppo.launch.wire import ByName, ByValue, Reference, Script
from hyppo.text import error_line
from hyppo.training.call import name_of
from hyppo.training.replica import Failure

# The script runs in a training process under this name, so that `if __name__ == "__main__":` stays shut there. It is
# the name that multiprocessing gives to the script in the processes that it spawns: so a pool or a data loader that a
# training spawns finds the script's functions, and pickles that a training writes load again where it was asked.
MAIN = "__mp_main__"


def script() -> Script | None:
    """The script that runs as `__main__`, or None in a notebook, at a prompt, or under `python -c`.

    A zip archive or a directory that runs as `__main__` counts as none.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path) or (not path.endswith((".py", ".pyw")) and spec is not None):
        return None
    return Script(os.path.abspath(path), None if spec is None else spec.name, hyppo._started_in)


def _walk(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def by_name(objective: Callable[..., Any]) -> ByName | None:
    """Module and qualified name under which another process finds the same function, or None.

    >>> by_name(os.path.join).qualname, by_name(lambda replica: 0.0)
    ('join', None)
    """
    module = getattr(objective, "__module__", None)
    qualname = getattr(objective, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or "<" in qualname:
        return None
    try:
        if _walk(sys.modules[module], qualname) is not objective:
            return None
    except (KeyError, AttributeError):
        return None
    if module == MAIN:
        module = "__main__"
    if module == "__main__" and script() is None:
        return None
    return ByName(module, qualname)


def by_value(objective: Callable[..., Any]) -> ByValue:
    """The function itself, as a cloudpickle.

    Raises
    ------
    pickle.PicklingError, TypeError, ...
        An object that the function holds cannot be pickled; the error is that object's.
    """
    import cloudpickle  # only if needed: a function with a name travels without

    return ByValue(cloudpickle.dumps(objective))


def find(reference: Reference) -> Callable[..., Any]:
    """The objective that `reference` stands for, in this process.

    Raises
    ------
    ImportError, AttributeError
        There is none of that name.
    """
    if isinstance(reference, ByValue):
        found = pickle.loads(reference.pickle)
    else:
        module = sys.modules.get(reference.module) or importlib.import_module(reference.module)
        found = _walk(module, reference.qualname)
    if not callable(found):
        raise AttributeError(f"{reference} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


_keys = itertools.count()


class ObjectiveTransport:
    """The way an objective travels: by name while every process finds it so, else by value, else not at all.

    Attributes
    ----------
    reference : ByName, ByValue or None
        None if no way is left.
    key : int
        Names `reference` in this process and all that it ships to; a change of way is a change of key.

    Examples
    --------
    >>> ObjectiveTransport(os.path.join).reference
    ByName(module='posixpath', qualname='join')
    """

    def __init__(self, objective: Callable[..., Any]) -> None:
        sys.modules.setdefault(MAIN, sys.modules["__main__"])  # so that this process can load a training's pickles
        self.reference: Reference | None = by_name(objective)
        self.key = next(_keys)
        self._objective = objective
        self._reasons: list[str] = []
        if self.reference is None:
            self._pack()

    def _pack(self) -> None:
        try:
            self.reference = by_value(self._objective)
        except Exception as error:  # whatever an object's own pickling raises
            self._reasons.append(f"by value: {error_line(error)}")
            self.reference = None

    def fall_back(self, key: int, failure: Failure) -> None:
        """A process could not load the objective of `key`: take the next way, unless that was done already."""
        if key != self.key:
            return
        self.key = next(_keys)
        if isinstance(self.reference, ByName):
            self._reasons.append(f"by name: {failure}")
            self._pack()
        else:
            self._reasons.append(f"by value: {failure}")
            self.reference = None

    @property
    def why_not(self) -> str:
        """The error if no way is left, with the remedy."""
        return (
            f"{name_of(self._objective)} cannot be loaded in a training process ({'; '.join(self._reasons)}): "
            "define it at the top level of the script or of a module, and create unpicklable objects inside it"
        )
