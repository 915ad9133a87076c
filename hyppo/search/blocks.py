"""Block effects: replicas of one index share the split, the fold, the order of the data.

    symbol     shape   meaning
    y_ir       (N,)    loss of replica r of trial i
    m_i        (I,)    mean of trial i, fixed
    b_r        (R,)    effect of block r (split, fold, order of the data), normal with variance var_b
    e_ir       (N,)    the rest, normal with variance var_e
    y_ir = m_i + b_r + e_ir

Replicas of one index share `replica.data_seed` in all trials, under folds their fold: they are a block. Let M be the
projection that takes off the means of the trials, Z the indicators of the blocks, C = Z' M Z and d = Z' M y. In the
eigenvectors of C, with eigenvalues c_j, the variables d_j / sqrt(c_j) are independent with variance
var_e (1 + g c_j), g = var_b / var_e. So the restricted likelihood is a function of g alone.

References
----------
Patterson & Thompson 1971, Biometrika 58:545 (restricted likelihood).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyppo.config import Config
from hyppo.trial import Trial

FloatArray = npt.NDArray[np.float64]
Losses = Mapping[int, float]  # index of the replica -> loss, of one trial

RATIOS = np.concatenate([[0.0], np.logspace(-2.0, 3.0, 101)])  # of var_b to var_e
FEWEST = 4  # degrees of freedom from which variances are estimated
FEWEST_BETTER = 8  # trials; see `better`
CLEAR = 5.41  # evidence; see `Blocks`


@dataclass(frozen=True)
class Blocks:
    """Effects of the blocks, estimated over several trials.

    Attributes
    ----------
    index : dict
        Block -> its position in `mean` and `covariance`.
    mean : (R,) array
        Expected effects.
    covariance : (R, R) array
        Of the effects, given the losses.
    data, training : float
        var_b and var_e.
    freedom : int
        Degrees of freedom behind them.
    evidence : float
        Twice the logarithm of the likelihood ratio against var_b = 0. It exceeds CLEAR in one of a hundred studies
        without effects: their distribution is half a point mass at 0 and half a chi-square of one degree of freedom.
    """

    index: Mapping[int, int]
    mean: FloatArray
    covariance: FloatArray
    data: float
    training: float
    freedom: int
    evidence: float

    def on(self, blocks: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Mean (n,) and covariance (n, n) of the effects of `blocks`; one that no trial has seen is independent."""
        known = np.array([block in self.index for block in blocks], dtype=bool)
        rows = np.array([self.index.get(block, 0) for block in blocks], dtype=np.int64)
        mean = np.where(known, self.mean[rows], 0.0)
        same = np.equal.outer(np.array(blocks), np.array(blocks))
        both = np.logical_and.outer(known, known)
        return mean, np.where(both, self.covariance[np.ix_(rows, rows)], np.where(same, self.data, 0.0))

    def matter(self, folds: bool) -> bool:
        """Whether the effects are to be removed: those of folds always, those of data seeds if they are clear."""
        return self.data > 0.0 and (folds or self.evidence > CLEAR)

    def off(self, losses: Losses, block: Callable[[int], int]) -> dict[int, float]:
        """Losses of a trial by index, without the expected effects of their blocks."""
        mean, _ = self.on([block(index) for index in losses])
        return dict(zip(losses, (np.array([*losses.values()]) - mean).tolist(), strict=True))


def fit_blocks(trials: Iterable[Losses], block: Callable[[int], int] = int) -> Blocks | None:
    """Effects and variances from trials with several replicas; None if too little is known.

    Parameters
    ----------
    trials : iterable of mappings
        Losses of each trial by the index of the replica.
    block : callable
        Block of an index.

    Examples
    --------
    >>> trials = [{r: 5.0 * i + (r == 1) + 0.01 * (r * i % 3) for r in range(4)} for i in range(3)]
    >>> blocks = fit_blocks(trials)
    >>> blocks.data > 100 * blocks.training
    True
    """
    used = [losses for losses in trials if len(losses) > 1]
    names = sorted({block(replica) for losses in used for replica in losses})
    index = {name: row for row, name in enumerate(names)}
    total, shared = sum(map(len, used)), len(names)
    freedom = total - len(used)
    if freedom < FEWEST or shared < 2:
        return None
    c, d, squares = np.zeros((shared, shared)), np.zeros(shared), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for losses in used:
            rows = np.array([index[block(replica)] for replica in losses])
            y = np.array(list(losses.values()))
            y = y - y.mean()
            times = np.bincount(rows, minlength=shared).astype(np.float64)
            c += np.diag(times) - np.outer(times, times) / y.size
            d += np.bincount(rows, weights=y, minlength=shared)
            squares += float(y @ y)
    if not math.isfinite(squares):  # losses around 1e200 have no variance in floating point
        return None
    values, vectors = np.linalg.eigh(c)
    seen = values > 1e-9 * values[-1]
    values, rotated = values[seen], (vectors.T @ d)[seen]
    z = rotated**2 / values
    rest = max(squares - float(z.sum()), 0.0)
    inflation = 1.0 + RATIOS[:, None] * values
    variance = (rest + (z / inflation).sum(axis=1)) / freedom
    with np.errstate(divide="ignore"):
        deviance = freedom * np.log(variance) + np.log(inflation).sum(axis=1)
    once = freedom - int(seen.sum()) < 1  # each block was seen once: nothing tells it from chance
    best = 0 if once else int(np.argmin(deviance))
    ratio, training = float(RATIOS[best]), float(variance[best])
    evidence = float(deviance[0] - deviance[best]) if best else 0.0
    inverse = np.asarray(np.linalg.inv(np.eye(shared) + ratio * c), dtype=np.float64)
    return Blocks(index, ratio * inverse @ d, ratio * training * inverse, ratio * training, training, freedom, evidence)


def losses_of(trial: Trial) -> dict[int, float]:
    """Losses of a trial's replicas by index."""
    return {r.index: r.loss for r in trial.replicas if r.loss is not None}


def confirmed_of(trial: Trial) -> dict[int, float]:
    """Losses of a trial's confirmations by index."""
    return {r.index: r.loss for r in trial.confirmations if r.loss is not None}


def unchosen_of(trial: Trial, config: Config) -> dict[int, float]:
    """Losses of a trial's replicas by index, without those that it was chosen by for further replicas.

    Contenders are chosen by their first losses, which are therefore too low, and their replicas tell of an effect of
    the first blocks that is none.
    """
    fewest, most = config.replicas
    first = 0 if fewest == most or trial.origin.get("by") == "added" else fewest
    return {index: loss for index, loss in losses_of(trial).items() if index >= first}


def better(trials: Iterable[Losses], fewest: int = 2) -> list[Losses]:
    """The better half, and at least eight, of the trials with at least `fewest` losses.

    Far from the optimum the spread is another one, mostly larger.
    """
    several = [losses for losses in trials if len(losses) >= fewest]
    several.sort(key=lambda losses: sum(losses.values()) / len(losses))
    return several[: max(FEWEST_BETTER, len(several) // 2)]
