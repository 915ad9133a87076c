"""Calibrated predictions: intervals that cover as they say, and probabilities that come true as often as they say.

symbol  meaning
mu, sd  mean and standard deviation of an output over the networks of an ensemble
s       scale of an output, sqrt(w sd^2 / mean(sd^2) + 1 - w): w = 0 is the same for all outputs
r       score |y - mu| / s on the calibration data, n of them
q_p     the ceil((n + 1) p)-th smallest score; the interval of level p is mu ± q_p s
T       temperature: probabilities become proportional to p^(1 / T)

w is the element of WEIGHTS that gives the narrowest intervals, so they are hardly ever wider than plain split conformal
ones. A calibrated standard deviation is s times the root mean square of r. T is the maximum likelihood estimate on the
calibration data. These data must be new to the networks: they neither trained them nor chose their configuration.

References
----------
Lei, J., et al. (2018). Distribution-free predictive inference for regression. JASA 113 (split conformal).
Guo, C., et al. (2017). On calibration of modern neural networks. ICML (temperature).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hyppo.errors import StudyError
from hyppo.training.predictions import Predictions, flatten, unflatten
from hyppo.training.predictions.classes import LEAST, class_axis, is_probability, softmax, tempered

FloatArray = npt.NDArray[np.float64]
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
CHOSEN_AT = 0.9  # level at which widths are compared
FEWEST = 10  # scores; fewer say nothing of an interval
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Scale:
    """Calibration of a real output.

    Attributes
    ----------
    weight : float
        w, the part of the networks' own spread in the scale.
    mean_square : float
        mean(sd^2) on the calibration data.
    scores : array (n,)
        r, ascending.
    """

    weight: float
    mean_square: float
    scores: FloatArray

    @staticmethod
    def of(mean: FloatArray, std: FloatArray, targets: FloatArray) -> "Scale":
        """Fit to calibration data, shapes alike.

        >>> rng = np.random.default_rng(0)
        >>> Scale.of(np.zeros(99), np.ones(99), rng.normal(size=99)).quantile(0.9) > 1.2
        True
        """
        square, error = np.square(std), np.abs(targets - mean)
        mean_square = float(square.mean())
        best: tuple[float, Scale] | None = None
        for weight in WEIGHTS if mean_square > 0.0 else (0.0,):
            found = Scale(weight, mean_square, np.empty(0))
            scale = found.scale(std)
            if not np.all(scale > 0.0):
                continue
            found = Scale(weight, mean_square, np.sort((error / scale).ravel()))
            level = min(CHOSEN_AT, found.scores.size / (found.scores.size + 1.0))
            width = found.quantile(level) * float(scale.mean())
            if best is None or width < best[0]:
                best = width, found
        assert best is not None  # w = 0 is always possible
        return best[1]

    def scale(self, std: Any) -> FloatArray:
        """s of each output."""
        relative = np.square(std) / self.mean_square if self.mean_square > 0.0 else np.zeros(np.shape(std))
        return np.asarray(np.sqrt(self.weight * relative + 1.0 - self.weight), dtype=np.float64)

    @property
    def factor(self) -> float:
        """Root mean square of r: the standard deviation of an output is s times this."""
        return float(np.sqrt(np.mean(np.square(self.scores))))

    def quantile(self, level: float) -> float:
        """q_p.

        Raises
        ------
        StudyError
            Too few scores for this level.
        """
        n = self.scores.size
        rank = math.ceil((n + 1) * level - 1e-9)
        if rank > n:
            raise StudyError(
                f"an interval of {level:.4g} needs at least {math.ceil(level / (1.0 - level))} targets to calibrate "
                f"with, and there were {n}"
            )
        return float(self.scores[max(rank, 1) - 1])


@dataclass(frozen=True)
class Temperature:
    """Calibration of an output of classes: its temperature, its axis, and whether the networks give logits."""

    value: float
    axis: int
    logits: bool


@dataclass(frozen=True)
class Calibrator:
    """Calibration of each output of an ensemble, by its path."""

    outputs: Mapping[str, Scale | Temperature]

    @staticmethod
    def of(predictions: Predictions, logits: "Calibrator | None" = None) -> "Calibrator":
        """Fit to predictions of calibration data; `logits` has turned the networks' logits into probabilities.

        Raises
        ------
        StudyError
            No targets, too few, or targets whose shapes are not those of the predictions.
        """
        if predictions.targets is None:
            raise StudyError("calibration needs targets: give batches of (inputs, targets), such as [(x, y)]")
        means, stds, targets = (flatten(tree) for tree in (predictions.mean, predictions.std, predictions.targets))
        if means.keys() != targets.keys():
            raise StudyError(f"the outputs are {sorted(means)}, the targets {sorted(targets)}: they must be alike")
        fitted: dict[str, Scale | Temperature] = {}
        for path, mean in means.items():
            y = targets[path]
            axis = class_axis(mean, y)
            if axis is not None:
                turned = logits is not None and path in logits.outputs
                fitted[path] = Temperature(_temperature(mean, y, axis), axis, turned)
                continue
            if y.size != mean.size or len(y) != len(mean) or "c" in (mean.dtype.kind, y.dtype.kind):
                raise StudyError(
                    f"the targets have the shape {y.shape}, the predictions {mean.shape}: calibration needs a real "
                    "target for each output, or labels of classes"
                )
            y = y.reshape(mean.shape).astype(np.float64)
            known = ~np.isnan(y)  # the others are missing values
            if known.sum() < FEWEST:
                raise StudyError(f"calibration needs at least {FEWEST} targets, got {known.sum()}")
            fitted[path] = Scale.of(mean[known], stds[path][known], y[known])
        return Calibrator(fitted)

    @staticmethod
    def logits_of(predictions: Predictions) -> "Calibrator | None":
        """A calibrator that only turns logits of classes into probabilities; None if there are none."""
        if predictions.targets is None:
            return None
        targets = flatten(predictions.targets)
        found: dict[str, Scale | Temperature] = {}
        for path, mean in flatten(predictions.mean).items():
            axis = class_axis(mean, targets[path]) if path in targets else None
            if axis is not None and not is_probability(mean, axis):
                found[path] = Temperature(1.0, axis, logits=True)
        return Calibrator(found) if found else None

    def probabilities(self, output: Any) -> Any:
        """A network's output with the logits of classes turned into probabilities."""
        leaves = {}
        for path, leaf in flatten(output).items():
            fitted = self.outputs.get(path)
            if isinstance(fitted, Temperature) and fitted.logits:
                leaf = softmax(leaf, fitted.axis)
            leaves[path] = leaf
        return unflatten(leaves)

    def apply(self, predictions: Predictions) -> Predictions:
        """Calibrated predictions of an ensemble's raw ones.

        Raises
        ------
        StudyError
            The outputs are not those of the calibration data.
        """
        means, stds = flatten(predictions.mean), flatten(predictions.std)
        if not means.keys() <= self.outputs.keys():
            raise StudyError(f"the outputs are {sorted(means)}, calibrated were {sorted(self.outputs)}")
        for path, fitted in self.outputs.items():
            if path not in means:
                continue
            if isinstance(fitted, Scale):
                stds[path] = fitted.scale(stds[path]) * fitted.factor
            else:
                means[path] = tempered(means[path], fitted.value, fitted.axis)
        return replace(predictions, mean=unflatten(means), std=unflatten(stds), calibrator=self)

    def half_width(self, path: str, std: Any, level: float) -> FloatArray:
        """Half the width of the intervals of one real output, from its calibrated standard deviation.

        Raises
        ------
        StudyError
            An output of classes, or too few calibration data for this level.
        """
        fitted = self.outputs[path]
        if isinstance(fitted, Temperature):
            raise StudyError("intervals are for real outputs; for classes use the probabilities in .mean")
        factor = fitted.factor
        return np.asarray(std * (fitted.quantile(level) / factor if factor > 0.0 else 0.0))


def _temperature(probability: FloatArray, targets: Any, axis: int) -> float:
    """T of the greatest likelihood."""
    from scipy.optimize import minimize_scalar

    labels = np.expand_dims(np.asarray(targets, dtype=np.int64), axis)

    def loss(log_temperature: float) -> float:
        p = tempered(probability, math.exp(log_temperature), axis)
        return float(-np.log(np.maximum(np.take_along_axis(p, labels, axis), LEAST)).mean())

    low, high = (math.log(t) for t in TEMPERATURES)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x)
