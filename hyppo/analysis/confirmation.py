"""Whether a recommendation holds in trainings with new seeds."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyppo._version import __version__
from hyppo.analysis.comparison import LEVEL, Comparison, compare, compare_ensembles
from hyppo.config import CONFIRMATION, ENSEMBLE_LOSS, MEAN, Config, word_of
from hyppo.errors import StudyError
from hyppo.results import goal_of
from hyppo.search.ensembles import ensemble_stats
from hyppo.stats import LossStats, summary
from hyppo.stats import freedom as freedom_of
from hyppo.text import between, counted, number, printable
from hyppo.training.replica import Goal
from hyppo.trial import ReplicaRecord, State, Trial

if TYPE_CHECKING:
    from hyppo.results import Best
    from hyppo.study import Study

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
        90 % interval of the mean, of another `score` of the study, or of `ensemble_loss` if that is the target;
        infinite for one training.
    predicted : (float, float)
        The 90 % interval that the search had predicted, `study.best.interval`.
    held : bool
        Whether the two intervals meet.
    versus : Comparison or None
        The trial compared with another one, trained as often with new seeds; None without another one.
    text : str
        A paragraph for the methods section of a paper.
    ensemble_loss : float or None
        With the target "ensemble_loss", the loss of an ensemble of new networks, as many as the study gives a point at
        most: what `predicted` is for.
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
    ensemble_loss: float | None = None

    def __str__(self) -> str:
        return self.text


def confirmed(trial: Trial, count: int) -> dict[int, float]:
    """Losses of the first `count` confirmations of a trial, by index."""
    return {r.index: r.loss for r in trial.confirmations if r.loss is not None and r.index < CONFIRMATION + count}


def _records(trial: Trial, count: int) -> list[ReplicaRecord]:
    """Records of the first `count` confirmations of a trial."""
    return [r for r in trial.confirmations if r.index < CONFIRMATION + count]


def _stats(trial: Trial, count: int, config: Config) -> LossStats | None:
    """Number, value and standard deviation of the first `count` confirmations: of the score, or of the ensemble."""
    if config.target == ENSEMBLE_LOSS:
        return ensemble_stats(_records(trial, count), config.ensemble_size)
    return summary(confirmed(trial, count).values(), config.score)


def interval_of(stats: LossStats | None, level: float = LEVEL, freedom: float | None = None) -> tuple[float, float]:
    """Interval of a mean by Student's t; infinite for fewer than two losses.

    `freedom` are its degrees of freedom, by default n - 1.
    """
    from scipy.special import stdtrit

    if stats is None or stats.std is None:
        return -math.inf, math.inf
    half = float(stdtrit(freedom or stats.n - 1, 0.5 + level / 2)) * stats.std / math.sqrt(stats.n)
    return stats.mean - half, stats.mean + half


def _interval(trial: Trial, count: int, config: Config, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the number that a trial is judged by, from its first `count` confirmations."""
    stats, losses = _stats(trial, count, config), confirmed(trial, count)
    if stats is None or config.target == ENSEMBLE_LOSS:
        return interval_of(stats, level)
    by_fold = _by_fold(losses, config)
    if config.score != MEAN or not by_fold:
        return interval_of(stats, level, freedom_of(stats.n, config.score) if stats.n > 1 else None)
    # All folds are in each mean: their effects are no part of its error.
    parts = [part for part in map(LossStats.of, by_fold) if part is not None]
    freedom, folds = stats.n - len(parts), len(parts)
    squares = math.fsum((part.n - 1) * (part.std or 0.0) ** 2 for part in parts)
    variance = squares / freedom * math.fsum(1.0 / part.n for part in parts) / folds**2
    mean = math.fsum(part.mean for part in parts) / folds
    return interval_of(LossStats(stats.n, mean, math.sqrt(variance * stats.n)), level, freedom)


def _by_fold(losses: dict[int, float], config: Config) -> list[list[float]]:
    """Losses of each fold if all folds have two at least, else none."""
    folds: dict[int, list[float]] = {}
    for index, loss in losses.items():
        folds.setdefault(config.block_of(index), []).append(loss)
    if config.folds is None or len(folds) < config.folds or min(map(len, folds.values())) < 2:
        return []
    return list(folds.values())


def _compared(trials: Sequence[Trial], count: int, config: Config) -> Comparison:
    """Two trials compared by their first `count` confirmations."""
    one, two = trials
    if config.target == ENSEMBLE_LOSS:
        return compare_ensembles(_records(one, count), _records(two, count), config)
    return compare(confirmed(one, count), confirmed(two, count), [], config)


def is_clear(trials: Sequence[Trial], count: int, predicted: tuple[float, float], config: Config) -> bool:
    """Whether further confirmations would hardly change the verdict.

    With two trials: one is better with probability CLEAR. With one: its mean is inside or outside of the predicted
    interval with CERTAIN confidence.
    """
    losses = [confirmed(trial, count) for trial in trials]
    if min(map(len, losses)) < 2:
        return False
    if len(losses) == 2:
        probability = _compared(trials, count, config).probability
        return max(probability, 1.0 - probability) >= CLEAR
    low, high = _interval(trials[0], count, config, CERTAIN)
    return high < predicted[0] or low > predicted[1] or (predicted[0] <= low and high <= predicted[1])


def confirmation_of(
    study: "Study", trials: Sequence[Trial], count: int, predicted: tuple[float, float]
) -> Confirmation:
    """The verdict on the first of `trials` after `count` confirmations, against the second if there is one.

    Raises
    ------
    StudyError
        All confirmations of a trial failed, or the loss of its ensemble is unknown although it is the target.
    """
    for trial in trials:
        if not confirmed(trial, count):
            why = next((str(r.failure) for r in trial.confirmations if r.state is State.FAILED), "none ended")
            raise StudyError(f"no confirmation of trial {trial.number} has a loss: {why}")
        if _stats(trial, count, study.config) is None:
            raise StudyError(
                f"the loss of the mean prediction of the confirmations of trial {trial.number} is unknown, and it is "
                "the study's target: the notices of the run say why"
            )
    losses, found = confirmed(trials[0], count), _stats(trials[0], count, study.config)
    stats = LossStats.of(losses.values())
    assert stats is not None
    assert found is not None
    interval = _interval(trials[0], count, study.config)
    held = interval[0] <= predicted[1] and predicted[0] <= interval[1]
    versus = _compared(trials, count, study.config) if len(trials) > 1 else None
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
        found.mean if study.target == ENSEMBLE_LOSS else None,
    )


def recommendation_confirmed(study: "Study", best: "Best") -> Confirmation | None:
    """The verdict on the confirmations that the recommended trial has, or None if their loss is unknown.

    If other trials were confirmed at least as often, the first of them is compared with it.
    """
    own = study.trials[best.number]
    count = len(own.confirmations)
    if _stats(own, count, study.config) is None:
        return None
    others = [
        t
        for t in study.trials
        if t.number != own.number and len(t.confirmations) >= count and _stats(t, count, study.config) is not None
    ]
    return confirmation_of(study, [own, *others[:1]], count, best.interval)


def in_short(found: Confirmation, goal: Goal, config: Config) -> str:
    """The verdict in one line, in the sign of the metric; `goal` as in `Best`.

    >>> found = Confirmation(3, (0.2, 0.4), 0.3, 0.141, (-0.33, 0.93), (0.1, 0.35), True, None, "")
    >>> in_short(found, Goal("loss"), Config())
    'mean 0.3, spread 0.141, over 2 fresh trainings: the prediction holds'
    """
    width = found.interval[1] - found.interval[0]
    trained = ""
    if config.other_score and (value := summary(found.losses, config.score)) is not None:
        trained = f"{printable(goal.metric)} {number(goal.shown(value.mean), 6, width)}, "
    trained += f"mean {number(goal.shown(found.mean), 6, width)}, spread {number(found.spread)}, over " + counted(
        len(found.losses), "fresh training"
    )
    if found.ensemble_loss is not None:
        trained += f", loss of their ensemble {number(found.ensemble_loss, 6)}"
    if not math.isfinite(found.predicted[1] - found.predicted[0]):
        return f"{trained}: no interval was predicted"
    return f"{trained}: the prediction {'holds' if found.held else 'does not hold'}"


def _measured(trial: Trial, count: int, config: Config, goal: Goal) -> str:
    """The result of a trial's confirmations in words, in the sign of the metric."""
    stats, value = LossStats.of(confirmed(trial, count).values()), _stats(trial, count, config)
    assert stats is not None
    assert value is not None
    low, high = goal.interval(*_interval(trial, count, config))
    around, mean = between(low, high), number(goal.shown(value.mean), 4, high - low)
    if config.target == ENSEMBLE_LOSS:
        single = "one network" if stats.n == 1 else f"{stats.n} networks with a mean loss of {stats.mean:.4g}"
        return (
            f"{mean} for the mean prediction of {counted(config.ensemble_size, 'network')} (from {single}, "
            f"90 % interval {around})"
        )
    if stats.std is None:
        return f"{mean} (one training)"
    name = word_of(config.score)
    return (
        f"{mean} ({name} of {stats.n} trainings, standard deviation {stats.std:.2g}, 90 % interval of the "
        f"{name} {around})"
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
    goal = goal_of(study)
    params = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
    named = f'"{trial.name}", ' if trial.name else ""
    failed = sum(r.state is State.FAILED and r.index < CONFIRMATION + count for r in trial.confirmations)
    sentences = [
        f"The recommended configuration ({named}trial {trial.number} of {len(study.trials)}: {params}) was trained "
        f"{counted(len(losses) + failed, 'more time')} with seeds that the search had not used.",
        f"Its {printable(goal.metric)} was {_measured(trial, count, study.config, goal)}.",
    ]
    if failed:
        sentences.append(f"Of these trainings {failed} failed and {'has' if failed == 1 else 'have'} no loss.")
    if math.isfinite(predicted[1] - predicted[0]):
        verdict = "which the new trainings confirm" if held else "which the new trainings do not confirm"
        sentences.append(f"The search had predicted {between(*goal.interval(*predicted))} (90 %), {verdict}.")
    if versus is not None:
        other = trials[1]
        name = f'"{other.name}" (trial {other.number})' if other.name else f"trial {other.number}"
        low, high = goal.interval(*versus.interval)
        theirs = _measured(other, count, study.config, goal)
        difference = number(goal.shown(versus.difference), 4, high - low)
        in_turn = _overlap(_records(trial, count), _records(other, count))
        trained = ", trained as often and in turn with it," if in_turn else " in as many trainings"
        the_two = f"two {word_of(study.config.score)}s" if study.config.other_score else "two"
        sentences.append(
            f"The {printable(goal.metric)} of {name}{trained} was {theirs}. The "
            f"difference of the {the_two} is {difference} (90 % interval {between(low, high)}): the recommended "
            f"configuration is the better one with probability {versus.probability:.3g}."
        )
    sentences.append(
        f"Root seed {study.seed}, confirmations 0 to {count - 1}; {_versions(study, _records(trial, count))}."
    )
    return " ".join(sentences)


def _overlap(one: Sequence[ReplicaRecord], two: Sequence[ReplicaRecord]) -> bool:
    """Whether two series of trainings ran at the same time."""
    (start, end), (other_start, other_end) = _times(one), _times(two)
    return start < other_end and other_start < end


def _times(records: Sequence[ReplicaRecord]) -> tuple[float, float]:
    """First start and last end of trainings; infinitely late and early if unknown."""
    starts = [r.start for r in records if r.start is not None]
    ends = [r.end for r in records if r.end is not None]
    return min(starts, default=math.inf), max(ends, default=-math.inf)


def _versions(study: "Study", records: Sequence[ReplicaRecord]) -> str:
    """The versions of the session that trained the last of `records`; this process may be another one."""
    end = _times(records)[1]
    hyppo, python = __version__, platform.python_version()
    for session in study.provenance:
        if session["time"] <= end:
            hyppo = session.get("packages", {}).get("hyppo", hyppo)
            python = session.get("python", python)
    return f"hyppo {hyppo}, Python {python}"
