"""Ax's `Client` with its defaults; told mean and standard error if there are replicas."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels

import hyppo
from benchmarks.optimizers.peers.protocol import Point, Recommended, Setting, native


def _parameter(name: str, p: Any) -> Any:
    if isinstance(p, hyppo.Real):
        scaling = "log" if p.log else "linear"
        return RangeParameterConfig(name=name, parameter_type="float", bounds=(p.low, p.high), scaling=scaling)
    if isinstance(p, hyppo.Integer) and p.step == 1:
        scaling = "log" if p.log else "linear"
        return RangeParameterConfig(name=name, parameter_type="int", bounds=(p.low, p.high), scaling=scaling)
    return ChoiceParameterConfig(  # by position, so that any list of values will do
        name=name, parameter_type="int", values=list(range(p.levels)), is_ordered=not isinstance(p, hyppo.Choice)
    )


class AxPeer:
    def __init__(self, setting: Setting) -> None:
        set_ax_logger_levels(logging.ERROR)
        self.space = setting.space
        self.replicas = setting.replicas
        self.client = Client()
        self.client.configure_experiment([_parameter(name, p) for name, p in setting.space.parameters.items()])
        self.client.configure_optimization(objective="-loss")
        self.client.configure_generation_strategy(initialization_random_seed=setting.seed)

    def ask(self) -> Point:
        ((number, values),) = self.client.get_next_trials(max_trials=1).items()
        return Point(number, self._params(values), self.replicas)

    def tell(self, point: Point, losses: Sequence[float]) -> None:
        mean = float(np.mean(losses))
        told = (mean, float(np.std(losses, ddof=1)) / len(losses) ** 0.5) if len(losses) > 1 else mean
        self.client.complete_trial(point.key, raw_data={"loss": told})

    def recommend(self) -> Recommended:
        values, *_ = self.client.get_best_parameterization()
        return Recommended(self._params(values))

    def _params(self, values: Any) -> dict[str, Any]:
        return {name: native(p, values[name]) for name, p in self.space.parameters.items()}
