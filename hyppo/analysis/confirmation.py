"""Whether a recommendation holds in trainings with new seeds."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyppo._version import __version__
from hyppo.analysis.comparison import LEVEL, Comparison, compare
from hyppo.config import CONFIRMATION, MEAN, MEDIAN, TRIMMED, Config
from hyppo.errors import StudyError
from hyppo.search.blocks import Losses
from hyppo.stats import LossStats, Score, summary
from hyppo.text import counted, number
from hyppo.training.replica import Goal
from hyppo.trial import State, Trial

if TYPE_CHECKING:
    from hyppo.results import Best
    from hyppo.study import Study

WORDS = {MEAN: "mean", MEDIAN: "median", TRIMMED: "trimmed mean"}
CLEAR = 0.995  # probability from which a comparison is clear; it is looked at several times
CERTAIN = 0.99  # level of the interval that is compared with the predicted one, for the same reason


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The result of training a trial with new seeds.

    Attributes
    ----------
    number : int
        Number of the trial.
    losses : tuple of float
        Of the trainings that succeeded, in the order of their seeds.
    mean : float
        Their mean.
    spread : float or None
        Their sample standard deviation; None for one training.
    interval : (float, float)
        90 % interval of the mean, or of another `score` of the study; infinite for one training.
    predicted : (float, float)
        The 90 % interval that the search had predicted, `study.best.interval`.
    held : bool
        Whether the two intervals meet.
    versus : Comparison or None
        The trial compared with another one, trained as often with new seeds.
    text : str
        A paragraph for the methods section of a paper.
    """

    number: int
    losses: tuple[float, ...]
    mean: float
    spread: float | None
    interval: tuple[float, float]
    predicted: tuple[float, float]
    held: bool
    versus: Comparison | None
    text: str

    def __str__(self) -> str:
        return self.text


def confirmed(trial: Trial, count: int) -> dict[int, float]:
    """Losses of the first `count` confirmations of a trial, by index."""
    return {r.index: r.loss for r in trial.confirmations if r.loss is not None and r.index < CONFIRMATION + count}


def interval_of(losses: Losses, score: Score = MEAN, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the score by Student's t; infinite for fewer than two losses."""
    from scipy.special import stdtrit

    stats = summary(losses.values(), score)
    if stats is None or stats.std is None:
        return -math.inf, math.inf
    half = float(stdtrit(stats.n - 1, 0.5 + level / 2)) * stats.std / math.sqrt(stats.n)
    return stats.mean - half, stats.mean + half


def is_clear(trials: Sequence[Trial], count: int, predicted: tuple[float, float], config: Config) -> bool:
    """Whether further confirmations would hardly change the verdict.

    With two trials: one is better with probability CLEAR. With one: its mean is inside or outside of the predicted
    interval with CERTAIN confidence.
    """
    losses = [confirmed(trial, count) for trial in trials]
    if min(map(len, losses)) < 2:
        return False
    if len(losses) == 2:
        probability = compare(losses[0], losses[1], [], config).probability
        return max(probability, 1.0 - probability) >= CLEAR
    low, high = interval_of(losses[0], config.score, CERTAIN)
    return high < predicted[0] or low > predicted[1] or (predicted[0] <= low and high <= predicted[1])


def confirmation_of(
    study: "Study", trials: Sequence[Trial], count: int, predicted: tuple[float, float]
) -> Confirmation:
    """The verdict on the first of `trials` after `count` confirmations, against the second if there is one.

    Raises
    ------
    StudyError
        All confirmations of a trial failed.
    """
    for trial in trials:
        if not confirmed(trial, count):
            why = next((str(r.failure) for r in trial.confirmations if r.state is State.FAILED), "none ended")
            raise StudyError(f"no confirmation of trial {trial.number} has a loss: {why}")
    losses, score = confirmed(trials[0], count), study.config.score
    stats = LossStats.of(losses.values())
    assert stats is not None
    interval = interval_of(losses, score)
    held = interval[0] <= predicted[1] and predicted[0] <= interval[1]
    versus = compare(losses, confirmed(trials[1], count), [], study.config) if len(trials) > 1 else None
    text = _paragraph(study, trials, count, predicted, held, versus)
    return Confirmation(
        trials[0].number,
        tuple(losses.values()),
        stats.mean,
        stats.std,
        interval,
        predicted,
        held,
        versus,
        text,
    )


def recommendation_confirmed(study: "Study", best: "Best") -> Confirmation | None:
    """The verdict on the confirmations that the recommended trial has, or None if none of them has a loss.

    If other trials were confirmed, the first of them is compared with it.
    """
    own = study.trials[best.number]
    count = len(own.confirmations)
    if not confirmed(own, count):
        return None
    others = [t for t in study.trials if t.number != own.number and confirmed(t, count)]
    return confirmation_of(study, [own, *others[:1]], count, best.interval)


def in_short(found: Confirmation, goal: Goal) -> str:
    """The verdict in one line, in the sign of the metric.

    >>> found = Confirmation(3, (0.2, 0.4), 0.3, 0.141, (-0.33, 0.93), (0.1, 0.35), True, None, "")
    >>> in_short(found, Goal("loss"))
    'mean 0.3, spread 0.141, over 2 fresh trainings: the prediction holds'
    """
    trained = f"mean {number(goal.shown(found.mean), 6)}, spread {number(found.spread)}, over " + counted(
        len(found.losses), "fresh training"
    )
    if not math.isfinite(found.predicted[1] - found.predicted[0]):
        return f"{trained}: no interval was predicted"
    return f"{trained}: the prediction {'holds' if found.held else 'does not hold'}"


def _measured(losses: Losses, score: Score) -> str:
    stats, value = LossStats.of(losses.values()), summary(losses.values(), score)
    assert stats is not None
    assert value is not None
    if stats.std is None:
        return f"{value.mean:.4g} (one training)"
    low, high = interval_of(losses, score)
    name = WORDS.get(score, "score") if isinstance(score, str) else "score"
    return (
        f"{value.mean:.4g} ({name} of {stats.n} trainings, standard deviation {stats.std:.2g}, 90 % interval of the "
        f"{name} {low:.4g} to {high:.4g})"
    )


def _paragraph(
    study: "Study",
    trials: Sequence[Trial],
    count: int,
    predicted: tuple[float, float],
    held: bool,
    versus: Comparison | None,
) -> str:
    """The verdict in words."""
    trial, losses = trials[0], confirmed(trials[0], count)
    params = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
    failed = sum(r.state is State.FAILED and r.index < CONFIRMATION + count for r in trial.confirmations)
    sentences = [
        f"The recommended configuration (trial {trial.number} of {len(study.trials)}: {params}) was trained "
        f"{counted(len(losses) + failed, 'more time')} with seeds that the search had not used.",
        f"Its loss was {_measured(losses, study.config.score)}.",
    ]
    if failed:
        sentences.append(f"Of these trainings {failed} failed and {'has' if failed == 1 else 'have'} no loss.")
    if math.isfinite(predicted[1] - predicted[0]):
        verdict = "which the new trainings confirm" if held else "which the new trainings do not confirm"
        sentences.append(f"The search had predicted {predicted[0]:.4g} to {predicted[1]:.4g} (90 %), {verdict}.")
    if versus is not None:
        other = trials[1]
        name = f'"{other.name}" (trial {other.number})' if other.name else f"trial {other.number}"
        low, high = versus.interval
        theirs = _measured(confirmed(other, count), study.config.score)
        sentences.append(
            f"The loss of {name}, trained as often and in turn with it, was {theirs}. The "
            f"difference of the two is {versus.difference:.4g} (90 % interval {low:.4g} to {high:.4g}): the "
            f"recommended configuration is the better one with probability {versus.probability:.3g}."
        )
    sentences.append(
        f"Root seed {study.seed}, confirmations 0 to {count - 1}; hyppo {__version__}, Python "
        f"{platform.python_version()}."
    )
    return " ".join(sentences)
