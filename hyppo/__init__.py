"""Hyperparameter optimisation of deep learning models for science: results that hold when someone trains again.

Everything public is here; each name loads its module when it is first used, so that `import hyppo` is quick and
a process that only trains loads neither numba nor h5py.
"""

import os
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
    "Calibration": "coverage",
    "calibration": "coverage",
    "Study": "study",
    "load": "study",
    "Sensitivity": "effects",
    "sensitivity": "effects",
    "PartialDependence": "effects",
    "partial_dependence": "effects",
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
    "Calibration",
    "Choice",
    "HyppoError",
    "Integer",
    "LaunchError",
    "LogError",
    "LossStats",
    "ObjectiveError",
    "Ordinal",
    "PartialDependence",
    "Real",
    "Replica",
    "Result",
    "Sensitivity",
    "Space",
    "SpaceError",
    "State",
    "Study",
    "StudyError",
    "SurrogateError",
    "Trial",
    "__version__",
    "calibration",
    "load",
    "partial_dependence",
    "sensitivity",
]

if TYPE_CHECKING:  # `as` makes each name an export for type checkers, which cannot follow `*_HOME`
    from hyppo.coverage import Calibration as Calibration
    from hyppo.coverage import calibration as calibration
    from hyppo.effects import PartialDependence as PartialDependence
    from hyppo.effects import Sensitivity as Sensitivity
    from hyppo.effects import partial_dependence as partial_dependence
    from hyppo.effects import sensitivity as sensitivity
    from hyppo.errors import HyppoError as HyppoError
    from hyppo.errors import LaunchError as LaunchError
    from hyppo.errors import LogError as LogError
    from hyppo.errors import ObjectiveError as ObjectiveError
    from hyppo.errors import SpaceError as SpaceError
    from hyppo.errors import StudyError as StudyError
    from hyppo.errors import SurrogateError as SurrogateError
    from hyppo.replica import Replica as Replica
    from hyppo.replica import Result as Result
    from hyppo.space import Choice as Choice
    from hyppo.space import Integer as Integer
    from hyppo.space import Ordinal as Ordinal
    from hyppo.space import Real as Real
    from hyppo.space import Space as Space
    from hyppo.stats import LossStats as LossStats
    from hyppo.study import Study as Study
    from hyppo.study import load as load
    from hyppo.trial import State as State
    from hyppo.trial import Trial as Trial


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hyppo' has no attribute {name!r}")
    value = getattr(import_module(f"hyppo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if any(name.endswith(("_RANK", "_PROCID")) for name in os.environ):
    # Started by an MPI launcher, perhaps: from here on, an error of the script on one rank ends the job, instead of
    # leaving the other ranks waiting for it.
    from hyppo.launch.world import guard

    guard()
