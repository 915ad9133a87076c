"""Probability that a training succeeds, estimated from failed and successful ones.

    symbol   shape   meaning
    x        (n, D)  features of the trials that ended
    z        (n,)    share of a trial's trainings that succeeded
    f        -       latent function, a Gaussian process fitted to z as if z were real numbers
    t        float   0.5 on the scale of f
    P        (q,)    Phi((mean f - t) / sqrt(var f + noise))

Candidates with a low P are left out instead of weighed down: an expected improvement that extrapolates beyond the
border is larger by more than any power of P. How low is decided by the failures of late, since P is least certain at
the border, where the optimum often lies: bold after successes, careful after failures. Measured on four problems
of three parameters whose optimum lies on the border of a region that fails (60 asks, 8 seeds): of the points that the
surrogates asked for, 95 % failed without P, and 20 to 22 % with this bound; a fixed bound of 0.9 had 19 % and twice the
regret.

Least-squares classification (Rasmussen & Williams 2006, section 6.5): failures that lie together have a smooth f and a
sharp border; failures that come by chance are noise to f, and P is then the same everywhere. A loss of a failed trial
would have to be invented, and a large one flattens the surrogate where it matters.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from hyppo import surrogates
from hyppo.space import FloatArray, IntArray, Space

if TYPE_CHECKING:
    from hyppo.surrogates.gp import GP

SHOWN = 200  # trials that the process is conditioned on at most
BOLD, STEP, CAREFUL = 0.3, 2.5, 0.9  # the bound on P: BOLD without failures of late, STEP more if all failed
LATE = 20  # trials
CHANCE, CHANCE_STD = 0.1, 1.5  # prior of the noise, median and standard deviation of its logarithm: a border or chance
UNSAFE = 1e200  # below every logarithm of an expected improvement
REFIT_ALWAYS = 50  # trials up to which hyperparameters are fitted at every ask, and from there as often as n / 50


@dataclass(frozen=True)
class Outcomes:
    """How the trials ended."""

    unit: FloatArray  # (n, d) lattice coordinates
    share: FloatArray  # (n,) z

    @property
    def instructive(self) -> bool:
        """Whether some trainings failed and some did not."""
        return self.share.size > 0 and bool(np.ptp(self.share) > 0.0)

    @property
    def bound(self) -> float:
        """The share of the highest P among candidates from which one is safe, by the failures of late.

        >>> [round(Outcomes(np.zeros((9, 1)), np.repeat([1.0, 0.0], [9 - n, n])).bound, 3) for n in (0, 1, 9)]
        [0.3, 0.578, 0.9]
        """
        return min(CAREFUL, BOLD + STEP * (1.0 - float(self.share[-LATE:].mean())))


@dataclass(frozen=True)
class Prudence:
    """Puts candidates that are likely to fail behind the others.

    Attributes
    ----------
    least : float
        Logarithm of the lowest P of a safe candidate.
    """

    least: float

    @staticmethod
    def among(log_success: FloatArray, bound: float) -> "Prudence":
        """Relative to the safest of some candidates: failures that come by chance leave no candidate at P = 1."""
        return Prudence(float(np.log(bound) + log_success.max()))

    def worth(self, log_ei: FloatArray, log_success: FloatArray) -> FloatArray:
        """The score to maximise, from log EI and log P of candidates, (q,), (q,) -> (q,)."""
        unsafe = -UNSAFE * (1.0 - np.maximum(log_success, -1e6))
        return np.where(log_success >= self.least, log_ei + log_success, unsafe)

    def score(self, score: FloatArray, log_success: FloatArray) -> FloatArray:
        """The score to minimise, from weighted scores in 0..1 and log P, (q,), (q,) -> (q,)."""
        return np.where(log_success >= self.least, score, 2.0 - np.exp(log_success))


@dataclass(frozen=True, eq=False)
class Success:
    """The fitted probability of success."""

    model: "GP"
    middle: float  # t
    noise: float  # variance of z around f

    @property
    def theta(self) -> tuple[float, ...]:
        """Hyperparameters to start from next time."""
        return tuple(self.model.theta.tolist())

    def log_probability(self, x: FloatArray) -> FloatArray:
        """log P at features x, (q, D) -> (q,)."""
        latent = self.model.predict(x)
        return np.asarray(log_ndtr((latent.mean - self.middle) / np.sqrt(latent.std**2 + self.noise)))


def fit(space: Space, outcomes: Outcomes, near: FloatArray, start: tuple[float, ...] | None = None) -> Success:
    """Fit the probability of success, from the hyperparameters `start`.

    Of many trials, half of those shown are the nearest to the features `near`, (D,); the others are spread over time.
    """
    n = outcomes.share.size
    rows = np.arange(n)
    x = space.features(outcomes.unit, on_lattice=True)
    if n > SHOWN:
        rows = _some(np.sum((x - near) ** 2, axis=1))
    z = outcomes.share[rows]
    mean, std = float(z.mean()), max(float(z.std()), 1e-3)
    y, noise = (z - mean) / std, np.full(z.size, CHANCE)
    if start is None or n % max(1, n // REFIT_ALWAYS) == 0:
        starts = [] if start is None else [np.array(start)]
        model = surrogates.gp.fit(
            x[rows], y, noise=noise, owner=space.owner, starts=starts, iterations=20, noise_std=CHANCE_STD
        )
    else:
        model = surrogates.gp.condition(x[rows], y, start, noise=noise, owner=space.owner)
    return Success(model, (0.5 - mean) / std, CHANCE * model.noise_factor)


def _some(distance: FloatArray) -> IntArray:
    """SHOWN rows in order: half of them of the least distance."""
    keep = np.zeros(distance.size, dtype=bool)
    keep[np.argsort(distance, kind="stable")[: SHOWN // 2]] = True
    others = np.flatnonzero(~keep)
    keep[others[np.linspace(0, others.size - 1, SHOWN - SHOWN // 2).astype(np.int64)]] = True
    return np.flatnonzero(keep)
