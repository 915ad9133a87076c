"""How much of the spread is data, and how much is training.

    symbol     shape   meaning
    y_ir       (N,)    loss of replica r of trial i
    m_i        (I,)    mean of trial i, fixed
    b_r        (R,)    effect of block r (split, fold, order of the data), normal with variance var_b
    e_ir       (N,)    the rest, normal with variance var_e
    y_ir = m_i + b_r + e_ir

Replicas of one index share `replica.data_seed` and `replica.fold` in all trials: they are a block. Let M be the
projection that takes off the means of the trials, Z the indicators of the blocks, C = Z' M Z and d = Z' M y. In the
eigenvectors of C, with eigenvalues c_j, the variables d_j / sqrt(c_j) are independent with variance
var_e (1 + g c_j), g = var_b / var_e. So the restricted likelihood is a function of g alone.

References
----------
Patterson & Thompson 1971, Biometrika 58:545 (restricted likelihood).
Bouthillier et al. 2021, MLSys, "Accounting for variance in machine learning benchmarks".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyppo.errors import StudyError

if TYPE_CHECKING:
    from hyppo.study import Study
    from hyppo.trial import Trial

FloatArray = npt.NDArray[np.float64]
Losses = Mapping[int, float]  # block -> loss, of one trial

RATIOS = np.concatenate([[0.0], np.logspace(-2.0, 3.0, 101)])  # of var_b to var_e
FEWEST = 4  # degrees of freedom from which variances are estimated


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
    """

    index: Mapping[int, int]
    mean: FloatArray
    covariance: FloatArray
    data: float
    training: float
    freedom: int

    def on(self, blocks: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Mean (n,) and covariance (n, n) of the effects of `blocks`; one that no trial has seen is independent."""
        known = np.array([block in self.index for block in blocks], dtype=bool)
        rows = np.array([self.index.get(block, 0) for block in blocks], dtype=np.int64)
        mean = np.where(known, self.mean[rows], 0.0)
        same = np.equal.outer(np.array(blocks), np.array(blocks))
        both = np.logical_and.outer(known, known)
        return mean, np.where(both, self.covariance[np.ix_(rows, rows)], np.where(same, self.data, 0.0))


def fit_blocks(trials: Iterable[Losses]) -> Blocks | None:
    """Effects and variances from trials with several replicas; None if too little is known.

    Examples
    --------
    >>> trials = [{r: 5.0 * i + (r == 1) + 0.01 * (r * i % 3) for r in range(4)} for i in range(3)]
    >>> blocks = fit_blocks(trials)
    >>> blocks.data > 100 * blocks.training
    True
    """
    used = [losses for losses in trials if len(losses) > 1]
    names = sorted({block for losses in used for block in losses})
    index = {block: row for row, block in enumerate(names)}
    total, shared = sum(map(len, used)), len(names)
    freedom = total - len(used)
    if freedom < FEWEST or shared < 2:
        return None
    c, d, squares = np.zeros((shared, shared)), np.zeros(shared), 0.0
    for losses in used:
        rows = np.array([index[block] for block in losses])
        y = np.array(list(losses.values()))
        y = y - y.mean()
        c[rows, rows] += 1.0
        c[np.ix_(rows, rows)] -= 1.0 / y.size
        d[rows] += y
        squares += float(y @ y)
    values, vectors = np.linalg.eigh(c)
    seen = values > 1e-9 * values[-1]
    values, rotated = values[seen], (vectors.T @ d)[seen]
    z = rotated**2 / values
    rest = max(squares - float(z.sum()), 0.0)
    inflation = 1.0 + RATIOS[:, None] * values
    variance = (rest + (z / inflation).sum(axis=1)) / freedom
    with np.errstate(divide="ignore"):
        deviance = freedom * np.log(variance) + np.log(inflation).sum(axis=1)
    if freedom - int(seen.sum()) < 1:  # each block was seen once: nothing tells it from chance
        ratio, training = 0.0, float(variance[0])
    else:
        best = int(np.argmin(deviance))
        ratio, training = float(RATIOS[best]), float(variance[best])
    inverse = np.asarray(np.linalg.inv(np.eye(shared) + ratio * c), dtype=np.float64)
    return Blocks(index, ratio * inverse @ d, ratio * training * inverse, ratio * training, training, freedom)


@dataclass(frozen=True, slots=True)
class SpreadBySource:
    """The spread of the loss by its source.

    Attributes
    ----------
    data : float
        Standard deviation due to what replicas of one index share: `replica.data_seed`, `replica.fold`.
    training : float
        Standard deviation due to the rest: initial weights, order of batches, dropout, hardware.
    total : float
        Both together.
    trials, replicas : int
        That they were estimated from.
    """

    data: float
    training: float
    total: float
    trials: int
    replicas: int

    def __str__(self) -> str:
        share = self.data**2 / self.total**2 if self.total else 0.0
        return (
            f"spread {self.total:.3g}: {self.data:.3g} from the data ({share:.0%} of the variance), "
            f"{self.training:.3g} from training ({self.replicas} replicas of {self.trials} trials)"
        )


def spread_by_source(study: "Study") -> SpreadBySource:
    """How much of the spread of the loss is due to the data, and how much to training.

    The estimate is from the better half of the trials with several replicas, confirmations included. The function that
    trains must use `replica.data_seed` or `replica.fold`, otherwise all spread is due to training.

    Raises
    ------
    StudyError
        Too few trials with several replicas: it takes two, with replicas of the same indices.

    Examples
    --------
    >>> from hyppo import Real, Space, Study
    >>> study = Study(Space(x=Real(0, 1)), replicas=4)
    >>> for _ in range(6):
    ...     trial = study.ask()
    ...     study.tell(trial.number, [trial.params["x"] + 0.3 * (r == 2) for r in range(4)])
    >>> source = spread_by_source(study)
    >>> source.data > 10 * source.training
    True
    """
    several = better([{**losses_of(t), **confirmed_of(t)} for t in study.trials], fewest=2)
    blocks = fit_blocks(several)
    if blocks is None:
        raise StudyError(
            "too few trials have several replicas to tell the sources of the spread apart: study.confirm(10), or "
            "Study(replicas=3)"
        )
    data, training = math.sqrt(blocks.data), math.sqrt(blocks.training)
    return SpreadBySource(data, training, math.hypot(data, training), len(several), sum(map(len, several)))


def losses_of(trial: "Trial") -> dict[int, float]:
    """Losses of a trial's replicas by index."""
    return {r.index: r.loss for r in trial.replicas if r.loss is not None}


def confirmed_of(trial: "Trial") -> dict[int, float]:
    """Losses of a trial's confirmations by index."""
    return {r.index: r.loss for r in trial.confirmations if r.loss is not None}


def better(trials: Iterable[Losses], fewest: int = 2) -> list[Losses]:
    """The better half, and at least eight, of the trials with at least `fewest` losses.

    Far from the optimum the spread is another one, mostly larger.
    """
    several = [losses for losses in trials if len(losses) >= fewest]
    several.sort(key=lambda losses: sum(losses.values()) / len(losses))
    return several[: max(8, len(several) // 2)]
