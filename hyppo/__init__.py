"""Hyperparameter optimisation of deep learning models for science: results that hold when someone trains again.

Everything public is here; each name loads its module when it is first used, so that `import hyppo` is quick and
a process that only trains loads neither numba nor h5py.
"""

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hyppo._version import __version__

_started_in: str | None = None  # the directory that the script was started in; training processes run it there again
with suppress(OSError):  # it was deleted
    _started_in = os.getcwd()

_MODULES = ("plots", "stopping")  # public modules
_HOME = {
    "Space": "space",
    "Integer": "space",
    "Real": "space",
    "Choice": "space",
    "Ordinal": "space",
    "Replica": "training.replica",
    "Result": "training.replica",
    "Study": "study",
    "load": "study",
    "Calibration": "analysis.calibration",
    "calibration": "analysis.calibration",
    "Comparison": "analysis.comparison",
    "Confirmation": "analysis.confirmation",
    "Front": "analysis.front",
    "FrontTrial": "analysis.front",
    "SpreadBySource": "analysis.sources",
    "spread_by_source": "analysis.sources",
    "Sensitivity": "analysis.sensitivity",
    "sensitivity": "analysis.sensitivity",
    "PartialDependence": "analysis.sensitivity",
    "partial_dependence": "analysis.sensitivity",
    "LossStats": "stats",
    "Trial": "trial",
    "State": "trial",
    "HyppoError": "errors",
    "SpaceError": "errors",
    "SpaceExhausted": "errors",
    "StudyError": "errors",
    "ObjectiveError": "errors",
    "SurrogateError": "errors",
    "LogError": "errors",
    "LaunchError": "errors",
    "HyppoWarning": "errors",
}

# Spelt out: type checkers do not unpack.
__all__ = [
    "Calibration",
    "Choice",
    "Comparison",
    "Confirmation",
    "Front",
    "FrontTrial",
    "HyppoError",
    "HyppoWarning",
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
    "SpaceExhausted",
    "SpreadBySource",
    "State",
    "Study",
    "StudyError",
    "SurrogateError",
    "Trial",
    "__version__",
    "calibration",
    "load",
    "partial_dependence",
    "plots",
    "sensitivity",
    "spread_by_source",
    "stopping",
]

if TYPE_CHECKING:  # `as` makes each name an export for type checkers, which cannot follow `*_HOME`
    from hyppo import plots as plots
    from hyppo import stopping as stopping
    from hyppo.analysis.calibration import Calibration as Calibration
    from hyppo.analysis.calibration import calibration as calibration
    from hyppo.analysis.comparison import Comparison as Comparison
    from hyppo.analysis.confirmation import Confirmation as Confirmation
    from hyppo.analysis.front import Front as Front
    from hyppo.analysis.front import FrontTrial as FrontTrial
    from hyppo.analysis.sensitivity import PartialDependence as PartialDependence
    from hyppo.analysis.sensitivity import Sensitivity as Sensitivity
    from hyppo.analysis.sensitivity import partial_dependence as partial_dependence
    from hyppo.analysis.sensitivity import sensitivity as sensitivity
    from hyppo.analysis.sources import SpreadBySource as SpreadBySource
    from hyppo.analysis.sources import spread_by_source as spread_by_source
    from hyppo.errors import HyppoError as HyppoError
    from hyppo.errors import HyppoWarning as HyppoWarning
    from hyppo.errors import LaunchError as LaunchError
    from hyppo.errors import LogError as LogError
    from hyppo.errors import ObjectiveError as ObjectiveError
    from hyppo.errors import SpaceError as SpaceError
    from hyppo.errors import SpaceExhausted as SpaceExhausted
    from hyppo.errors import StudyError as StudyError
    from hyppo.errors import SurrogateError as SurrogateError
    from hyppo.space import Choice as Choice
    from hyppo.space import Integer as Integer
    from hyppo.space import Ordinal as Ordinal
    from hyppo.space import Real as Real
    from hyppo.space import Space as Space
    from hyppo.stats import LossStats as LossStats
    from hyppo.study import Study as Study
    from hyppo.study import load as load
    from hyppo.training.replica import Replica as Replica
    from hyppo.training.replica import Result as Result
    from hyppo.trial import State as State
    from hyppo.trial import Trial as Trial


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"hyppo.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'hyppo' has no attribute {name!r}")
    if name in ("Space", "Study"):
        # From here on, an error of the script on one MPI rank ends the job; the other ranks would wait for this one.
        from hyppo.launch import guard

        guard()
    value = getattr(import_module(f"hyppo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
