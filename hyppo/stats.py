"""Statistics of a trial's losses over its replicas.

symbol  meaning
n       replicas with a finite loss
mean    sum_i l_i / n
std     sqrt(sum_i (l_i - mean)^2 / (n - 1)); None for n < 2: one replica says nothing of the spread
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


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
