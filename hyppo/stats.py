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
MIDDLE = 4  # losses up to which a trimmed mean is their median
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
        if len(finite) == 1:
            return LossStats(1, finite[0], None)
        if min(finite) == max(finite):  # their mean below may be another number, by rounding
            return LossStats(len(finite), finite[0], 0.0)
        # Dividing first keeps losses near the largest float from overflowing their sum.
        mean = math.fsum(loss / len(finite) for loss in finite)
        scale = max(abs(loss - mean) for loss in finite)
        if not math.isfinite(scale):
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
    median     sqrt(pi / 2) 1.4826 MAD, MAD the median distance from the median; see `_around_median`
    trimmed    sqrt(n W / (h (h - 1))), h the number of losses that are kept and W the winsorised sum of squares
               (Tukey & McLaughlin 1963, Yuen 1974); of three or four losses, whose median is left, the median's
    a function sqrt(n) times its standard error by the jackknife

    `freedom` gives the degrees of freedom behind std.

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
    if score == MEAN or (n <= 2 and score in (MEDIAN, TRIMMED)):
        return LossStats.of(finite)
    if score == MEDIAN or (score == TRIMMED and n <= MIDDLE):
        return LossStats(n, statistics.median(finite), _around_median(finite))
    if score == TRIMMED:
        cut = _cut(n)
        kept = LossStats.of(finite[cut : n - cut])
        winsorised = LossStats.of([*[finite[cut]] * cut, *finite[cut : n - cut], *[finite[n - cut - 1]] * cut])
        assert kept is not None
        assert winsorised is not None
        assert winsorised.std is not None
        return LossStats(n, kept.mean, winsorised.std * math.sqrt(n * (n - 1) / (kept.n * (kept.n - 1))))
    assert callable(score)
    value = _called(score, finite)
    if n == 1:
        return LossStats(1, value, None)
    without = [_called(score, finite[:i] + finite[i + 1 :]) for i in range(n)]
    middle = math.fsum(without) / n
    return LossStats(n, value, math.sqrt((n - 1) * math.fsum((one - middle) ** 2 for one in without)))


def freedom(n: int, score: Score = MEAN) -> float:
    """Degrees of freedom behind the standard deviation of `summary` for n > 1 losses.

    A median distance tells less of the spread than as many squares. With the degrees of freedom below, the 90 %
    intervals of Student's t around the median of 2 to 60 normal losses cover 0.89 to 0.91 (400,000 draws). Of a trimmed
    mean those of the losses that are kept (Tukey & McLaughlin 1963).

    >>> freedom(5), round(freedom(5, "median"), 2), freedom(5, "trimmed")
    (4.0, 1.71, 2.0)
    """
    if n > 2 and (score == MEDIAN or (score == TRIMMED and n <= MIDDLE)):
        return 0.17 + 0.77 * (n // 2)
    return float(n - 1 - (2 * _cut(n) if score == TRIMMED and n > MIDDLE else 0))


def _cut(n: int) -> int:
    """Losses that a trimmed mean of n > 2 leaves out at each end."""
    return max(int(TRIM * n), 1)


def _around_median(losses: Sequence[float]) -> float:
    """The standard deviation that makes std^2 / n the variance of the median of n > 2 ascending losses.

    If more than half of the losses are equal, as of a metric that comes in steps, the median distance is 0, although
    the median of as many other trainings may be another step. Then it is that of the order statistics about
    two standard errors from the middle: 0 if these are equal as well.
    """
    n, middle = len(losses), statistics.median(losses)
    if distance := statistics.median(abs(loss - middle) for loss in losses):
        return math.sqrt(math.pi / 2.0) * 1.4826 * distance
    low = max(int((n + 1) / 2.0 - math.sqrt(n)), 1) - 1
    return max(middle - losses[low], losses[n - 1 - low] - middle) * n / (n - 1 - 2 * low)


def _called(score: Callable[[Sequence[float]], float], losses: Sequence[float]) -> float:
    try:
        value = float(score(list(losses)))
    except Exception as error:  # whatever a user's function raises
        raise StudyError(f"score({list(losses)}) raised {error_line(error)}") from error
    if not math.isfinite(value):
        raise StudyError(f"score({list(losses)}) is {value}, which is no finite number")
    return value
