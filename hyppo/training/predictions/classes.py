"""Outputs that are classes: found by their shape beside integer targets, and taken as probabilities.

symbol  shape         meaning
p       (n, ..., C)   probabilities of C classes, on any axis but the first
y       (n, ...)      labels, 0 to C - 1
H(p)    (n, ...)      entropy, -sum_c p_c log p_c, in nats
"""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-3  # of the sum of probabilities: 16-bit networks round
LEAST = 1e-12  # probability, below which a logarithm says more than the network does


def class_axis(output: Any, targets: Any) -> int | None:
    """The axis of the classes of `output`, or None if the targets are no labels of it.

    >>> class_axis(np.zeros((5, 3)), np.array([0, 2, 1, 1, 0])), class_axis(np.zeros((5, 1)), np.zeros((5, 1)))
    (1, None)
    """
    labels, array = np.asarray(targets), np.asarray(output)
    if labels.dtype.kind not in "iub" or array.ndim != labels.ndim + 1 or labels.size == 0:
        return None
    for axis in (array.ndim - 1, 1):  # Keras puts classes last, torch second
        if axis > 0 and array.shape[:axis] + array.shape[axis + 1 :] == labels.shape and array.shape[axis] > 1:
            return axis if labels.min() >= 0 and labels.max() < array.shape[axis] else None
    return None


def is_probability(output: Any, axis: int) -> bool:
    """Whether an output is one of probabilities; if not, it is one of logits."""
    array = np.asarray(output)
    return bool(array.min() >= -TOLERANCE and np.all(np.abs(array.sum(axis) - 1.0) <= TOLERANCE))


def softmax(logits: Any, axis: int) -> FloatArray:
    """Probabilities of logits.

    >>> softmax([[0.0, 0.0]], 1).tolist()
    [[0.5, 0.5]]
    """
    array = np.asarray(logits, dtype=np.float64)
    weights = np.exp(array - array.max(axis, keepdims=True))
    return np.asarray(weights / weights.sum(axis, keepdims=True))


def entropy(probability: Any, axis: int) -> FloatArray:
    """H(p) over `axis`, in nats.

    >>> round(float(entropy([[0.5, 0.5]], 1)[0]), 4)
    0.6931
    """
    p = np.maximum(np.asarray(probability, dtype=np.float64), LEAST)
    return np.asarray(-(p * np.log(p)).sum(axis))


def tempered(probability: Any, temperature: float, axis: int) -> FloatArray:
    """Probabilities at a temperature: proportional to p^(1 / T).

    >>> tempered([[0.8, 0.2]], 1.0, 1).tolist()
    [[0.8, 0.2]]
    """
    return softmax(np.log(np.maximum(np.asarray(probability, dtype=np.float64), LEAST)) / temperature, axis)
