"""All optimisers by name. An adapter imports its library when it is created, so missing libraries do no harm."""

import importlib
import importlib.util
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from benchmarks.optimizers.peers.protocol import Peer, Point, Recommended, Setting

__all__ = ["OPTIMIZERS", "Optimizer", "Peer", "Point", "Recommended", "Setting", "create"]


@dataclass(frozen=True)
class Optimizer:
    """The location of an adapter, and its requirements.

    Attributes
    ----------
    module, maker : str
        Module below `benchmarks.optimizers.peers`, and the class or function in it that takes a `Setting`.
    distribution : str
        Distribution whose version is recorded.
    imports : tuple of str
        Modules that must be installed.
    slow : bool
        Fits a model at every ask, which takes a second or more.
    replicates : bool
        Chooses the trainings of a point itself.
    interpreter : str, optional
        Environment variable with the path of another Python, for a library that cannot run in this one.
    """

    module: str
    maker: str
    distribution: str
    imports: tuple[str, ...] = ()
    slow: bool = False
    replicates: bool = False
    interpreter: str | None = None

    def absent(self) -> str | None:
        """The first module or interpreter that is missing; None if the optimiser can run."""
        if self.interpreter is not None and self.interpreter not in os.environ:
            return f"${self.interpreter}"
        return next((name for name in self.imports if importlib.util.find_spec(name) is None), None)

    def version(self) -> str:
        if self.interpreter is not None:
            return "1.4.0"  # the only version that its driver is written for
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return "unknown"


OPTIMIZERS: dict[str, Optimizer] = {
    "hyppo": Optimizer("study", "default", "hyppo-uq"),
    "hyppo-gp": Optimizer("study", "gp", "hyppo-uq"),
    "hyppo-rbf": Optimizer("study", "rbf", "hyppo-uq"),
    "hyppo-adaptive": Optimizer("study", "adaptive", "hyppo-uq"),
    "hyppo-means": Optimizer("study", "means", "hyppo-uq"),
    "random": Optimizer("sampling", "random", "numpy"),
    "sobol": Optimizer("sampling", "sobol", "scipy"),
    "optuna-tpe": Optimizer("optuna_samplers", "tpe", "optuna", ("optuna",)),
    "optuna-gp": Optimizer("optuna_samplers", "gp", "optuna", ("optuna", "torch"), slow=True),
    "optuna-cma": Optimizer("optuna_samplers", "cma", "optuna", ("optuna", "cmaes")),
    "pysot-srbf": Optimizer("pysot_strategies", "srbf", "pySOT", ("pySOT", "six")),
    "pysot-dycors": Optimizer("pysot_strategies", "dycors", "pySOT", ("pySOT", "six")),
    "nevergrad": Optimizer("nevergrad_ngopt", "NevergradPeer", "nevergrad", ("nevergrad",)),
    "skopt": Optimizer("skopt_optimizer", "SkoptPeer", "scikit-optimize", ("skopt",), slow=True),
    "smac": Optimizer("smac_facades", "forest", "smac", ("smac",), slow=True),
    "smac-gp": Optimizer("smac_facades", "black_box", "smac", ("smac",), slow=True),
    "smac-seeds": Optimizer("smac_facades", "over_seeds", "smac", ("smac",), slow=True, replicates=True),
    "smac-racing": Optimizer("smac_facades", "racing", "smac", ("smac",), slow=True, replicates=True),
    "hetgpy": Optimizer("hetgpy_sequential", "HetgpyPeer", "hetgpy", ("hetgpy",), slow=True, replicates=True),
    "botorch": Optimizer("botorch_qlognei", "BotorchPeer", "botorch", ("botorch",), slow=True),
    "hebo": Optimizer("hebo_optimizer", "HeboPeer", "hebo", ("hebo", "pymoo"), slow=True),
    "hpo-uq-rbf": Optimizer("hpo_uq", "rbf", "hpo-uq", interpreter="HPO_UQ_PYTHON"),
    "hpo-uq-gp": Optimizer("hpo_uq", "gp", "hpo-uq", slow=True, interpreter="HPO_UQ_PYTHON"),
    "ax": Optimizer("ax_client", "AxPeer", "ax-platform", ("ax",), slow=True),
}


def create(name: str, setting: Setting) -> Peer:
    """A fresh run of an optimiser.

    Raises
    ------
    ValueError
        No optimiser of that name.
    ModuleNotFoundError
        A required module or interpreter is missing.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {list(OPTIMIZERS)}, got {name!r}")
    optimizer = OPTIMIZERS[name]
    absent = optimizer.absent()
    if absent is not None:
        raise ModuleNotFoundError(f"{name} needs {absent}, which is not installed: pip install 'hyppo-uq[peers]'")
    module = importlib.import_module(f"{__name__}.{optimizer.module}")
    return cast(Peer, getattr(module, optimizer.maker)(setting))
