"""SMAC3's facades with their defaults: the random forest for hyperparameters, the Gaussian process for black boxes.

With seeds, its intensifier chooses the trainings of a point: one of a new point, more of those that challenge the
incumbent.
"""

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import ConfigSpace
from smac import AlgorithmConfigurationFacade, BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
from smac.runhistory.dataclasses import TrialValue

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting, native


def _hyperparameter(name: str, p: Any) -> Any:
    if isinstance(p, hyppo.Real):
        return ConfigSpace.Float(name, (p.low, p.high), log=p.log)
    if isinstance(p, hyppo.Integer) and p.step == 1:
        return ConfigSpace.Integer(name, (p.low, p.high), log=p.log)
    if isinstance(p, hyppo.Choice):
        return ConfigSpace.Categorical(name, list(range(p.levels)))
    return ConfigSpace.Integer(name, (0, p.levels - 1))  # a stepped integer or an ordinal, by position


class SmacPeer:
    """A facade driven by ask and tell.

    The mean over replicas is told as one deterministic cost; with `seeds=True` every training is told by itself.
    """

    def __init__(self, setting: Setting, facade: Any, *, seeds: bool = False) -> None:
        self.space = setting.space
        self.seeds = seeds
        self.replicas = 1 if seeds else setting.replicas
        self.folder = tempfile.TemporaryDirectory(prefix="smac-")
        space = ConfigSpace.ConfigurationSpace(seed=setting.seed)
        space.add([_hyperparameter(name, p) for name, p in setting.space.parameters.items()])
        scenario = Scenario(
            space,
            deterministic=not seeds,
            n_trials=setting.budget * (setting.replicas if seeds else 1),
            seed=setting.seed,
            output_directory=self.folder.name,
        )
        self.facade = facade(scenario, lambda config, seed: 0.0, overwrite=True, logging_level=logging.ERROR)

    def ask(self) -> Point:
        info = self.facade.ask()
        return Point(info, self._params(info.config), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.facade.tell(point.key, TrialValue(cost=sum(losses) / len(losses)))

    def recommend(self) -> Recommended | None:
        """The intensifier's incumbent; of deterministic trials that is the best value told."""
        if not self.seeds:
            return None
        incumbents = self.facade.intensifier.get_incumbents()
        return Recommended(self._params(incumbents[0])) if incumbents else None

    def _params(self, config: Any) -> dict[str, Any]:
        return {name: native(p, config[name]) for name, p in self.space.parameters.items()}


def forest(setting: Setting) -> SmacPeer:
    return SmacPeer(setting, HyperparameterOptimizationFacade)


def over_seeds(setting: Setting) -> SmacPeer:
    return SmacPeer(setting, HyperparameterOptimizationFacade, seeds=True)


def racing(setting: Setting) -> SmacPeer:
    """For algorithm configuration: an incumbent may be trained as often as the budget allows."""
    return SmacPeer(setting, AlgorithmConfigurationFacade, seeds=True)


def black_box(setting: Setting) -> SmacPeer:
    return SmacPeer(setting, BlackBoxFacade)
