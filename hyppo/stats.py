"""Statistics of a trial's losses over its replicas, and the score that represents them.

symbol  meaning
n       replicas with a finite loss
mean    sum_i l_i / n, or another score
std     sqrt(sum_i (l_i - mean)^2 / (n - 1)); None for n < 2: one replica says nothing of the spread
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hyppo.config import MEAN, MEDIAN, TRIMMED
from hyppo.errors import StudyError
from hyppo.text import error_line

TRIM = 0.2  # share of the losses that a trimmed mean leaves out at each end, and one of three at least
Score = str | Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True)
class LossStats:
    """Count, mean and sample standard deviation of finite losses.

    >>> LossStats.of([1.0, 3.0])
    LossStats(n=2, mean=2.0, std=1.4142135623730951)
    >>> LossStats.of([2.0])
    LossStats(n=1, mean=2.0, std=None)
    """

    n: int
    mean: float
    std: float | None

    @staticmethod
    def of(losses: Iterable[float]) -> "LossStats | None":
        """Statistics of the finite ones among `losses`; None if there are none."""
        finite = [float(loss) for loss in losses if math.isfinite(loss)]
        if not finite:
            return None
        # Dividing first keeps losses near the largest float from overflowing their sum.
        mean = math.fsum(loss / len(finite) for loss in finite)
        if len(finite) == 1:
            return LossStats(1, finite[0], None)
        scale = max(abs(loss - mean) for loss in finite)
        if scale == 0.0 or not math.isfinite(scale):
            return LossStats(len(finite), mean, scale)
        squares = math.fsum(((loss - mean) / scale) ** 2 for loss in finite)
        return LossStats(len(finite), mean, scale * math.sqrt(squares / (len(finite) - 1)))

    @staticmethod
    def pooled(parts: Iterable["LossStats"]) -> "LossStats | None":
        """Exact statistics of all losses together, from the statistics of each set; None without losses.

        >>> LossStats.pooled([LossStats.of([1.0, 3.0]), LossStats.of([5.0])])
        LossStats(n=3, mean=3.0, std=2.0)
        """
        kept = list(parts)
        n = sum(part.n for part in kept)
        if not n:
            return None
        mean = math.fsum(part.n / n * part.mean for part in kept)
        if n == 1:
            return LossStats(1, mean, None)
        within = ((part.n - 1) * (part.std or 0.0) * (part.std or 0.0) for part in kept)
        between = (part.n * (part.mean - mean) * (part.mean - mean) for part in kept)
        return LossStats(n, mean, math.sqrt((sum(within) + sum(between)) / (n - 1)))

    def score(self, risk: float = 0.0) -> float:
        """`mean + risk * std`, which is minimised; an unknown spread counts as zero."""
        return self.mean + risk * (self.std or 0.0)


def summary(losses: Iterable[float], score: Score = MEAN) -> LossStats | None:
    """Count and score of finite losses, and the standard deviation that makes std^2 / n the variance of the score.

    score      std
    mean       the sample standard deviation
    median     sqrt(pi / 2) 1.4826 MAD, MAD the median distance from the median
    trimmed    the winsorised standard deviation by the share of losses that is kept (Tukey & McLaughlin 1963)
    a function sqrt(n) times its standard error by the jackknife

    Raises
    ------
    StudyError
        A function that raises, or returns no finite number.

    Examples
    --------
    >>> losses = [1.0, 1.1, 0.9, 1.0, 9.0]
    >>> [round(summary(losses, score).mean, 3) for score in ("mean", "median", "trimmed", max)]
    [2.6, 1.0, 1.033, 9.0]
    """
    finite = sorted(float(loss) for loss in losses if math.isfinite(loss))
    n = len(finite)
    if score == MEAN or n == 0:
        return LossStats.of(finite)
    if score == MEDIAN:
        middle = statistics.median(finite)
        distance = statistics.median(abs(loss - middle) for loss in finite)
        return LossStats(n, middle, None if n == 1 else math.sqrt(math.pi / 2.0) * 1.4826 * distance)
    if score == TRIMMED:
        cut = max(int(TRIM * n), 1 if n > 2 else 0)
        kept = LossStats.of(finite[cut : n - cut])
        winsorised = LossStats.of([*[finite[cut]] * cut, *finite[cut : n - cut], *[finite[n - cut - 1]] * cut])
        assert kept is not None
        assert winsorised is not None
        std = winsorised.std
        return LossStats(n, kept.mean, None if std is None else std * n / (n - 2 * cut))
    assert callable(score)
    value = _called(score, finite)
    if n == 1:
        return LossStats(1, value, None)
    without = [_called(score, finite[:i] + finite[i + 1 :]) for i in range(n)]
    middle = math.fsum(without) / n
    return LossStats(n, value, math.sqrt((n - 1) * math.fsum((one - middle) ** 2 for one in without)))


def _called(score: Callable[[Sequence[float]], float], losses: Sequence[float]) -> float:
    try:
        value = float(score(list(losses)))
    except Exception as error:  # whatever a user's function raises
        raise StudyError(f"score({list(losses)}) raised {error_line(error)}") from error
    if not math.isfinite(value):
        raise StudyError(f"score({list(losses)}) is {value}, which is no finite number")
    return value
