"""The surrogate of the loss: partial dependence on each parameter, and Sobol indices."""

import contextlib
from typing import Any

from hyppo.analysis.sensitivity import PartialDependence, Sensitivity, partial_dependence, sensitivity
from hyppo.arguments import one_of, takes_study
from hyppo.errors import StudyError
from hyppo.plots import tables
from hyppo.plots.style import BLUE, RED, SKY, Figure, altair, data, finished, loss_scale, refuse_empty, rounded, span
from hyppo.results import goal_of
from hyppo.study import Study
from hyppo.text import number, shown
from hyppo.training.replica import Goal

SOBOL_NOTE = (
    "Sobol indices of the surrogate: in total (with interactions) and alone; lines: 95 % intervals of the estimator"
)


@takes_study
def parameter(study: Study, name: str) -> Figure:
    """Loss against one parameter: every trial in which it is active, and the surrogate's partial dependence.

    Picture: `docs/report/parameter.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        An unknown name, or no trial has a loss yet.
    """
    one_of("name", name, study.space.names)
    return _finished_parameter(_parameter(study, name), name)


def _finished_parameter(chart: Any, name: str) -> Any:
    return finished(chart, tables.label_of(name), f"Loss against {tables.label_of(name)}.", width=270, height=190)


@takes_study
def parameters(study: Study, columns: int = 3) -> Figure:
    """`parameter` for each parameter of the space, side by side.

    Picture: `docs/report/parameters.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        No trial has a loss yet.
    """
    alt = altair()
    charts = [
        _parameter(study, name).properties(title=tables.label_of(name), width=230, height=180)
        for name in study.space.names
    ]
    return finished(
        alt.concat(*charts, columns=columns),
        "Loss against each parameter\nline: the surrogate's partial dependence; band: its 90 % uncertainty; "
        "thin lines: the middle 90 % over the other parameters",
        f"Loss against each of {len(charts)} parameters.",
    )


def _parameter(study: Study, name: str) -> Any:
    alt = altair()
    trials = [t for t in study.trials if tables.value_of(t, study) is not None]
    refuse_empty(trials, "no trial has a loss yet")
    # Elsewhere the parameter has its default, which the loss does not come from.
    trials = [t for t in trials if t.params not in study.space or name not in study.space.inactive(t.params)] or trials
    field = f"p{study.space.names.index(name)}"
    drawn = tables.worth_drawing(study, trials, 500)
    keep = ("trial", "loss", "spread", "replicas", "best", field)
    rows = [{key: row[key] for key in keep} for row in tables.trial_rows(study, drawn)]
    definition = study.space.parameters[name]
    scale = loss_scale([row["loss"] for row in rows])
    title = tables.label_of(name)
    if tables.is_listed(definition):
        order = [shown(definition.value(k)) for k in range(min(definition.levels, 40))]
        x = alt.X(f"{field}:O", title=title, sort=order, scale=alt.Scale(domain=order), axis=alt.Axis(labelAngle=-30))
    else:
        log = bool(getattr(definition, "log", False))
        x = alt.X(
            f"{field}:Q",
            title=title,
            scale=span(log, nice=False),
            axis=alt.Axis(format=".0e" if log and min(row[field] for row in rows) < 1e-3 else ".6~g", tickCount=4),
        )
    y = alt.Y("loss:Q", title=tables.loss_name(study), scale=scale)
    tips = [
        "trial:Q",
        alt.Tooltip("loss:Q", title=tables.loss_name(study), format=".6g"),
        alt.Tooltip("spread:Q", format=".4g"),
        "replicas:Q",
        alt.Tooltip(f"{field}:N", title=f"params.{title}"),
    ]
    points = alt.Chart(data(rows)).mark_circle(size=30, opacity=0.6, color=SKY).encode(x=x, y=y, tooltip=tips)
    mark = (
        alt.Chart(data([row for row in rows if row["best"]]))
        .mark_point(shape="diamond", size=150, strokeWidth=2.5, color=RED, filled=False)
        .encode(x=x, y=y, tooltip=tips)
    )
    layers: list[Any] = []
    try:
        found = partial_dependence(study, name, samples=256)
    except StudyError:
        found = None
    if found is not None:
        layers = _dependence(found, field, x, scale, goal_of(study))
    return alt.layer(*layers[:1], points, *layers[1:], mark)


def _dependence(found: PartialDependence, field: str, x: Any, scale: Any, goal: Goal) -> list[Any]:
    """Band of the uncertainty, edges of the middle 90 % over the others, and line of a partial dependence."""
    alt = altair()
    listed = isinstance(found.values[0], str | bool) or x.to_dict().get("type") == "ordinal"
    rows = [
        {
            field: shown(value) if listed else rounded(float(value)),
            "mean": tables.as_shown(goal, float(found.mean[k])),
            "low": tables.as_shown(goal, float(found.low[k])),
            "high": tables.as_shown(goal, float(found.high[k])),
            "unsure_low": tables.as_shown(goal, float(found.unsure_low[k])),
            "unsure_high": tables.as_shown(goal, float(found.unsure_high[k])),
        }
        for k, value in enumerate(found.values)
    ]
    base = alt.Chart(data(rows))
    tips = [
        alt.Tooltip(f"{field}:N", title="at"),
        alt.Tooltip("mean:Q", title="mean over the others", format=".5g"),
        alt.Tooltip("unsure_low:Q", title="90 % uncertainty from", format=".5g"),
        alt.Tooltip("unsure_high:Q", title="to", format=".5g"),
    ]

    def height(field_of: str) -> Any:
        return alt.Y(f"{field_of}:Q", scale=scale)

    if listed:
        band = base.mark_rule(strokeWidth=10, opacity=0.22, color=BLUE, clip=True)
        edge = base.mark_tick(color=BLUE, thickness=1, size=18, clip=True)
        line = base.mark_tick(color=BLUE, thickness=2.5, size=18, clip=True)
    else:
        band = base.mark_area(opacity=0.22, color=BLUE, clip=True)
        edge = base.mark_line(color=BLUE, strokeWidth=1, strokeDash=[4, 3], clip=True)
        line = base.mark_line(color=BLUE, strokeWidth=2, clip=True)
    return [
        band.encode(x=x, y=height("unsure_low"), y2="unsure_high"),
        *(edge.encode(x=x, y=height(of)) for of in ("low", "high")),
        line.encode(x=x, y=height("mean"), tooltip=tips),
    ]


@takes_study
def sobol(study: Study) -> Figure:
    """Sobol indices of the surrogate for the loss, and for the spread if it is known of at least eight trials.

    Picture: `docs/report/sobol.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        Too few trials with a loss, or SALib is not installed.
    """
    alt = altair()
    charts, said = sobol_charts(study)
    charts = [chart.properties(width=240) for chart in charts]
    return finished(alt.hconcat(*charts), f"Which parameters matter\n{SOBOL_NOTE}", said)


def sobol_charts(study: Study) -> tuple[list[Any], str]:
    """A chart for the loss, one for the spread if there is enough of it, and a sentence."""
    loss = study.config.quantity("loss")
    parts = [(loss, sensitivity(study, samples=512))]
    with contextlib.suppress(StudyError):  # too few spreads, or they do not differ
        parts.append(("spread", sensitivity(tables.spread_study(study), samples=512)))
    total = parts[0][1].total
    ranked = sorted(range(len(study.space.names)), key=lambda i: -float(total[i]))
    order = [tables.label_of(study.space.names[i]) for i in ranked]
    charts = [_sobol(of, found, order).properties(height=max(60, 30 * len(order))) for of, found in parts]
    first = ", ".join(f"{order[k]} {number(float(total[i]), 2)}" for k, i in enumerate(ranked[:3]))
    return charts, f"Total Sobol indices of the {loss}, largest first: {first}."


def _sobol(of: str, found: Sensitivity, order: list[str]) -> Any:
    alt = altair()
    rows = [
        {
            "parameter": tables.label_of(name),
            "kind": kind,
            "index": rounded(max(float(values[i]), 0.0), 4),
            "low": rounded(max(float(values[i] - widths[i]), 0.0), 4),
            "high": rounded(min(float(values[i] + widths[i]), 1.2), 4),
        }
        for i, name in enumerate(found.names)
        for kind, values, widths in (
            ("total", found.total, found.total_width), ("alone", found.first, found.first_width)
        )
    ]  # fmt: skip
    base = alt.Chart(data(rows))
    y = alt.Y("parameter:N", title=None, sort=order, axis=alt.Axis(labelLimit=190))
    offset = alt.YOffset("kind:N", sort=["total", "alone"])
    tips = ["parameter:N", "kind:N", "index:Q", "low:Q", "high:Q"]
    bars = base.mark_bar(height={"band": 0.8}).encode(
        x=alt.X("index:Q", title=f"share of the variance of the {of}", scale=alt.Scale(domainMin=0)),
        y=y,
        yOffset=offset,
        color=alt.Color(
            "kind:N", title=None, sort=["total", "alone"], scale=alt.Scale(domain=["total", "alone"], range=[BLUE, SKY])
        ),
        tooltip=tips,
    )
    rules = base.mark_rule(strokeWidth=1.5, color="#777777").encode(x="low:Q", x2="high:Q", y=y, yOffset=offset)
    return alt.layer(bars, rules).properties(title=f"of the {of}")
