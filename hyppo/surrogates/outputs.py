"""The transform from losses to the outputs that surrogates are fitted to, and back.

    symbol   shape   meaning
    y        (n,)    losses, or their logarithms if a half of them spans more than three decades
    a, b     float   centre and scale: u = clip((y - a) / b, low, high). Mean and standard deviation; if a few outliers
                     make these, the median and OUTLYING times the median absolute deviation
    lambda   float   power of Yeo & Johnson (2000), by maximum likelihood
    t        (n,)    (YJ(u; lambda) - m) / s: mean 0, variance 1

Losses of networks are skewed, by diverged trainings over many orders of magnitude; a stationary surrogate wants them
near to normal. No power of a centred loss tells 1e-6 from 1e-3 beside 1: losses over so many decades are compared by
their logarithms. (Of the upper half alone, logarithms were clearly worse; from one and a half decades on, no better.)
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from hyppo._kernels.power import yeo_johnson_variance
from hyppo.space import FloatArray, IntArray

POWERS = (-2.0, 2.5)
LARGEST = 1e150  # losses beyond are equal to the search; their squares would overflow
SMALLEST = 1e-300
WIDE = 1e3  # median to least, or largest to median
OUTLYING = 5.0  # standard deviations, by the median absolute one, above which a few losses make the standard deviation
FAR = 1e6  # times median minus least, above the median: losses above it count as equally bad


def yeo_johnson(u: FloatArray, power: float) -> FloatArray:
    """YJ(u; lambda), (n,) -> (n,)."""
    magnitude = np.log1p(np.abs(u))
    exponent = np.where(u >= 0.0, power, 2.0 - power)
    flat = np.abs(exponent) < 1e-9
    safe = np.where(flat, 1.0, exponent)
    return np.asarray(np.copysign(np.where(flat, magnitude, np.expm1(safe * magnitude) / safe), u))


def yeo_johnson_inverse(v: FloatArray, power: float) -> FloatArray:
    """Inverse of `yeo_johnson`; values beyond its range go to the largest that has an image in double precision."""
    exponent = np.where(v >= 0.0, power, 2.0 - power)
    flat = np.abs(exponent) < 1e-9
    safe = np.where(flat, 1.0, exponent)
    magnitude = np.where(flat, np.abs(v), np.log1p(np.maximum(safe * np.abs(v), -1.0 + 1e-15)) / safe)
    return np.asarray(np.copysign(np.expm1(np.minimum(magnitude, 300.0)), v))


def _likeliest_power(u: FloatArray) -> float:
    logarithms = np.log1p(np.abs(u))
    jacobian = float(np.sum(np.copysign(logarithms, u)))
    out = np.empty(1)

    def minus_log_likelihood(power: float) -> float:
        yeo_johnson_variance(u, logarithms, power, out)
        return 0.5 * u.size * math.log(out[0]) - (power - 1.0) * jacobian if out[0] > 0.0 else math.inf

    return float(minimize_scalar(minus_log_likelihood, bounds=POWERS, method="bounded", options={"xatol": 1e-3}).x)


@dataclass(frozen=True)
class Outputs:
    """A fitted transform, strictly increasing between its clips."""

    centre: float
    scale: float
    low: float
    high: float
    power: float
    shift: float
    deviation: float
    logarithm: bool = False
    ceiling: float = LARGEST

    def _standardised(self, y: npt.ArrayLike) -> FloatArray:
        values = np.clip(np.asarray(y, dtype=np.float64), -LARGEST, self.ceiling)
        if self.logarithm:
            values = np.log(np.maximum(values, SMALLEST))
        return np.clip((values - self.centre) / self.scale, self.low, self.high)

    def forward(self, y: npt.ArrayLike) -> FloatArray:
        """Losses to targets, (n,) -> (n,)."""
        return (yeo_johnson(self._standardised(y), self.power) - self.shift) / self.deviation

    @property
    def ends(self) -> tuple[float, float]:
        """The losses from which on lower ones, or higher ones, count as equal."""
        low, high = self.centre + self.low * self.scale, self.centre + self.high * self.scale
        if self.logarithm:
            low, high = math.exp(low), math.exp(min(high, math.log(LARGEST)))
        return low, min(high, self.ceiling)

    def inverse(self, t: npt.ArrayLike) -> FloatArray:
        """Targets to losses, no further out than `ends`, (n,) -> (n,)."""
        u = yeo_johnson_inverse(np.asarray(t, dtype=np.float64) * self.deviation + self.shift, self.power)
        values = u * self.scale + self.centre
        values = np.exp(np.minimum(values, np.log(LARGEST))) if self.logarithm else values
        return np.clip(values, *self.ends)

    def derivative(self, y: npt.ArrayLike) -> FloatArray:
        """dt/dy, which carries a standard deviation of losses to one of targets, (n,) -> (n,)."""
        u = self._standardised(y)
        exponent = np.where(u >= 0.0, self.power - 1.0, 1.0 - self.power)
        slope = np.exp(exponent * np.log1p(np.abs(u))) / (self.scale * self.deviation)
        if self.logarithm:
            slope = slope / np.maximum(np.asarray(y, dtype=np.float64), SMALLEST)
        return np.asarray(slope)


def fit(y: npt.ArrayLike, *, clip: float = 8.0) -> Outputs:
    """Transform of losses, (n,); the identity up to centre and scale if all are equal.

    >>> fit([1.0, 2.0, 3.0]).forward([1.0, 2.0, 3.0]).round(3) + 0.0
    array([-1.225,  0.   ,  1.225])
    """
    values = np.clip(np.asarray(y, dtype=np.float64), -LARGEST, LARGEST)
    logarithm, ceiling = False, LARGEST
    if values.size >= 4:
        least, middle = float(values.min()), float(np.median(values))
        ceiling = min(middle + FAR * (middle - least), LARGEST) if middle > least else LARGEST
        values = np.minimum(values, ceiling)
        logarithm = least > SMALLEST and max(middle / least, float(values.max()) / middle) > WIDE
    if logarithm:
        values = np.log(values)
    centre = float(np.mean(values)) if values.size else 0.0
    scale = float(np.std(values)) if values.size else 0.0
    if values.size >= 4:
        middle = float(np.median(values))
        usual = 1.4826 * float(np.median(np.abs(values - middle)))
        if 0.0 < OUTLYING * usual < scale:
            centre, scale = middle, OUTLYING * usual
    if not scale > 1e-13 * abs(centre):
        return Outputs(centre, max(abs(centre), 1.0), -clip, clip, 1.0, 0.0, 1.0)
    u = np.clip((values - centre) / scale, -clip, clip)
    power = _likeliest_power(u)
    v = yeo_johnson(u, power)
    deviation = float(np.std(v))
    deviation = deviation if deviation > 0.0 else 1.0
    return Outputs(centre, scale, -clip, clip, power, float(np.mean(v)), deviation, logarithm, ceiling)


@dataclass(frozen=True)
class Merged:
    """Trials with equal points merged, in the order in which the points first occurred."""

    row: IntArray  # (m,) first row of each point
    mean: FloatArray  # (m,)
    variance: FloatArray  # (m,) sample variance over all its replicas; 0 if `freedom` is 0
    freedom: FloatArray  # (m,) degrees of freedom of `variance`
    count: IntArray  # (m,) replicas


def merge(keys: list[bytes], mean: FloatArray, spread: FloatArray, count: IntArray) -> Merged:
    """Pool the replicas of equal points.

    Parameters
    ----------
    keys : list of bytes
        Identity of each row's point.
    mean, spread, count : (n,) arrays
        Mean, sample standard deviation (NaN: unknown) and number of replicas of each row.
    """
    known = np.isfinite(spread) & (count > 1)
    freedom = np.where(known, count - 1.0, 0.0)
    squares = np.where(known, np.minimum(spread, LARGEST) ** 2, 0.0) * freedom
    first: dict[bytes, int] = {}
    group = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    m = len(first)
    row = np.full(m, len(keys), dtype=np.int64)
    np.minimum.at(row, group, np.arange(len(keys)))
    clipped = np.clip(mean, -LARGEST, LARGEST)
    total = np.bincount(group, weights=count, minlength=m).astype(np.float64)
    average = np.bincount(group, weights=clipped * (count / total[group]), minlength=m).astype(np.float64)
    squares += count * (clipped - average[group]) ** 2
    pooled_squares = np.bincount(group, weights=squares, minlength=m)
    pooled_freedom = np.bincount(group, weights=freedom + 1.0, minlength=m).astype(np.float64) - 1.0
    variance = np.where(pooled_freedom > 0.0, pooled_squares / np.maximum(pooled_freedom, 1.0), 0.0)
    return Merged(row, average, variance, pooled_freedom, total.astype(np.int64))
