"""A metric of a framework seen as a loss: what every integration does with it, once."""

import re
import warnings
from collections.abc import Iterable

from hyppo.errors import HyppoWarning, StudyError
from hyppo.training.replica import Replica, Result, check_target

HIGHER_IS_BETTER = re.compile(r"(^|_)(acc|accuracy|auc|auroc|f1|precision|recall|iou|dice|psnr|ssim|r2)(_|$)", re.I)


class Monitor:
    """The metric that decides, reported and handed over as a loss: the sign of a maximised one is flipped here.

    Parameters
    ----------
    replica : Replica
        The training that reports.
    metric : str
        Its name in the framework's logs.
    mode : {"min", "max"}
        Whether lower or higher is better; with "max" the loss is minus the metric.

    Raises
    ------
    StudyError
        Another mode.

    Examples
    --------
    >>> from hyppo.training.replica import Task
    >>> replica = Replica(Task(trial=0, index=0, seed=7, params={}, directory="."))
    >>> monitor = Monitor(replica, "val_accuracy", "max")
    >>> monitor.report(0, 0.75)
    >>> monitor.hand_over([])
    >>> replica.result.loss
    -0.75
    """

    def __init__(self, replica: Replica, metric: str, mode: str) -> None:
        if mode not in ("min", "max"):
            raise StudyError(f'mode must be "min" or "max" (then the loss is minus {metric!r}), not {mode!r}')
        if mode == "min" and HIGHER_IS_BETTER.search(metric):
            warnings.warn(
                f'{metric!r} is minimised; if higher is better, say mode="max": the loss is then minus {metric!r}',
                category=HyppoWarning,
                stacklevel=3,
            )
        self.replica = replica
        self.metric = metric
        self.sign = 1.0 if mode == "min" else -1.0
        self.loss: float | None = None

    def begin(self) -> None:
        """A fit begins: refused where this training has its result already, or lacks what the study's target needs.

        Raises
        ------
        StudyError
            As `Replica.hand_over` would say after it.
        ObjectiveError
            As `check_target` does.
        """
        if self.replica.result is not None:
            self.replica.hand_over(self.replica.result)
        check_target(self.replica)

    def report(self, epoch: int, value: float) -> None:
        """The metric after `epoch` (counted from 0)."""
        self.loss = self.sign * float(value)
        self.replica.report(epoch, self.loss)

    def go_on(self, curve: Iterable[tuple[int, float]]) -> None:
        """An interrupted training goes on after the reports of `curve`.

        They are made once more: a rule for stopping early counts a training's reports and knows its lowest loss, and
        those of a run that was cut are void.
        """
        self.replica.curve.clear()
        for step, loss in curve:
            self.replica.report(step, loss)
            self.loss = loss

    def missing(self, logged: Iterable[str]) -> StudyError:
        """What to raise where the metric never came."""
        names = sorted(name for name in logged)
        there_are = f"logged were: {', '.join(names)}" if names else "nothing was logged"
        hint = (
            "; a val_ metric needs validation data"
            if self.metric.startswith("val") and not any(name.startswith("val") for name in names)
            else ""
        )
        return StudyError(
            f"the metric {self.metric!r} was never logged ({there_are}); say which one is the loss with monitor={hint}"
        )

    def hand_over(self, logged: Iterable[str]) -> None:
        """Leave the last reported loss as the result, NaN and infinity as they are: the core makes them a failure.

        Raises
        ------
        StudyError
            The metric was never reported; `logged` are the names that were.
        """
        if self.loss is None:
            raise self.missing(logged)
        self.replica.hand_over(Result(self.loss))
