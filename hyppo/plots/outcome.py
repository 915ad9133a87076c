"""Whether the result holds: confirmation, sources of spread, and calibration of the predictions."""

from typing import Any

import numpy as np

from hyppo.analysis.sources import spread_by_source
from hyppo.arguments import takes_study
from hyppo.errors import StudyError
from hyppo.plots import tables
from hyppo.plots.style import (
    BLUE,
    GREY,
    HEIGHT,
    LOSS_DIGITS,
    ORANGE,
    RED,
    SKY,
    WIDTH,
    Figure,
    altair,
    coloured,
    data,
    finished,
    loss_scale,
    refuse_empty,
    rounded,
)
from hyppo.results import estimated, goal_of
from hyppo.study import Study
from hyppo.text import printable, shown
from hyppo.trial import Trial


@takes_study
def confirmation(study: Study) -> Figure:
    """Losses of confirmations beside those of the search, and the predicted interval of the recommendation.

    Picture: `docs/report/confirmation.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        No trial was confirmed.
    """
    alt = altair()
    confirmed = [t for t in study.trials if any(r.loss is not None for r in t.confirmations)]
    refuse_empty(confirmed, "no trial was confirmed; study.confirm(replicas=10) does")
    best, goal = study.best, goal_of(study)
    rows: list[dict[str, Any]] = [
        {"who": _called(t, best.number), "kind": kind, "replica": r.index, "loss": tables.as_shown(goal, r.loss)}
        for t in confirmed
        for kind, records in (("search", t.replicas), ("confirmation", t.confirmations))
        for r in records
        if r.loss is not None
    ]
    order = [_called(t, best.number) for t in confirmed]
    scale = loss_scale([row["loss"] for row in rows])
    x = alt.X("loss:Q", title=printable(goal.metric), scale=scale)
    y = alt.Y("who:N", title=None, sort=order)
    offset = alt.YOffset("kind:N", sort=["search", "confirmation"])
    kinds = coloured("kind", {"search": SKY, "confirmation": RED})
    tips = ["who:N", "kind:N", "replica:Q", alt.Tooltip("loss:Q", format=".6g")]
    points = alt.Chart(data(rows)).mark_tick(thickness=2.5).encode(x=x, y=y, yOffset=offset, color=kinds, tooltip=tips)
    layers = [points]
    if best.number in {t.number for t in confirmed} and np.all(np.isfinite(best.interval)):
        low, high = (rounded(end, LOSS_DIGITS) for end in best.goal.interval(*best.interval))
        band = [{"who": _called(study.trials[best.number], best.number), "low": low, "high": high}]
        predicted = alt.Chart(data(band)).mark_bar(opacity=0.25, color=BLUE)
        layers.insert(0, predicted.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", y=y))
    predicts = "mean of fresh trainings" if study.config.quantity(goal.metric) == goal.metric else estimated(study)
    return finished(
        alt.layer(*layers),
        f"Confirmation\nblue: 90 % interval that was predicted for the {predicts} of the recommended",
        f"{sum(row['kind'] == 'confirmation' for row in rows)} confirmations of {len(confirmed)} trials.",
        width=WIDTH,
        height=90 * len(confirmed),
    )


def _called(trial: Trial, best: int) -> str:
    name = f" ({shown(trial.name)})" if trial.name else ""
    return f"trial {trial.number}{name}" + (", recommended" if trial.number == best else "")


@takes_study
def sources(study: Study) -> Figure:
    """The spread of the loss by its source: the data that replicas share, and training.

    Picture: `docs/report/sources.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        Too few trials have several replicas.
    """
    alt = altair()
    found = spread_by_source(study)
    rows = [
        {"source": "data", "std": rounded(found.data, 4)},
        {"source": "training", "std": rounded(found.training, 4)},
        {"source": "both", "std": rounded(found.total, 4)},
    ]
    chart = (
        alt.Chart(data(rows))
        .mark_bar(color=BLUE, height={"band": 0.6})
        .encode(
            x=alt.X("std:Q", title="standard deviation of the loss", scale=alt.Scale(domainMin=0)),
            y=alt.Y("source:N", title=None, sort=[row["source"] for row in rows]),
            tooltip=["source:N", "std:Q"],
        )
    )
    note = (
        f"from {found.replicas} replicas of {found.trials} trials; data: split, fold; training: weights, order of the "
        "batches, hardware"
    )
    return finished(alt.layer(chart), f"Sources of spread\n{note}", str(found), width=WIDTH, height=100)


@takes_study
def coverage(study: Study) -> Figure:
    """Calibration of the recommended trial's predictions: the share of targets inside each interval.

    Picture: `docs/report/coverage.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        The recommended trial kept no predictions, or none that compare with targets.
    """
    alt = altair()
    from hyppo.analysis.calibration import ClassCalibration, calibration

    levels = tuple(round(0.05 * k, 2) for k in range(1, 20))
    found = calibration(study.predictions(study.best.number), crps=False, levels=levels)
    if isinstance(found, ClassCalibration):
        raise StudyError(f"the coverage of intervals is for real outputs; for classes: {found}")
    rows = [{"level": level, "covered": rounded(share, 4)} for level, share in found.coverage.items()]
    base = alt.Chart(data(rows))
    whole = alt.Scale(domain=[0, 1])
    x = alt.X("level:Q", title="nominal level of the interval", scale=whole, axis=alt.Axis(format="%"))
    y = alt.Y("covered:Q", title="share of the targets inside", scale=whole, axis=alt.Axis(format="%"))
    ideal = (
        alt.Chart(data([{"level": 0, "covered": 0}, {"level": 1, "covered": 1}]))
        .mark_line(color=GREY, strokeDash=[5, 4])
        .encode(x=x, y=y)
    )
    line = base.mark_line(color=ORANGE, strokeWidth=2.5, point={"color": ORANGE, "size": 45}).encode(
        x=x,
        y=y,
        tooltip=[alt.Tooltip("level:Q", format=".0%"), alt.Tooltip("covered:Q", title="covered", format=".1%")],
    )
    return finished(
        alt.layer(ideal, line),
        f"Calibration of the predictions\n{found.outputs} outputs of the validation data; dashed: perfect",
        f"The 90 % intervals cover {found.coverage[0.9]:.0%} of {found.outputs} targets.",
        width=HEIGHT,
        height=HEIGHT,
    )
