"""Shapes of noise: the spread of a training as a function of the point, and the distribution of its losses.

The shapes for choosing defaults and the reported shapes have none in common. All are in units of the scale on
which good points differ (`Problem.scale`), so that a spread of 0.5 hides half of that difference in one training.
"""

import math

import numpy as np

from benchmarks.optimizers.problems.problem import FloatArray, Noise


def normal(rng: np.random.Generator) -> float:
    return float(rng.standard_normal())


def _gamma(rng: np.random.Generator) -> float:
    """Skewed to bad losses: Gamma of shape 2, standardised."""
    return float(rng.gamma(2.0) - 2.0) / math.sqrt(2.0)


def _student(rng: np.random.Generator) -> float:
    """Student's t of 5 degrees of freedom, of variance 1: outliers on both sides."""
    return float(rng.standard_t(5.0)) / math.sqrt(5.0 / 3.0)


def _diverging(rng: np.random.Generator) -> float:
    """One training in eight ends far worse than the others, which differ little."""
    share = 0.125
    jump = (float(rng.random() < share) - share) / math.sqrt(share * (1.0 - share))
    return math.sqrt(0.8) * jump + math.sqrt(0.2) * float(rng.standard_normal())


def _constant(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.full(len(unit), 0.5)


def _proportional(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.05 + 0.3 * np.minimum(height, 10.0))


def _corner(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.1 + 1.2 * unit[:, : min(2, unit.shape[1])].mean(axis=1) ** 2)


def _skewed(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.2 + 0.15 * np.minimum(height, 10.0))


def _rising(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.1 + 0.3 * np.sqrt(np.minimum(height, 100.0)))


def _ridge(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.1 + 0.8 * np.sin(2.0 * math.pi * unit[:, 0]) ** 2)


def _step(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.15 + 0.7 / (1.0 + np.exp(-12.0 * (unit[:, -1] - 0.6))))


def _centre(unit: FloatArray, height: FloatArray) -> FloatArray:
    return np.asarray(0.1 + 0.8 * (1.0 - np.abs(2.0 * unit - 1.0)).mean(axis=1))


SHAPES: dict[str, dict[str, Noise]] = {
    "choose": {
        "constant": Noise("constant", _constant, normal),
        "proportional": Noise("proportional", _proportional, normal),
        "corner": Noise("corner", _corner, normal),
        "skewed": Noise("skewed", _skewed, _gamma),
    },
    "report": {
        "rising": Noise("rising", _rising, normal),
        "ridge": Noise("ridge", _ridge, normal),
        "diverging": Noise("diverging", _step, _diverging),
        "heavy": Noise("heavy", _centre, _student),
    },
}
