"""Hyperparameter optimisation of deep learning models for science: results that hold when someone trains again.

Everything public is here; each name loads its module when it is first used, so that `import hyppo` is quick and
a process that only trains loads neither numba nor h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Space": "space",
    "Integer": "space",
    "Real": "space",
    "Choice": "space",
    "Ordinal": "space",
    "Replica": "replica",
    "Result": "replica",
    "Study": "study",
    "load": "study",
    "LossStats": "stats",
    "Trial": "trial",
    "State": "trial",
    "HyppoError": "errors",
    "SpaceError": "errors",
    "StudyError": "errors",
    "ObjectiveError": "errors",
    "SurrogateError": "errors",
    "LogError": "errors",
    "LaunchError": "errors",
}

# Spelt out: type checkers do not unpack.
__all__ = [
    "Choice",
    "HyppoError",
    "Integer",
    "LaunchError",
    "LogError",
    "LossStats",
    "ObjectiveError",
    "Ordinal",
    "Real",
    "Replica",
    "Result",
    "Space",
    "SpaceError",
    "State",
    "Study",
    "StudyError",
    "SurrogateError",
    "Trial",
    "__version__",
    "load",
]

if TYPE_CHECKING:
    from hyppo.errors import (
        HyppoError,
        LaunchError,
        LogError,
        ObjectiveError,
        SpaceError,
        StudyError,
        SurrogateError,
    )
    from hyppo.replica import Replica, Result
    from hyppo.space import Choice, Integer, Ordinal, Real, Space
    from hyppo.stats import LossStats
    from hyppo.study import Study, load
    from hyppo.trial import State, Trial


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hyppo' has no attribute {name!r}")
    value = getattr(import_module(f"hyppo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
