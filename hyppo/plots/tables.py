"""The data of the figures, as rows; no drawing library is needed here.

All text that comes from the study is escaped by `printable`, so that a picture, a page and a terminal show the same.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hyppo.analysis.front import Front
from hyppo.errors import StudyError
from hyppo.plots.style import LOSS_DIGITS, rounded
from hyppo.results import goal_of
from hyppo.space import Choice, FloatArray, Ordinal
from hyppo.study import Study
from hyppo.text import printable, shown
from hyppo.training.replica import Goal
from hyppo.trial import ReplicaRecord, State, Trial, records_of

POINTS = 2000  # trainings drawn one by one
LINES = 400  # trials drawn as a line each
CURVES = 60  # learning curves
BARS = 3000  # trainings in a timeline
PAUSE = 600.0  # seconds without any training, from which the run counts as interrupted

Row = dict[str, Any]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly, the first and the last among them.

    >>> thinned(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def of_all(drawn: int, all_of_them: int, noun: str) -> str:
    """A note if not everything is drawn; empty otherwise."""
    return "" if drawn >= all_of_them else f"{drawn} of {all_of_them} {noun} are drawn"


def value_of(trial: Trial, study: Study) -> float | None:
    """The number of a trial that the study minimises, without its risk: such as the mean of its losses."""
    observed = trial.observed(study.target, study.config.score)
    return None if observed is None else observed.mean


def as_shown(goal: Goal, loss: float | None) -> float | None:
    """A loss in the metric's own sign."""
    return None if loss is None else rounded(goal.shown(loss), LOSS_DIGITS)


def loss_name(study: Study) -> str:
    """The axis title for `value_of`, in the metric's own sign."""
    name = printable(goal_of(study).metric)
    quantity = study.config.quantity(name)
    return f"mean {name}" if quantity == name else quantity


_BEST: WeakKeyDictionary[Study, tuple[tuple[Trial, ...], int | None]] = WeakKeyDictionary()


def best_number(study: Study) -> int | None:
    """Number of the recommended trial, computed once for all figures; None if there is none yet."""
    trials = study.trials
    known = _BEST.get(study)
    if known is None or len(known[0]) != len(trials) or any(a is not b for a, b in zip(known[0], trials, strict=True)):
        try:
            known = (trials, study.best.number)
        except StudyError:
            known = (trials, None)
        _BEST[study] = known
    return known[1]


def metrics_of(trial: Trial) -> dict[str, float]:
    """The metrics of a trial that are finite numbers."""
    return {name: value for name, value in trial.metrics.items() if math.isfinite(value)}


def ended(study: Study) -> list[tuple[Trial, ReplicaRecord]]:
    """Replicas with a loss, in the order in which they ended."""
    known = [(t, r) for t in study.trials for r in t.replicas if r.loss is not None]
    return sorted(known, key=lambda pair: (pair[1].end or 0.0, pair[0].number, pair[1].index))


# -- convergence ------------------------------------------------------------------------------------------------------


def as_of(study: Study, pairs: Sequence[tuple[Trial, ReplicaRecord]]) -> Study:
    """The study as it was when only these replicas had ended."""
    kept: dict[int, list[ReplicaRecord]] = {}
    for trial, record in pairs:
        kept.setdefault(trial.number, []).append(record)
    earlier = Study(study.space)
    earlier._config = study.config
    earlier._set_up()
    earlier._folders = study._folders
    earlier._history.trials = [
        replace(
            t,
            replicas=tuple(kept.get(t.number, ())),
            settled=t.settled if t.number in kept else None,
            ensemble_loss=next(
                (r.ensemble_loss for r in reversed(kept.get(t.number, ())) if r.ensemble_loss is not None), None
            ),
        )
        for t in study.trials
    ]
    return earlier


def estimates(study: Study) -> list[Row]:
    """The recommendation after an increasing number of trainings: `n`, `estimate`, `low`, `high`, `trial`, `mean`."""
    pairs = ended(study)
    most = 24 if len(pairs) <= 600 else 10 if len(pairs) <= 6000 else 5
    if not pairs:
        return []
    cuts = np.unique(np.geomspace(min(4, len(pairs)), len(pairs), most).astype(int))
    rows = []
    for cut in cuts:
        try:
            best = (study if cut == len(pairs) else as_of(study, pairs[:cut])).best
        except StudyError:
            continue
        low, high = best.goal.interval(*best.interval)
        rows.append(
            {
                "n": int(cut),
                "estimate": as_shown(best.goal, best.estimate),
                "low": rounded(low, LOSS_DIGITS),
                "high": rounded(high, LOSS_DIGITS),
                "trial": best.number,
                "mean": as_shown(best.goal, best.mean),
            }
        )
    return rows


# -- trials -----------------------------------------------------------------------------------------------------------


def in_space(study: Study) -> list[Trial]:
    """The trials that are points of the space; those from before it became narrower may not be."""
    return [t for t in study.trials if t.params in study.space]


def positions(study: Study, trials: Sequence[Trial]) -> FloatArray:
    """Coordinates of trials in the unit cube, (n, d), each parameter spread over its whole height."""
    if not trials:
        return np.empty((0, study.space.dimension))
    unit = study.space.encode_all([t.params for t in trials])
    ends = np.array([[p.unit(np.array([0]))[0], p.unit(np.array([p.levels - 1]))[0]] for p in _parameters(study)])
    width = np.where(ends[:, 1] > ends[:, 0], ends[:, 1] - ends[:, 0], 1.0)
    return np.asarray((unit - ends[:, 0]) / width)


def _parameters(study: Study) -> list[Any]:
    return [study.space.parameters[name] for name in study.space.names]


def is_listed(parameter: Any) -> bool:
    """Whether the values of a parameter are a list and not a range."""
    return isinstance(parameter, Choice | Ordinal)


def worth_drawing(study: Study, trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` trials: half of them the best, the rest evenly over the others."""
    if len(trials) <= most:
        return list(trials)
    order = sorted(trials, key=study.score)
    chosen = order[: most // 2] + thinned(order[most // 2 :], most - most // 2)
    return sorted(chosen, key=lambda t: t.number)


def trial_rows(study: Study, trials: Sequence[Trial]) -> list[Row]:
    """One row a trial: `trial`, `loss`, `spread`, `replicas`, parameters as `p0`, `p1`, ..., metrics as `m0`, ..."""
    best, names, goal = best_number(study), metric_names(study), goal_of(study)
    rows = []
    for t in trials:
        metrics = metrics_of(t)
        rows.append(
            {
                "trial": t.number,
                "loss": as_shown(goal, value_of(t, study)),
                "mean": as_shown(goal, t.mean),
                "spread": rounded(t.spread),
                "replicas": t.stats.n if t.stats else 0,
                "best": t.number == best,
                **{f"p{i}": cell(study, name, t) for i, name in enumerate(study.space.names)},
                **{f"m{i}": rounded(metrics.get(name)) for i, name in enumerate(names)},
            }
        )
    return rows


def front_rows(study: Study, front: Front, field: str) -> list[Row]:
    """The trials of a front of loss and a metric as `trial`, `loss`, `low`, `high`, and the metric as `field`."""
    goal = goal_of(study)
    rows = []
    for t in front:
        low, high = goal.interval(*t.intervals[0])
        rows.append(
            {
                "trial": t.number,
                "loss": as_shown(goal, t.values[0]),
                "low": rounded(low, LOSS_DIGITS),
                "high": rounded(high, LOSS_DIGITS),
                field: rounded(t.values[1]),
            }
        )
    return rows


def cell(study: Study, name: str, trial: Trial) -> Any:
    """A parameter's value as a figure takes it: a number, or text."""
    value = trial.params[name]
    if is_listed(study.space.parameters[name]) or isinstance(value, str | bool):
        return shown(value)
    return rounded(float(value))


def metric_names(study: Study) -> list[str]:
    """Names of the metrics of all trials, in the order of their first use."""
    return list(dict.fromkeys(name for t in study.trials for name in metrics_of(t)))


def label_of(name: str) -> str:
    """A parameter's or metric's name on an axis."""
    return printable(name)


# -- trainings --------------------------------------------------------------------------------------------------------


def curve_rows(study: Study) -> tuple[list[Row], str]:
    """Learning curves: `line`, `kind` (recommended, other, stopped early), `trial`, `replica`, `step`, `loss`; note."""
    best, goal = best_number(study), goal_of(study)
    curves = [(t, r) for t in study.trials for r in t.replicas if len(r.curve) > 1]
    own = [pair for pair in curves if pair[0].number == best]
    others = [pair for pair in curves if pair[0].number != best]
    stopped = [pair for pair in others if pair[1].state is State.PRUNED]
    whole = [pair for pair in others if pair[1].state is not State.PRUNED]
    some = thinned(stopped, max(CURVES // 2, CURVES - len(whole)))
    drawn = [*some, *thinned(whole, CURVES - len(some)), *own]
    rows = []
    for t, r in drawn:
        kind = "stopped early" if r.state is State.PRUNED else "other"
        kind = "recommended" if t.number == best else kind
        rows += [
            {"line": f"{t.number}.{r.index}", "kind": kind, "trial": t.number, "replica": r.index, "step": step,
             "loss": as_shown(goal, loss)}
            for step, loss in thinned(r.curve, 100)
        ]  # fmt: skip
    return rows, of_all(len(drawn), len(curves), "learning curves")


def timeline_rows(study: Study) -> tuple[list[Row], str, float | None]:
    """Trainings by host and lane: `lane`, `start`, `end` (hours since the first), `state`, ...; a note; utilisation.

    A study file knows hosts and times. Lanes are the fewest rows on which no two trainings of a host overlap, which is
    the number that the host trained at a time. Pauses longer than PAUSE do not count in the utilisation.
    """
    known = [
        (t, r)
        for t in study.trials
        for r in t.replicas
        if r.start is not None and r.end is not None and r.end >= r.start
    ]
    if not known:
        return [], "", None
    known.sort(key=lambda pair: (pair[1].start or 0.0, pair[0].number, pair[1].index))
    first, goal = min(r.start or 0.0 for _, r in known), goal_of(study)
    free: dict[str, list[float]] = {}
    rows = []
    for t, r in known:
        assert r.start is not None
        assert r.end is not None
        lanes = free.setdefault(r.host, [])
        lane = next((i for i, until in enumerate(lanes) if until <= r.start + 1e-3), len(lanes))
        lanes[lane : lane + 1] = [r.end]
        rows.append(
            {
                "lane": f"{printable(r.host) or 'host'} {lane + 1}",
                "start": rounded((r.start - first) / 3600.0),
                "end": rounded((r.end - first) / 3600.0),
                "state": r.state.value,
                "trial": t.number,
                "replica": r.index,
                "seconds": rounded(r.end - r.start, 4),
                "loss": as_shown(goal, r.loss),
            }
        )
    busy, span, until = 0.0, 0.0, first
    for _, r in known:
        start, end = r.start or 0.0, r.end or 0.0
        busy += end - start
        paused = start - until > PAUSE
        span += max(end - (start if paused else until), 0.0)
        until = max(until, end)
    lanes_in_all = sum(map(len, free.values()))
    used = busy / (span * lanes_in_all) if span > 0.0 else None
    drawn = thinned(rows, BARS)
    return drawn, of_all(len(drawn), len(rows), "trainings"), used


def failure_rows(study: Study) -> tuple[list[Row], dict[str, int]]:
    """Trials of the space with a failed training as `trial`, `kind`, `message`; and the number of failures by kind."""
    counts: dict[str, int] = {}
    rows: dict[int, Row] = {}
    for t in in_space(study):
        for r in records_of(t):
            if r.failure is None:
                continue
            kind = printable(r.failure.type)
            counts[kind] = counts.get(kind, 0) + 1
            rows[t.number] = {"trial": t.number, "kind": kind, "message": printable(r.failure.message)[:200]}
    return list(rows.values()), dict(sorted(counts.items(), key=lambda item: -item[1]))


# -- the surrogate ----------------------------------------------------------------------------------------------------


def spread_study(study: Study) -> Study:
    """A study in memory whose losses are the logarithms of this one's spreads.

    Raises
    ------
    StudyError
        Fewer than eight trials have a spread.
    """
    known = thinned([t for t in in_space(study) if t.spread], 1000)
    if len(known) < 8:
        raise StudyError(f"only {len(known)} trials have a spread; at least 8 are needed to model it")
    other = Study(study.space, seed=study.seed, replicas=1)
    for t in known:
        assert t.spread is not None
        other.add(t.params, math.log(t.spread))
    return other
