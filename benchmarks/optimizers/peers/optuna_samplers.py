"""Optuna's samplers with their defaults. An ordinal goes as an integer position, a choice as a categorical."""

from collections.abc import Sequence
from typing import Any

import optuna

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Setting


class OptunaPeer:
    """An in-memory study, driven by ask and tell."""

    def __init__(self, setting: Setting, sampler: optuna.samplers.BaseSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = setting.space
        self.replicas = setting.replicas
        self.study = optuna.create_study(sampler=sampler)

    def ask(self) -> Point:
        trial = self.study.ask()
        params: dict[str, Any] = {}
        for name, p in self.space.parameters.items():
            if isinstance(p, hyppo.Real):
                params[name] = trial.suggest_float(name, p.low, p.high, log=p.log)
            elif isinstance(p, hyppo.Integer):
                last = p.low + (p.levels - 1) * p.step
                params[name] = trial.suggest_int(name, p.low, last, step=p.step, log=p.log)
            elif isinstance(p, hyppo.Choice):
                params[name] = trial.suggest_categorical(name, p.values)
            else:
                params[name] = p.values[trial.suggest_int(name, 0, p.levels - 1)]
        return Point(trial, params, self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        self.study.tell(point.key, sum(losses) / len(losses))

    def recommend(self) -> None:
        """`study.best_trial` is the best value told."""
        return None


def tpe(setting: Setting) -> OptunaPeer:
    return OptunaPeer(setting, optuna.samplers.TPESampler(seed=setting.seed))


def gp(setting: Setting) -> OptunaPeer:
    return OptunaPeer(setting, optuna.samplers.GPSampler(seed=setting.seed))


def cma(setting: Setting) -> OptunaPeer:
    return OptunaPeer(setting, optuna.samplers.CmaEsSampler(seed=setting.seed))
