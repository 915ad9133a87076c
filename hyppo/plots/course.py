"""How a study goes: convergence, learning curves, and the times of the trainings."""

from hyppo.arguments import takes_study
from hyppo.plots import tables
from hyppo.plots.style import (
    BLUE,
    GREY,
    HEIGHT,
    RED,
    SKY,
    WIDTH,
    Figure,
    altair,
    coloured,
    data,
    finished,
    joined,
    loss_scale,
    refuse_empty,
    rounded,
)
from hyppo.results import goal_of
from hyppo.study import Study
from hyppo.text import counted, number, printable


@takes_study
def convergence(study: Study) -> Figure:
    """Every training in the order in which it ended, and the recommendation's estimate with its interval.

    Picture: `docs/report/convergence.png`, drawn by `docs/report/pictures.py`.

    Parameters
    ----------
    study : Study

    Returns
    -------
    altair.LayerChart

    Raises
    ------
    StudyError
        No training has a loss yet, or altair is not installed.

    Examples
    --------
    >>> import hyppo
    >>> study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), seed=1)
    >>> for _ in range(6):
    ...     trial = study.ask()
    ...     study.tell(trial.number, [(trial.params["x"] - 0.3) ** 2])
    >>> figure = convergence(study)
    >>> figure.to_dict()["layer"][0]["encoding"]["y"]["title"]
    'loss'
    """
    alt = altair()
    pairs = tables.ended(study)
    refuse_empty(pairs, "no training has a loss yet")
    best, goal = tables.best_number(study), goal_of(study)
    every = [
        {"n": n, "loss": tables.as_shown(goal, r.loss), "trial": t.number, "replica": r.index,
         "kind": "of the recommended" if t.number == best else "a training"}
        for n, (t, r) in enumerate(pairs, start=1)
    ]  # fmt: skip
    drawn = tables.thinned(every, tables.POINTS)
    steps = tables.estimates(study)
    scale = loss_scale([row["loss"] for row in drawn] + [row["estimate"] for row in steps])
    x = alt.X(
        "n:Q",
        title="trainings",
        scale=alt.Scale(domain=[0, len(every) + 1], nice=False),
        axis=alt.Axis(tickCount=min(len(every) + 1, 16), format="d"),
    )
    points = (
        alt.Chart(data(drawn))
        .mark_circle(size=26, opacity=0.65, clip=True)
        .encode(
            x=x,
            y=alt.Y("loss:Q", title=printable(goal.metric), scale=scale),
            color=coloured("kind", {"a training": SKY, "of the recommended": RED}),
            tooltip=["trial:Q", "replica:Q", alt.Tooltip("loss:Q", format=".6g"), alt.Tooltip("n:Q", title="training")],
        )
    )
    line = alt.Chart(data(steps))
    tips = [
        alt.Tooltip("n:Q", title="after trainings"),
        alt.Tooltip("trial:Q", title="recommended trial"),
        alt.Tooltip("estimate:Q", format=".6g"),
        alt.Tooltip("low:Q", title="90 % interval from", format=".6g"),
        alt.Tooltip("high:Q", title="to", format=".6g"),
    ]
    band = line.mark_area(opacity=0.25, color=BLUE, interpolate="step-after", clip=True).encode(
        x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q"
    ).transform_filter("isValid(datum.low) && isValid(datum.high)")  # fmt: skip
    stairs = line.mark_line(color=BLUE, strokeWidth=2.5, interpolate="step-after", clip=True).encode(
        x=x, y=alt.Y("estimate:Q", scale=scale)
    )
    dots = line.mark_point(color=BLUE, filled=True, size=40, clip=True).encode(
        x=x, y=alt.Y("estimate:Q", scale=scale), tooltip=tips
    )
    quantity = study.config.quantity(goal.metric)
    estimate = "estimate" if quantity == goal.metric else f"estimated {printable(quantity)}"
    note = joined(
        f"line: {estimate} of the recommendation at that time, band: its 90 % interval",
        tables.of_all(len(drawn), len(every), "trainings"),
    )
    last = steps[-1] if steps else None
    said = "" if last is None else f" In the end the estimate is {number(last['estimate'])}."
    return finished(
        points + band + stairs + dots,
        f"Convergence\n{note}",
        f"Loss of {len(every)} trainings in the order in which they ended.{said}",
        width=WIDTH,
        height=HEIGHT,
    )


@takes_study
def learning_curves(study: Study) -> Figure:
    """Learning curves of the recommended trial's replicas, over those of others; the stopped ones are grey.

    Picture: `docs/report/learning_curves.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        No training has reported twice.
    """
    alt = altair()
    rows, note = tables.curve_rows(study)
    refuse_empty(rows, "no training has reported more than one loss")
    colours = {"recommended": RED, "other": SKY, "stopped early": GREY}
    scale = loss_scale([row["loss"] for row in rows])
    chart = (
        alt.Chart(data(rows))
        .mark_line(clip=True)
        .encode(
            x=alt.X("step:Q", title="step of training", axis=alt.Axis(tickMinStep=1, format="~s")),
            y=alt.Y("loss:Q", title="reported loss", scale=scale),
            detail="line:N",
            color=coloured("kind", colours),
            strokeDash=alt.StrokeDash(
                "kind:N", title=None, scale=alt.Scale(domain=list(colours), range=[[1, 0], [1, 0], [4, 3]])
            ),
            opacity=alt.condition("datum.kind == 'recommended'", alt.value(1.0), alt.value(0.45)),
            strokeWidth=alt.condition("datum.kind == 'recommended'", alt.value(2.5), alt.value(1.1)),
            tooltip=["trial:Q", "replica:Q", "kind:N", "step:Q", alt.Tooltip("loss:Q", format=".6g")],
        )
    )  # fmt: skip
    lines = len({row["line"] for row in rows})
    return finished(
        alt.layer(chart),
        "Learning curves" + (f"\n{note}" if note else ""),
        f"Reported loss over the steps of {lines} trainings.",
        width=WIDTH,
        height=HEIGHT,
    )


@takes_study
def timeline(study: Study) -> Figure:
    """The times at which trainings ran, in rows for each host, and the share of the time that was used.

    Picture: `docs/report/timeline.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        The trainings have no times, as when losses were told.
    """
    alt = altair()
    rows, note, used = tables.timeline_rows(study)
    refuse_empty(rows, "the trainings have no start and end")
    colours = {"done": BLUE, "failed": RED, "stopped early": GREY}
    longest = max(row["end"] for row in rows)
    factor, unit = (3600.0, "seconds") if longest < 0.05 else (60.0, "minutes") if longest < 2.0 else (1.0, "hours")
    rows = [
        {**row, "start": rounded(row["start"] * factor), "end": rounded(row["end"] * factor),
         "state": "stopped early" if row["state"] == "pruned" else row["state"]}
        for row in rows
    ]  # fmt: skip
    lanes = list(dict.fromkeys(sorted((row["lane"] for row in rows), key=_natural)))
    chart = (
        alt.Chart(data(rows))
        .mark_bar(height={"band": 0.85}, stroke="white", strokeWidth=0.4)
        .encode(
            x=alt.X("start:Q", title=f"{unit} since the first training began"),
            x2="end:Q",
            y=alt.Y("lane:N", title=None, sort=lanes),
            color=coloured("state", colours),
            tooltip=["trial:Q", "replica:Q", "lane:N", "state:N", "seconds:Q", alt.Tooltip("loss:Q", format=".6g")],
        )
    )  # fmt: skip
    busy = "" if used is None else f"{used:.0%} of the time of {counted(len(lanes), 'row')} was spent in trainings"
    return finished(
        alt.layer(chart),
        f"Timeline\n{joined(busy, note)}",
        f"{counted(len(rows), 'training')} on {counted(len(lanes), 'row')}. {busy}.",
        width=WIDTH,
        height=max(60, min(24 * len(lanes), 900)),
    )


def _natural(text: str) -> tuple[str, int]:
    head, _, tail = text.rpartition(" ")
    return (head, int(tail)) if tail.isdigit() else (text, 0)
