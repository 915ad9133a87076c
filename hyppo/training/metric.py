"""A framework's metric as a loss: the code that all integrations share."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyppo.arguments import number
from hyppo.errors import StudyError, notify
from hyppo.training.predictions import discard
from hyppo.training.replica import Goal, Replica, Result, check_target

HIGHER_IS_BETTER = re.compile(
    r"(acc|accuracy|auc|auroc|auprc|aupr|ap|map|f1|f1score|fbeta|precision|recall|sensitivity|specificity|iou|miou|jaccard|"
    r"dice|psnr|ssim|msssim|r2|r2score|kappa|mcc|nse|kge|bleu|rouge|meteor|ndcg|mrr|pearson|spearman|kendall|"
    r"correlation|corr|score|reward|top1|top5|likelihood)"
)
LOWER_IS_BETTER = frozenset({"loss", "error", "err", "nll"})
WORD = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+\d*|[A-Z]\d*|\d+")
STEP_PAUSE = 5.0  # s; a stop that is asked this long before an epoch's end, or less, waits for it


def higher_is_better(metric: str) -> bool:
    """Whether a metric of this name is usually maximised.

    >>> [higher_is_better(name) for name in ("val/acc", "val_mAP", "valAccuracy", "nse", "val_loss", "mapping_error")]
    [True, True, True, True, False, False]
    """
    words = {word.lower() for word in re.split(r"[^A-Za-z0-9]+", metric)}
    words |= {word.lower() for word in WORD.findall(metric)}
    return any(map(HIGHER_IS_BETTER.fullmatch, words)) and not words & LOWER_IS_BETTER


class Monitor:
    """The metric that is the loss, and the metrics kept beside it.

    The sign of a maximised metric is flipped here, once: everything inside is minimised.

    Parameters
    ----------
    replica : Replica
        The training that reports.
    metric : str
        Its name in the framework's logs.
    mode : {"min", "max"}
        Whether lower or higher is better; with "max" the loss is minus the metric.
    metrics : sequence of str
        Further names in the framework's logs, kept as `trial.metrics`.
    best : bool
        The loss is the lowest that was reported, not the last.

    Raises
    ------
    StudyError
        Another mode, or `metrics` that are not names.

    Examples
    --------
    >>> from hyppo.training.replica import Task
    >>> replica = Replica(Task(trial=0, index=0, seed=7, params={}, directory="."))
    >>> monitor = Monitor(replica, "val_accuracy", "max", ["val_loss"])
    >>> monitor.report(0, {"val_accuracy": 0.75, "val_loss": 0.5})
    True
    >>> monitor.store_result([])
    >>> replica.result.loss, replica.metrics
    (-0.75, {'val_loss': 0.5, 'val_accuracy': 0.75})
    """

    def __init__(
        self, replica: Replica, metric: str, mode: str, metrics: Sequence[str] = (), best: bool = False
    ) -> None:
        if mode not in ("min", "max"):
            raise StudyError(f'mode must be "min" or "max" (then the loss is minus {metric!r}), not {mode!r}')
        if isinstance(metrics, str) or not all(isinstance(name, str) for name in metrics):
            raise StudyError(f'metrics: expected a list of names as in the logs, like ["val_acc"], got {metrics!r}')
        if mode == "min" and higher_is_better(metric):
            notify(
                f'{metric!r} is minimised; if higher is better, say mode="max": the loss is then minus {metric!r}',
                stacklevel=3,
            )
        self.replica = replica
        self.metric = metric
        self.goal = replica.goal = Goal(metric, mode)
        self.metrics = tuple(metrics)
        self.best = best
        self.loss: float | None = None
        self.beside: dict[str, float] = {}
        self._reported = self._steps = 0  # reports of earlier fits of this training, and their steps

    def begin(self) -> None:
        """Start a fit. The result of an earlier fit of this training does not count: neither loss nor predictions.

        Raises
        ------
        ObjectiveError
            The study's target needs a criterion, and there is none.
        """
        replica = self.replica
        check_target(replica)
        self.loss, self.beside = None, {}
        replica.goal = self.goal
        self._reported = len(replica.curve)
        if replica.fits:
            self._steps = replica.curve[-1][0] + 1 if replica.curve else 0
            replica.losses, replica.no_losses, replica.rows = None, None, ""
            if replica.rank == 0:
                discard(replica.location)

    @property
    def curve(self) -> list[tuple[int, float]]:
        """The reports of this fit. Their steps continue those of earlier fits."""
        return self.replica.curve[self._reported :]

    def report(self, step: int, logged: Mapping[str, Any]) -> bool:
        """Report the metric after `step` of this fit (from 0); return whether these weights determine the loss now."""
        loss = self.loss_in(logged)
        self.replica.report(self._steps + step, loss)
        if self.best and self.loss is not None and not loss < self.loss and not math.isnan(self.loss):
            return False
        self.take(loss, self.beside_in(logged))
        return True

    def take(self, loss: float, beside: Mapping[str, float]) -> None:
        """Use a loss, and the metrics beside it, as the result of this training."""
        self.loss, self.beside = loss, dict(beside)

    def loss_in(self, logged: Mapping[str, Any]) -> float:
        """The metric in the framework's logs, as a loss."""
        return self.goal.sign * number(self.metric, logged[self.metric], finite=False)

    def beside_in(self, logged: Mapping[str, Any]) -> dict[str, float]:
        """The metrics beside the loss that are in the framework's logs."""
        return {name: number(name, logged[name], finite=False) for name in self.metrics if name in logged}

    def go_on(self, curve: Iterable[tuple[int, float]]) -> None:
        """Repeat the reports of `curve`: an interrupted fit continues after them.

        A rule for stopping early counts the reports of a training and its lowest loss, and forgets those of an
        interrupted training.
        """
        del self.replica.curve[self._reported :]
        for step, loss in curve:
            self.replica.report(step, loss)
            self.loss = loss

    def check(self, logged: Iterable[str], metrics: Iterable[str] | None = None) -> None:
        """Check that the monitored metrics, or those of them in `metrics`, are in the logs.

        Raises
        ------
        StudyError
            A metric is missing; the message lists the logged ones.
        """
        names = list(logged)
        for metric in (self.metric, *self.metrics) if metrics is None else metrics:
            if metric not in names:
                raise self.missing(names, metric)

    def missing(self, logged: Iterable[str], metric: str | None = None) -> StudyError:
        """The error for a metric that was never logged."""
        metric = metric or self.metric
        names = sorted(logged)
        there_are = f"logged were: {', '.join(names)}" if names else "nothing was logged"
        hint = (
            "; a val_ metric needs validation data, and a validation before the fit ends"
            if metric.startswith("val") and not any(name.startswith("val") for name in names)
            else ""
        )
        say = "set monitor= to the one that is the loss" if metric == self.metric else "metrics= takes these names"
        return StudyError(f"the metric {metric!r} was never logged ({there_are}); {say}{hint}")

    def store_result(self, logged: Iterable[str], *, stopped: bool = False) -> None:
        """Store the loss as the result of the training, and the metrics; NaN and infinity become a failure later.

        Raises
        ------
        StudyError
            The metric was never reported; `logged` are the names that were.
        """
        if self.loss is None and not stopped:
            raise self.missing(logged)
        self.replica.whole = not stopped and (self.replica.whole or not self.replica.fits)
        self.replica.metrics.update({name: value for name, value in self.beside.items() if name in self.metrics})
        if self.loss is not None:
            self.replica.metrics[self.metric] = self.goal.shown(self.loss)
        self.replica.store_result(Result(math.nan if self.loss is None else self.loss))
