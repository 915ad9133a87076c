"""Results of a study: the recommended configuration, and the trials as a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.config import ENSEMBLE_LOSS, Config, word_of
from hyppo.errors import StudyError
from hyppo.space import FloatArray
from hyppo.stats import LossStats
from hyppo.text import counted, interval, number, printable
from hyppo.training.replica import Goal
from hyppo.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

    from hyppo.study import Study

LOSS = Goal("loss")  # of a study whose losses no callback monitored


def goal_of(study: "Study") -> Goal:
    """The metric that a callback monitored, whose name and sign texts and figures show; else the loss."""
    return LOSS if study.target == ENSEMBLE_LOSS else study.goal or LOSS


def estimate_of(goal: Goal, config: Config) -> Goal:
    """The number that a study estimates, by its name and sign, if its losses are those of `goal`.

    >>> estimate_of(Goal("val_acc", "max"), Config(score="median")).metric
    'median val_acc'
    """
    return Goal(config.quantity(goal.metric), goal.mode)


def estimated(study: "Study") -> str:
    """The quantity that `best.estimate` estimates, in words."""
    if study.target == ENSEMBLE_LOSS:
        return f"ensemble loss of {counted(study.config.ensemble_size, 'fresh network')}"
    goal = estimate_of(goal_of(study), study.config)
    return f"{printable(goal.metric)} of {'fresh trainings' if study.config.other_score else 'a fresh training'}"


@dataclass(frozen=True, slots=True)
class Best:
    """The recommended configuration.

    Its replicas are those of all trials with these parameters: results that were added one by one are several trials.

    Attributes
    ----------
    number : int
        Number of the trial.
    params : dict
    estimate : float
        Posterior mean of the loss of a fresh training. The observed `mean` of a configuration that was chosen for its
        low losses is too optimistic on average. With the target "ensemble_loss", of the loss of a fresh ensemble of as
        many networks as the study gives a point at most.
    mean : float
        Mean loss observed over its replicas.
    spread : float or None
        Sample standard deviation over its replicas; None for one replica.
    replicas : int
        Replicas with a loss.
    failed : int
        Its replicas that failed.
    interval : (float, float)
        90 % interval around `estimate` for the mean loss of training this configuration afresh (of the ensemble's loss
        if that is the target); infinite if too little is known.
    reason : str
        Why this trial is recommended and, if another one has the lowest mean, why not that one.
    ensemble_loss : float or None
        l, the loss of the replicas' mean prediction; None without a criterion or predictions.
    loss_interval : (float, float) or None
        [l - 2u, l + 2u], u the standard deviation of the losses of single networks and dropout passes.
    checkpoints : tuple of pathlib.Path
        Trained networks of its replicas, where the trainings kept them; `load_ensemble` of the integrations loads them.
    goal : Goal
        The number that the estimate is of, by name: the metric, "median loss" or the like if the study has another
        score, "ensemble loss" if that is the target; `print(best)` shows it in its own sign.
    observed : float or None
        The observed score, if the study's score is not the mean.
    """

    number: int
    params: dict[str, Any]
    estimate: float
    mean: float
    spread: float | None
    replicas: int
    failed: int
    interval: tuple[float, float]
    reason: str
    ensemble_loss: float | None = None
    loss_interval: tuple[float, float] | None = None
    checkpoints: tuple[Path, ...] = ()
    goal: Goal = LOSS
    observed: float | None = None

    @property
    def width(self) -> float:
        """Width of the interval; infinite if it is unknown."""
        return self.interval[1] - self.interval[0]

    def __str__(self) -> str:
        around = interval(*self.goal.interval(*self.interval))
        estimate = number(self.goal.shown(self.estimate), 5, self.width)
        spread = "" if self.spread is None else f" ± {self.spread:.3g}"
        failed = f", {self.failed} failed" if self.failed else ""
        if self.ensemble_loss is not None:
            failed += f"; loss of their mean prediction {self.ensemble_loss:.5g}"
        return (
            f"trial {self.number}: {self.params}\n"
            f"expected {self.goal.metric} {estimate} ({around})\n"
            f"observed {observed(self, 5)}{spread} over {counted(self.replicas, 'training')}{failed}"
        )

    def _repr_html_(self) -> str:
        from hyppo.report.notebook import best_html

        return best_html(self)


def judged_by(study: "Study") -> str:
    """The settings by which a study judges its trials, as text."""
    score = f", score {word_of(study.config.score)}" if study.config.other_score else ""
    return f"risk {study.risk:g}, target {study.target}{score}"


def observed(best: Best, digits: int, label: bool = False) -> str:
    """The observed mean as text, after the observed score if that is another number; the mean then has its `label`.

    >>> best = Best(3, {}, 0.11, 1.886, 3.98, 5, 0, (0.1, 0.12), "", goal=Goal("median loss"), observed=0.11)
    >>> observed(best, 5)
    'median loss 0.11, mean 1.886'
    """
    mean = number(best.goal.shown(best.mean), digits, best.width)
    if best.observed is None:
        return f"mean {mean}" if label else mean
    score = number(best.goal.shown(best.observed), digits, best.width)
    return f"{printable(best.goal.metric)} {score}, mean {mean}"


def frame_of(trials: Iterable[Trial]) -> "pd.DataFrame":
    """One row a trial; see `Study.to_frame`.

    Raises
    ------
    StudyError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise StudyError("to_frame needs pandas: pip install 'hyppo-uq[report]'") from None
    all_trials = list(trials)
    confirmed = [LossStats.of(r.loss for r in t.confirmations if r.loss is not None) for t in all_trials]
    columns = {
        "number": [t.number for t in all_trials],
        "name": [t.name for t in all_trials],
        "state": [str(t.state) for t in all_trials],
        "mean": _floats(t.mean for t in all_trials),
        "spread": _floats(t.spread for t in all_trials),
        "replicas": [t.stats.n if t.stats else 0 for t in all_trials],
        "confirmations": [again.n if again else 0 for again in confirmed],
        "confirmation_mean": _floats(again.mean if again else None for again in confirmed),
        "ensemble_loss": _floats(t.ensemble_loss for t in all_trials),
        "u": _floats(t.losses.std if t.losses else None for t in all_trials),
        "start": _floats(min((r.start for r in t.replicas if r.start is not None), default=None) for t in all_trials),
        "end": _floats(max((r.end for r in t.replicas if r.end is not None), default=None) for t in all_trials),
    }
    rows = [
        {
            **{f"params.{name}": value for name, value in t.params.items()},
            **{f"metrics.{name}": value for name, value in t.metrics.items()},
        }
        for t in all_trials
    ]
    return pd.concat([pd.DataFrame(columns), pd.DataFrame(rows)], axis=1)


def _floats(values: Iterable[float | None]) -> FloatArray:
    """Numbers, with NaN for those that are unknown: a column of numbers even if all are unknown."""
    return np.array(list(values), dtype=float)
