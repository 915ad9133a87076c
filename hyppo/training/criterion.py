"""The criterion: a loss of whole predictions, so of the replicas' mean prediction too.

symbol  meaning
l       criterion(mu, y): loss of the mean prediction
l_s     single losses: criterion(f_j, y) of every trained network, criterion(f_jn, y) of every dropout pass
u       sample standard deviation of the single losses, T (N + 1) of them; the interval is [l - 2u, l + 2u]

mu, f_j, f_jn, T and N are those of `hyppo.training.predictions`. A criterion is any callable of (prediction, targets),
numpy arrays over all validation examples, that returns a number; it need not be a mean over examples.
"""

import pickle
from collections.abc import Callable
from typing import Any

from hyppo.errors import ObjectiveError, StudyError
from hyppo.text import error_line

Criterion = Callable[[Any, Any], Any]

_with_default: set[str] = set()


def register_default(integration: str) -> None:
    """Declare that `integration` has a default criterion, such as the compiled loss.

    A training then sets `replica.criterion` if the study has none.
    """
    _with_default.add(integration)


def has_default() -> bool:
    """Whether an integration with a default criterion is imported."""
    return bool(_with_default)


def pack(criterion: Criterion) -> bytes:
    """The criterion as bytes, to be sent to a training process.

    Raises
    ------
    StudyError
        It holds something that cannot be pickled.

    Examples
    --------
    >>> unpack(pack(lambda prediction, targets: prediction - targets))(3.0, 1.0)
    2.0
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(criterion))
    except Exception as error:  # whatever an object's own pickling raises
        raise StudyError(
            f"criterion: {criterion!r} cannot be sent to a training process ({error_line(error)}); "
            "define it as a function at the top level, and load objects that cannot be pickled inside it"
        ) from error


def unpack(packed: bytes) -> Criterion:
    """The criterion again.

    Raises
    ------
    ObjectiveError
        This process lacks something that it needs.
    """
    try:
        return pickle.loads(packed)  # type: ignore[no-any-return]
    except Exception as error:
        raise ObjectiveError(f"criterion= cannot be loaded in this process: {error_line(error)}") from error


def aligned(targets: Any, prediction: Any) -> Any:
    """Targets in the shape of the prediction, if the two shapes differ in axes of length one only."""
    ours, theirs = getattr(targets, "shape", None), getattr(prediction, "shape", None)
    if ours is None or theirs is None or ours == theirs:
        return targets
    same = [n for n in ours if n != 1] == [n for n in theirs if n != 1]
    return targets.reshape(theirs) if same else targets


def loss_of(criterion: Criterion, prediction: Any, targets: Any) -> float:
    """criterion(prediction, targets) as a float; targets get the shape of the prediction if only axes of one differ.

    Predictions (n, 1) beside targets (n,) would broadcast to (n, n) in a difference of the two.

    Raises
    ------
    ObjectiveError
        It raises, or returns no number.

    Examples
    --------
    >>> import numpy as np
    >>> loss_of(lambda f, y: np.mean((f - y) ** 2), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    2.0
    >>> loss_of(lambda f, y: np.mean((f - y) ** 2), np.array([[1.0], [3.0]]), np.array([1.0, 1.0]))
    2.0
    """
    targets = aligned(targets, prediction)
    try:
        return float(criterion(prediction, targets))
    except Exception as error:
        shapes = [getattr(array, "shape", type(array).__name__) for array in (prediction, targets)]
        raise ObjectiveError(
            f"criterion(prediction, targets) with shapes {shapes[0]} and {shapes[1]} raised {error_line(error)}; "
            "it gets numpy arrays over all validation examples and returns one number"
        ) from error
