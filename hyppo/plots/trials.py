"""One point for each trial: loss against spread, and loss against size."""

from typing import Any

from hyppo.arguments import takes_study
from hyppo.errors import StudyError
from hyppo.plots import tables
from hyppo.plots.style import (
    GREEN,
    HEIGHT,
    RED,
    SHADES,
    SKY,
    WIDTH,
    Figure,
    altair,
    data,
    finished,
    joined,
    loss_scale,
    refuse_empty,
    span,
)
from hyppo.space import Integer, Real
from hyppo.study import Study


@takes_study
def spread(study: Study, color: str | None = None) -> Figure:
    """Loss against spread of every trial, coloured by a metric, a parameter, the replicas or the trial's number.

    Picture: `docs/report/spread.png`, drawn by `docs/report/pictures.py`.

    Parameters
    ----------
    study : Study
    color : str, optional
        "metrics.NAME", "params.NAME", "replicas" or "trial". By default metrics.parameters, else the number of
        replicas if it differs, else the number of the trial; a menu below the figure changes it.

    Raises
    ------
    StudyError
        No trial has a spread yet (it takes two replicas), or there is no such column.
    """
    alt = altair()
    trials = [t for t in study.trials if t.spread is not None and tables.value_of(t, study) is not None]
    refuse_empty(trials, "no trial has a spread yet; it takes two replicas")
    drawn = tables.worth_drawing(study, trials, tables.POINTS)
    rows = tables.trial_rows(study, drawn)
    fields = {"replicas": "replicas", "trial": "trial"}
    fields |= {f"metrics.{name}": f"m{i}" for i, name in enumerate(tables.metric_names(study))}
    numeric = {
        f"params.{name}": f"p{i}"
        for i, name in enumerate(study.space.names)
        if isinstance(study.space.parameters[name], Real | Integer)
    }
    fields |= numeric
    differ = len({row["replicas"] for row in rows}) > 1
    first = color or ("metrics.parameters" if "metrics.parameters" in fields else "replicas" if differ else "trial")
    if first not in fields:
        raise StudyError(f"color: expected one of {', '.join(map(repr, fields))}, got {color!r}")
    choice = alt.param(
        name="shade",
        value=fields[first],
        bind=alt.binding_select(
            options=list(fields.values()), labels=[tables.label_of(name) for name in fields], name="colour: "
        ),
    )
    scale = loss_scale([row["loss"] for row in rows])
    base = alt.Chart(data(rows)).transform_calculate(shade_value=f"datum[{choice.name}]")
    encoding = {
        "x": alt.X(
            "spread:Q",
            title="spread (standard deviation over replicas)",
            scale=loss_scale([row["spread"] for row in rows]),
        ),
        "y": alt.Y("loss:Q", title=tables.loss_name(study), scale=scale),
        "tooltip": _tips(study),
    }
    points = base.mark_circle(size=55, opacity=0.8).encode(
        **encoding,
        color=alt.Color(
            "shade_value:Q", title=[f"{tables.label_of(first)},", "or as chosen below"], scale=alt.Scale(range=SHADES)
        ),
    )
    mark = (
        alt.Chart(data([row for row in rows if row["best"]]))
        .mark_point(shape="diamond", size=190, strokeWidth=2.5, color=RED, filled=False)
        .encode(**encoding)
    )
    return finished(
        (points + mark).add_params(choice),
        f"Loss and spread\n{joined('diamond: recommended', tables.of_all(len(drawn), len(trials), 'trials'))}",
        f"{tables.loss_name(study)} against spread of {len(trials)} trials.",
        width=WIDTH,
        height=HEIGHT,
    )


def _tips(study: Study) -> list[Any]:
    """Tooltip of a trial: its numbers, then its parameters and metrics under prefixed names."""
    alt = altair()
    tips = [
        "trial:Q",
        alt.Tooltip("loss:Q", title=tables.loss_name(study), format=".6g"),
        alt.Tooltip("spread:Q", format=".4g"),
        "replicas:Q",
    ]
    names = study.space.names[:12]  # a tooltip of forty lines is taller than the figure
    tips += [alt.Tooltip(f"p{i}:N", title=f"params.{tables.label_of(name)}") for i, name in enumerate(names)]
    metrics = tables.metric_names(study)[:12]
    return tips + [alt.Tooltip(f"m{i}:N", title=f"metrics.{tables.label_of(name)}") for i, name in enumerate(metrics)]


@takes_study
def front(study: Study, metric: str = "metrics.parameters") -> Figure:
    """Loss against a metric such as the network's size, and `study.front` with its intervals.

    Picture: `docs/report/front.png`, drawn by `docs/report/pictures.py`.

    Parameters
    ----------
    study : Study
    metric : str
        "metrics.NAME", lower is better.

    Raises
    ------
    StudyError
        No trial has this metric.
    """
    alt = altair()
    names = tables.metric_names(study)
    refuse_empty(names, "no trial has a metric")
    name = metric.removeprefix("metrics.")
    if name not in names:
        raise StudyError(f"metric: expected one of {[f'metrics.{known}' for known in names]}, got {metric!r}")
    field = f"m{names.index(name)}"
    known = [t for t in study.trials if tables.value_of(t, study) is not None and name in tables.metrics_of(t)]
    drawn = tables.worth_drawing(study, known, tables.POINTS)
    rows = tables.trial_rows(study, drawn)
    found = study.front("loss", f"metrics.{name}")
    ahead = tables.front_rows(study, found, field)
    sizes = [row[field] for row in rows]
    steep = min(sizes) > 0.0 and max(sizes) > 20.0 * min(sizes)
    x = alt.X(f"{field}:Q", title=tables.label_of(name), scale=span(steep, nice=not steep),
              axis=alt.Axis(format="~s"))  # fmt: skip
    scale = loss_scale([row["loss"] for row in (*rows, *ahead)])
    y = alt.Y("loss:Q", title=tables.loss_name(study), scale=scale)
    points = alt.Chart(data(rows)).mark_circle(size=45, opacity=0.55, color=SKY).encode(x=x, y=y, tooltip=_tips(study))
    tips = [
        "trial:Q",
        alt.Tooltip("loss:Q", title="estimate", format=".6g"),
        alt.Tooltip("low:Q", title="90 % interval from", format=".6g"),
        alt.Tooltip("high:Q", title="to", format=".6g"),
        alt.Tooltip(f"{field}:Q", title=tables.label_of(name)),
    ]
    base = alt.Chart(data(ahead))
    line = base.mark_line(
        interpolate="step-after", color=GREEN, strokeWidth=2, clip=True, point={"color": GREEN, "size": 60}
    ).encode(x=x, y=y, tooltip=tips)  # fmt: skip
    ends = base.mark_rule(color=GREEN, strokeWidth=2, clip=True).encode(
        x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q"
    ).transform_filter("isValid(datum.low) && isValid(datum.high)")  # fmt: skip
    mark = (
        alt.Chart(data([row for row in rows if row["best"]]))
        .mark_point(shape="diamond", size=190, strokeWidth=2.5, color=RED, filled=False)
        .encode(x=x, y=y, tooltip=_tips(study))
    )
    label = tables.label_of(name)
    least = "" if found.smallest is None else (
        f"lowest {label} within the interval of the recommended: trial {found.smallest.number}"
    )  # fmt: skip
    return finished(
        alt.layer(points, line, ends, mark),
        f"Loss and {label}\n"
        + joined(
            "dots: observed; line: estimates of the trials that no other beats in both, with 90 % intervals; "
            "diamond: recommended",
            least,
            tables.of_all(len(drawn), len(known), "trials"),
        ),
        f"{len(ahead)} of {len(known)} trials are beaten by none in loss and {label}.",
        width=WIDTH,
        height=HEIGHT,
    )
