"""SMAC3's facades with their defaults: the random forest for hyperparameters, the Gaussian process for black boxes."""

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import ConfigSpace
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
from smac.runhistory.dataclasses import TrialValue

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Setting, native


def _hyperparameter(name: str, p: Any) -> Any:
    if isinstance(p, hyppo.Real):
        return ConfigSpace.Float(name, (p.low, p.high), log=p.log)
    if isinstance(p, hyppo.Integer) and p.step == 1:
        return ConfigSpace.Integer(name, (p.low, p.high), log=p.log)
    if isinstance(p, hyppo.Choice):
        return ConfigSpace.Categorical(name, list(range(p.levels)))
    return ConfigSpace.Integer(name, (0, p.levels - 1))  # a stepped integer or an ordinal, by position


class SmacPeer:
    """A facade driven by ask and tell; the mean over replicas is told as one deterministic cost."""

    def __init__(self, setting: Setting, facade: Any) -> None:
        self.space = setting.space
        self.replicas = setting.replicas
        self.folder = tempfile.TemporaryDirectory(prefix="smac-")
        space = ConfigSpace.ConfigurationSpace(seed=setting.seed)
        space.add([_hyperparameter(name, p) for name, p in setting.space.parameters.items()])
        scenario = Scenario(
            space, deterministic=True, n_trials=setting.budget, seed=setting.seed, output_directory=self.folder.name
        )
        self.facade = facade(scenario, lambda config, seed: 0.0, overwrite=True, logging_level=logging.ERROR)

    def ask(self) -> Point:
        info = self.facade.ask()
        params = {name: native(p, info.config[name]) for name, p in self.space.parameters.items()}
        return Point(info, params, self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.facade.tell(point.key, TrialValue(cost=sum(losses) / len(losses)))

    def recommend(self) -> None:
        """The incumbent of deterministic trials is the best value told."""
        return None


def forest(setting: Setting) -> SmacPeer:
    return SmacPeer(setting, HyperparameterOptimizationFacade)


def black_box(setting: Setting) -> SmacPeer:
    return SmacPeer(setting, BlackBoxFacade)
