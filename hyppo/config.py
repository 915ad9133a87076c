"""The settings of a study that are words and ranges: what each may be, and what it is where the user does not say."""

import math
from collections.abc import Sequence

import numpy as np

from hyppo.errors import StudyError

SURROGATES = ("auto", "gp", "rbf", "random")
MEAN_LOSS, ENSEMBLE_LOSS = TARGETS = ("mean_loss", "ensemble_loss")
DEFAULT_REPLICAS = 3  # trainings of a point where the user does not say: the fewest that tell a spread from an outlier


def seed_of(seed: int) -> int:
    """The root seed.

    Raises
    ------
    StudyError
        Not an integer, or negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise StudyError(f"seed: expected an integer of at least 0, got {seed!r}")
    return int(seed)


def risk_of(risk: float) -> float:
    """The weight of the spread in the score.

    Raises
    ------
    StudyError
        Not a number, not finite, or negative.
    """
    if not isinstance(risk, int | float) or not 0.0 <= risk < math.inf:
        raise StudyError(f"risk: expected a number of at least 0, got {risk!r}")
    return float(risk)


def one_of(words: Sequence[str], setting: str, given: str) -> str:
    """The word given for a setting.

    Raises
    ------
    StudyError
        Not one of `words`.

    Examples
    --------
    >>> one_of(SURROGATES, "surrogate", "gp")
    'gp'
    """
    if given not in words:
        raise StudyError(f"{setting}: expected one of {list(words)}, got {given!r}")
    return given


def replicas_of(replicas: int | tuple[int, int] | None) -> tuple[int, int]:
    """The fewest and the most trainings of a point.

    Raises
    ------
    StudyError
        Neither a number of at least 1 nor a pair of them in order.

    Examples
    --------
    >>> replicas_of(None), replicas_of(5), replicas_of((2, 8))
    ((3, 3), (5, 5), (2, 8))
    """
    if replicas is None:
        return DEFAULT_REPLICAS, DEFAULT_REPLICAS
    pair = replicas if isinstance(replicas, Sequence) else (replicas, replicas)
    whole = len(pair) == 2 and all(isinstance(r, int | np.integer) and not isinstance(r, bool) for r in pair)
    if not whole or not 1 <= pair[0] <= pair[1]:
        raise StudyError(f"replicas: expected a number of at least 1, or (fewest, most), got {replicas!r}")
    return int(pair[0]), int(pair[1])
