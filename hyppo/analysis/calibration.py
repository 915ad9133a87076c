"""Calibration of predictions: the coverage of their intervals, and their sharpness.

symbol    meaning
mu, sd    mean and standard deviation of an output, the predictive distribution taken as normal
p         level; the interval is mu ± z sd with z = Phi^-1((1 + p) / 2)
coverage  share of the outputs whose target lies in the interval; p if the intervals are calibrated
CRPS      mean of integral (F(t) - [t >= y])^2 dt, in the unit of the outputs; |y - mu| where sd = 0; lower is better

References
----------
Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and estimation. JASA 102.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hyppo.arguments import quoted
from hyppo.errors import StudyError
from hyppo.training.predictions import Predictions, flatten
from hyppo.training.predictions.classes import LEAST, class_axis, entropy, is_probability, softmax

LEVELS = (0.5, 0.9, 0.95)
BINS = 15  # of the confidence, as usual for the expected calibration error (Guo et al. 2017)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How predictions and their uncertainty hold against the targets.

    Attributes
    ----------
    outputs : int
        Numbers compared, over all examples.
    coverage : dict of float to float
        Share of targets in the interval of each level.
    crps : float or None
        Mean continuous ranked probability score; None if `crps=False`.
    rmse, std : float
        Root mean square error of the mean, and root mean square of the standard deviation; equal if calibrated.
    """

    outputs: int
    coverage: dict[float, float]
    crps: float | None
    rmse: float
    std: float

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.0%} at {level:.0%}" for level, share in self.coverage.items())
        score = "" if self.crps is None else f"; CRPS {self.crps:.4g}"
        return f"covered {shares}{score}; RMSE {self.rmse:.4g}, standard deviation {self.std:.4g}"


@dataclass(frozen=True, slots=True)
class ClassCalibration:
    """How the probabilities of classes hold against the labels.

    Attributes
    ----------
    examples : int
        Labels compared.
    accuracy : float
        Share of labels that have the highest probability.
    log_loss : float
        Mean of -log of the label's probability, in nats.
    brier : float
        Mean squared distance of the probabilities from the label.
    ece : float
        Expected calibration error: mean distance between confidence and accuracy over BINS bins of the confidence.
    entropy : float
        Mean entropy of the probabilities, in nats.
    disagreement : float or None
        The part of it that the networks disagree on; None if unknown.
    """

    examples: int
    accuracy: float
    log_loss: float
    brier: float
    ece: float
    entropy: float
    disagreement: float | None

    def __str__(self) -> str:
        split = "" if self.disagreement is None else f", {self.disagreement:.4g} of it between networks"
        return (
            f"accuracy {self.accuracy:.1%}, calibration error {self.ece:.4g}, log loss {self.log_loss:.4g}, Brier "
            f"{self.brier:.4g}; entropy {self.entropy:.4g} nats{split}"
        )


def calibration(
    predictions: Predictions, *, crps: bool = True, levels: Sequence[float] = LEVELS
) -> Calibration | ClassCalibration:
    """Coverage of the intervals at each level, and CRPS, over all outputs of all examples together.

    A target of NaN is a missing value, which is left out.

    For an output of classes with integer labels: accuracy, calibration error, log loss, Brier score and entropy; logits
    are turned into probabilities.

    The standard deviation is that of the models. If the data are noisy themselves, the coverage is below the level. On
    the validation data that chose the configuration, all figures are slightly too good.

    Parameters
    ----------
    predictions : Predictions
        With targets: `study.predictions(number)`, or `ensemble.predict(loader)` on data of their own.
    crps : bool
        Needs scoringrules, which the `report` extra brings.
    levels : sequence of float
        Levels of the intervals, between 0 and 1.

    Raises
    ------
    StudyError
        No predictions, no targets or none but NaN, targets that are not shaped as the predictions, one network without
        passes, no scoringrules.

    Examples
    --------
    >>> y = np.array([0.0, 1.0, 3.0])
    >>> found = calibration(Predictions(np.zeros(3), np.ones(3), y, replicas=3, passes=0), crps=False)
    >>> found.coverage[0.5], round(found.rmse, 3)
    (0.3333333333333333, 1.826)
    """
    if not isinstance(predictions, Predictions):
        raise StudyError(
            "calibration(predictions): expected predictions, for example study.predictions(study.best.number), got "
            f"{quoted(predictions)}"
        )
    if predictions.targets is None:
        raise StudyError("these predictions have no targets to compare with: batches that are (inputs, targets) have")
    axis = class_axis(predictions.mean, predictions.targets) if _is_one_output(predictions) else None
    if axis is not None:
        return _of_classes(predictions, axis)
    if predictions.replicas + predictions.passes < 2 and predictions.calibrator is None:
        raise StudyError(
            "one network without dropout passes has no spread: calibration needs replicas=2 or mc_dropout="
        )
    mu, sd, y = _columns(predictions)
    known = ~np.isnan(y)
    if not known.any():
        raise StudyError("all targets are NaN: there is nothing to compare with")
    coverage = {}
    for p in levels:
        low, high = (_joined(end) for end in predictions.interval(p))
        coverage[p] = float(np.mean(((low <= y) & (y <= high))[known]))
    mu, sd, y = mu[known], sd[known], y[known]
    error = np.abs(y - mu)
    return Calibration(
        outputs=y.size,
        coverage=coverage,
        crps=_crps(mu, sd, y) if crps else None,
        rmse=float(np.sqrt(np.mean(error**2))),
        std=float(np.sqrt(np.mean(sd**2))),
    )


def _is_one_output(predictions: Predictions) -> bool:
    return not isinstance(predictions.mean, tuple | dict) and not isinstance(predictions.targets, tuple | dict)


def _of_classes(predictions: Predictions, axis: int) -> ClassCalibration:
    p = np.asarray(predictions.mean, dtype=np.float64)
    known = is_probability(p, axis)
    p = np.moveaxis(p if known else softmax(p, axis), axis, -1)
    p = p.reshape(-1, p.shape[-1])
    y = np.asarray(predictions.targets, dtype=np.int64).ravel()
    rows = np.arange(y.size)
    confidence, hit = p.max(1), p.argmax(1) == y
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - hit[bins == b].sum())) for b in np.unique(bins)]
    total = float(entropy(p, 1).mean())
    single = None if predictions.entropy is None or not known else float(np.mean(predictions.entropy))
    return ClassCalibration(
        examples=y.size,
        accuracy=float(hit.mean()),
        log_loss=float(-np.log(np.maximum(p[rows, y], LEAST)).mean()),
        brier=float(((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean()),
        ece=sum(gaps) / y.size,
        entropy=total,
        disagreement=None if single is None or predictions.calibrator is not None else max(total - single, 0.0),
    )


def _joined(tree: Any) -> FloatArray:
    return np.concatenate([np.asarray(leaf, dtype=np.float64).ravel() for leaf in flatten(tree).values()])


def _columns(predictions: Predictions) -> tuple[FloatArray, FloatArray, FloatArray]:
    """mu, sd and y of all outputs, each (outputs,)."""
    means, stds, targets = (flatten(tree) for tree in (predictions.mean, predictions.std, predictions.targets))
    if means.keys() != targets.keys():
        raise StudyError(
            f"the outputs are {sorted(means)}, the targets {sorted(targets)}: calibration needs them alike"
        )
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for path, mean in means.items():
        y = targets[path]
        # (n,) beside (n, 1) is the same thing said twice; labels beside probabilities are not
        if y.size != mean.size or len(y) != len(mean) or "c" in (mean.dtype.kind, y.dtype.kind):
            raise StudyError(
                f"the targets have the shape {y.shape} and dtype {y.dtype}, the predictions {mean.shape} and "
                f"{mean.dtype}: calibration is for real outputs with a target each, as in a regression"
            )
        for column, array in zip(columns, (mean, stds[path], y), strict=True):
            column.append(np.asarray(array, dtype=np.float64).ravel())
    mu, sd, y = (np.concatenate(column) for column in columns)
    return mu, sd, y


def _crps(mu: FloatArray, sd: FloatArray, y: FloatArray) -> float:
    try:
        import scoringrules
    except ModuleNotFoundError:
        raise StudyError(
            "CRPS needs scoringrules: pip install 'hyppo-uq[report]', or calibration(..., crps=False)"
        ) from None
    scores = np.abs(y - mu)  # of those without spread
    spread = sd > 0.0
    if spread.any():
        scores[spread] = scoringrules.crps_normal(y[spread], mu[spread], sd[spread], backend="numpy")
    return float(np.mean(scores))
