"""The figures: each takes a study and returns an Altair chart, with one specification for page, notebook and paper."""

import contextlib
from typing import Any

import numpy as np

from hyppo.analysis.sensitivity import PartialDependence, Sensitivity, partial_dependence, sensitivity
from hyppo.analysis.sources import spread_by_source
from hyppo.arguments import one_of, takes_study
from hyppo.errors import StudyError
from hyppo.plots import tables
from hyppo.plots.style import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT,
    KINDS,
    ORANGE,
    RED,
    SHADES,
    SKY,
    STEEP,
    WIDTH,
    altair,
    data,
    finished,
    loss_scale,
    rounded,
    span,
)
from hyppo.space import Integer, Real
from hyppo.study import Study
from hyppo.text import number, printable, shown
from hyppo.training.replica import Goal
from hyppo.trial import State, Trial

SOBOL_NOTE = (
    "Sobol indices of the surrogate: in total (with interactions) and alone; lines: 95 % intervals of the estimator"
)
Figure = Any  # an altair chart; altair is loaded when the first figure is drawn
STEP = 74  # pixels between two axes of parallel coordinates


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _refuse_empty(rows: Any, why: str) -> None:
    if not rows:
        raise StudyError(f"nothing to draw: {why}")


@takes_study
def convergence(study: Study) -> Figure:
    """Every training in the order in which it ended, and the recommendation's estimate with its interval.

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
    _refuse_empty(pairs, "no training has a loss yet")
    best, goal = tables.best_number(study), tables.goal_of(study)
    every = [
        {"n": n, "loss": tables.as_shown(goal, r.loss), "trial": t.number, "replica": r.index,
         "kind": "a training of the recommended" if t.number == best else "a training"}
        for n, (t, r) in enumerate(pairs, start=1)
    ]  # fmt: skip
    drawn = tables.thinned(every, tables.POINTS)
    steps = tables.estimates(study)
    scale = loss_scale([row["loss"] for row in drawn] + [row["estimate"] for row in steps])
    x = alt.X("n:Q", title="trainings", axis=alt.Axis(tickMinStep=1, format="d"))
    points = (
        alt.Chart(data(drawn))
        .mark_circle(size=26, opacity=0.65, clip=True)
        .encode(
            x=x,
            y=alt.Y("loss:Q", title=printable(goal.metric), scale=scale),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=["a training", "a training of the recommended"], range=[SKY, RED]),
                legend=alt.Legend(orient="top"),
            ),
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
    note = _joined(
        "line: estimate of the recommendation at that time, band: its 90 % interval",
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
def spread(study: Study, color: str | None = None) -> Figure:
    """Loss against spread of every trial, coloured by a metric, a parameter, the replicas or the trial's number.

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
    _refuse_empty(trials, "no trial has a spread yet; it takes two replicas")
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
        **encoding, color=alt.Color("shade_value:Q", title="colour", scale=alt.Scale(range=SHADES))
    )
    mark = (
        alt.Chart(data([row for row in rows if row["best"]]))
        .mark_point(shape="diamond", size=190, strokeWidth=2.5, color=RED, filled=False)
        .encode(**encoding)
    )
    return finished(
        (points + mark).add_params(choice),
        f"Loss and spread\n{_joined('diamond: recommended', tables.of_all(len(drawn), len(trials), 'trials'))}",
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
def parallel(study: Study) -> Figure:
    """Parallel coordinates: one line a trial over all parameters and the loss, coloured by loss.

    Drag over a part of an axis to keep the trials that pass through it; a double click keeps all again.

    Raises
    ------
    StudyError
        No trial has a loss yet.
    """
    trials = [t for t in tables.in_space(study) if tables.value_of(t, study) is not None]
    _refuse_empty(trials, "no trial has a loss yet")
    drawn = tables.worth_drawing(study, trials, tables.LINES)
    goal = tables.goal_of(study)
    losses = [goal.shown(tables.value_of(t, study) or 0.0) for t in drawn]
    best, middle = goal.shown(min(map(goal.shown, losses))), float(np.median(losses))
    # from gold (the best) to blue (the middle and everything worse)
    ends = sorted([best, middle if middle != best else best + goal.sign])
    alt = altair()
    color = alt.Color(
        "loss:Q",
        title=tables.loss_name(study),
        scale=alt.Scale(range=SHADES[:: -1 if goal.sign > 0 else 1], domain=ends, clamp=True),
        legend=alt.Legend(orient="top", gradientLength=200, format=".3~g"),
    )
    shades = {t.number: {"loss": rounded(loss)} for t, loss in zip(drawn, losses, strict=True)}
    note = _joined(
        "drag over an axis to keep the lines that pass there, double click to keep all; the recommended is red",
        tables.of_all(len(drawn), len(trials), "trials"),
    )
    return _lines(
        study, drawn, shades, color, f"Parameters and loss\n{note}",
        f"Parallel coordinates of {len(drawn)} trials over {study.space.dimension} parameters and the loss.",
        with_loss=True,
    )  # fmt: skip


@takes_study
def failures(study: Study) -> Figure:
    """Failed trials in the space, coloured by the kind of failure, over the others in grey.

    Raises
    ------
    StudyError
        Nothing has failed.
    """
    alt = altair()
    failed, counts = tables.failure_rows(study)
    _refuse_empty(failed, "no training has failed")
    kinds = {row["trial"]: row for row in failed}
    inside = tables.in_space(study)
    failing = tables.thinned([t for t in inside if t.number in kinds], tables.LINES // 2)
    others = [t for t in inside if t.number not in kinds and t.state is not State.PENDING]
    drawn = [*tables.thinned(others, tables.LINES // 2), *failing]
    labels = {kind: f"{kind} ({count})" for kind, count in counts.items()}
    shades = {
        t.number: {
            "kind": labels[kinds[t.number]["kind"]] if t.number in kinds else "not failed",
            "message": kinds[t.number]["message"] if t.number in kinds else "",
        }
        for t in drawn
    }
    names = list(labels.values())
    color = alt.Color(
        "kind:N",
        title=None,
        sort=None,
        scale=alt.Scale(
            domain=[*names, "not failed"], range=[*(KINDS[i % len(KINDS)] for i in range(len(names))), "#bbbbbb"]
        ),
        legend=alt.Legend(orient="top", columns=3),
    )
    total = sum(counts.values())
    note = _joined(
        "each line is a trial; in brackets the trainings that failed so",
        tables.of_all(len(drawn), len(inside), "trials"),
    )
    return _lines(
        study, drawn, shades, color, f"Failures\n{note}",
        f"{total} trainings failed: " + ", ".join(labels.values()) + ".",
        with_loss=False, extra=[alt.Tooltip("kind:N", title="failure"), alt.Tooltip("message:N", title="message")],
    )  # fmt: skip


def _lines(
    study: Study,
    trials: Any,
    shades: dict[int, dict[str, Any]],
    color: Any,
    title: str,
    description: str,
    with_loss: bool,
    extra: Any = (),
) -> Figure:
    """One line a trial over the parameters, with the loss as a last axis; a brush selects the lines that it crosses."""
    alt = altair()
    names = list(study.space.names)
    places = tables.positions(study, trials)
    best = tables.best_number(study)
    axes = [*names, tables.loss_name(study)] if with_loss else names
    if with_loss:
        goal = tables.goal_of(study)
        losses = np.array([goal.shown(tables.value_of(t, study) or 0.0) for t in trials])
        ends = (float(losses.min()), float(losses.max()))
        steep = ends[0] > 0.0 and ends[1] > STEEP * ends[0]
        height = np.log(losses) if steep else losses
        width = float(np.ptp(height)) or 1.0
        places = np.column_stack([places, (height - height.min()) / width])
    count = len(axes)
    # One row a trial with its heights y0, y1, ...; the figure folds them, so that a brush finds whole lines.
    wide = [
        {"trial": t.number, "best": t.number == best, **shades[t.number],
         **{f"y{i}": round(float(y), 4) for i, y in enumerate(row)},
         **{f"p{i}": tables.cell(study, name, t) for i, name in enumerate(names)}}
        for t, row in zip(trials, places, strict=True)
    ]  # fmt: skip
    heights = [f"y{i}" for i in range(count)]
    passed = list(wide[0])
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    long = alt.Chart(data(wide)).transform_fold(heights, as_=["axis", "height"])
    long = long.transform_calculate(at="toNumber(slice(datum.axis, 1))")
    labels = [f"{tables.label_of(name)[:22]}" for name in axes]
    x = alt.X(
        "at:Q",
        title=None,
        scale=alt.Scale(domain=[-0.35, count - 0.65], nice=False),
        axis=alt.Axis(
            values=list(range(count)),
            labelExpr=f"{_quoted(labels)}[datum.value]",
            labelAngle=-25 if count > 6 else 0,
            labelOverlap=False,
            grid=True,
            gridOpacity=0.9,
            orient="top",
            domain=False,
            ticks=False,
        ),
    )
    y = alt.Y("height:Q", title=None, axis=None, scale=alt.Scale(domain=[-0.04, 1.04], nice=False))
    tips = ["trial:Q", *extra]
    if with_loss:
        tips.append(alt.Tooltip("loss:Q", title=tables.loss_name(study), format=".6g"))
    tips += [alt.Tooltip(f"p{i}:N", title=f"params.{tables.label_of(n)}") for i, n in enumerate(names[:16])]
    back = long.mark_line(color="#999999", opacity=0.13, strokeWidth=1).encode(x=x, y=y, detail="trial:N")
    handles = long.mark_circle(size=14, opacity=0.35, color="#888888").encode(x=x, y=y).add_params(brush)
    inside = (
        long.transform_filter(brush)
        .transform_aggregate(rows="count()", groupby=passed)
        .transform_fold(heights, as_=["axis", "height"])
        .transform_calculate(at="toNumber(slice(datum.axis, 1))")
    )
    front = inside.mark_line(strokeWidth=1.4, opacity=0.75).encode(
        x=x, y=y, detail="trial:N", color=color, tooltip=tips
    )
    mark = (
        long.transform_filter("datum.best")
        .mark_line(strokeWidth=3, color=RED)
        .encode(x=x, y=y, detail="trial:N", tooltip=tips)
    )
    layers = [back, handles, front, mark, *_ends(study, axes, ends if with_loss else None)]
    return finished(alt.layer(*layers), title, description, width=max(WIDTH, STEP * count), height=HEIGHT)


def _quoted(labels: list[str]) -> str:
    """A list of texts as an expression of Vega."""
    import json

    return json.dumps(labels)


def _ends(study: Study, axes: list[str], loss: tuple[float, float] | None) -> list[Any]:
    """Values at the ends of every axis; of a list that is short, all."""
    alt = altair()
    rows = []
    for i, name in enumerate(axes):
        if name in study.space.names and i < study.space.dimension:
            parameter = study.space.parameters[name]
            count = parameter.levels
            listed = tables.is_listed(parameter) and count <= 8
            at = range(count) if listed else (0, count - 1)
            rows += [
                {
                    "at": i,
                    "height": k / (count - 1) if count > 1 else 0.0,
                    "text": shown(parameter.value(k))[:14],
                }
                for k in at
            ]
        elif loss is not None:
            rows += [{"at": i, "height": k, "text": number(loss[k], 3)} for k in (0, 1)]
    base = alt.Chart(data(rows)).encode(x=alt.X("at:Q"), y=alt.Y("height:Q"), text="text:N")
    text = {"align": "left", "dx": 5, "fontSize": 10}
    return [base.mark_text(**text, stroke="white", strokeWidth=3, strokeJoin="round"), base.mark_text(**text)]


@takes_study
def parameter(study: Study, name: str) -> Figure:
    """Loss against one parameter: every trial, and the surrogate's partial dependence with its uncertainty.

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
        "Loss against each parameter\nline: the surrogate's partial dependence; dark band: its 90 % uncertainty; "
        "light band: the middle 90 % over the other parameters",
        f"Loss against each of {len(charts)} parameters.",
    )


def _parameter(study: Study, name: str) -> Any:
    alt = altair()
    trials = [t for t in study.trials if tables.value_of(t, study) is not None]
    _refuse_empty(trials, "no trial has a loss yet")
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
            axis=alt.Axis(format=".0e" if log and min(row[field] for row in rows) < 1e-3 else "~g", tickCount=4),
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
        layers = _dependence(found, field, x, scale, tables.goal_of(study))
    return alt.layer(*layers[:2], points, *layers[2:], mark)


def _dependence(found: PartialDependence, field: str, x: Any, scale: Any, goal: Goal) -> list[Any]:
    """Outer band, inner band, line of a partial dependence."""
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

    def band(low: str, high: str, opacity: float) -> Any:
        if listed:
            return base.mark_rule(strokeWidth=10, opacity=opacity, color=BLUE, clip=True).encode(
                x=x, y=alt.Y(f"{low}:Q", scale=scale), y2=high
            )
        return base.mark_area(opacity=opacity, color=BLUE, clip=True).encode(
            x=x, y=alt.Y(f"{low}:Q", scale=scale), y2=high
        )

    tick = base.mark_tick(color=BLUE, thickness=2.5, size=18, clip=True)
    line = tick if listed else base.mark_line(color=BLUE, strokeWidth=2, clip=True)
    return [
        band("low", "high", 0.12),
        band("unsure_low", "unsure_high", 0.22),
        line.encode(x=x, y=alt.Y("mean:Q", scale=scale), tooltip=tips),
    ]


@takes_study
def sobol(study: Study) -> Figure:
    """Sobol indices of the surrogate for the loss, and for the spread if it is known of at least eight trials.

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
    parts = [("loss", sensitivity(study, samples=512))]
    with contextlib.suppress(StudyError):  # too few spreads, or they do not differ
        parts.append(("spread", sensitivity(tables.spread_study(study), samples=512)))
    total = parts[0][1].total
    ranked = sorted(range(len(study.space.names)), key=lambda i: -float(total[i]))
    order = [tables.label_of(study.space.names[i]) for i in ranked]
    charts = [_sobol(of, found, order).properties(height=max(60, 30 * len(order))) for of, found in parts]
    first = ", ".join(f"{order[k]} {number(float(total[i]), 2)}" for k, i in enumerate(ranked[:3]))
    return charts, f"Total Sobol indices of the loss, largest first: {first}."


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
    y = alt.Y("parameter:N", title=None, sort=order, axis=alt.Axis(labelLimit=140))
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


@takes_study
def learning_curves(study: Study) -> Figure:
    """Learning curves of the recommended trial's replicas, over those of others; the stopped ones are grey.

    Raises
    ------
    StudyError
        No training has reported twice.
    """
    alt = altair()
    rows, note = tables.curve_rows(study)
    _refuse_empty(rows, "no training has reported more than one loss")
    kinds = ["recommended", "other", "stopped early"]
    scale = loss_scale([row["loss"] for row in rows])
    chart = (
        alt.Chart(data(rows))
        .mark_line(clip=True)
        .encode(
            x=alt.X("step:Q", title="step of training", axis=alt.Axis(tickMinStep=1, format="~s")),
            y=alt.Y("loss:Q", title="reported loss", scale=scale),
            detail="line:N",
            color=alt.Color(
                "kind:N", title=None, scale=alt.Scale(domain=kinds, range=[RED, SKY, GREY]),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash(
                "kind:N", title=None, scale=alt.Scale(domain=kinds, range=[[1, 0], [1, 0], [4, 3]])
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

    Raises
    ------
    StudyError
        The trainings have no times, as when losses were told.
    """
    alt = altair()
    rows, note, used = tables.timeline_rows(study)
    _refuse_empty(rows, "the trainings have no start and end")
    states = ["done", "failed", "pruned"]
    labels = {"done": "done", "failed": "failed", "pruned": "stopped early"}
    longest = max(row["end"] for row in rows)
    factor, unit = (3600.0, "seconds") if longest < 0.05 else (60.0, "minutes") if longest < 2.0 else (1.0, "hours")
    rows = [
        {**row, "start": rounded(row["start"] * factor), "end": rounded(row["end"] * factor),
         "state": labels.get(row["state"], row["state"])}
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
            color=alt.Color(
                "state:N", title=None, scale=alt.Scale(domain=[labels[s] for s in states], range=[BLUE, RED, GREY]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["trial:Q", "replica:Q", "lane:N", "state:N", "seconds:Q", alt.Tooltip("loss:Q", format=".6g")],
        )
    )  # fmt: skip
    busy = "" if used is None else f"{used:.0%} of the time of {len(lanes)} rows was spent in trainings"
    return finished(
        alt.layer(chart),
        f"Timeline\n{_joined(busy, note)}",
        f"{len(rows)} trainings on {len(lanes)} rows. {busy}.",
        width=WIDTH,
        height=max(60, min(24 * len(lanes), 900)),
    )


def _natural(text: str) -> tuple[str, int]:
    head, _, tail = text.rpartition(" ")
    return (head, int(tail)) if tail.isdigit() else (text, 0)


@takes_study
def front(study: Study, metric: str = "metrics.parameters") -> Figure:
    """Loss against a metric such as the network's size, and `study.front` with its intervals.

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
    _refuse_empty(names, "no trial has a metric")
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
    x = alt.X(f"{field}:Q", title=tables.label_of(name), scale=span(steep),
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
        + _joined(
            "dots: observed; line: estimates of the trials that no other beats in both, with 90 % intervals; "
            "diamond: recommended",
            least,
            tables.of_all(len(drawn), len(known), "trials"),
        ),
        f"{len(ahead)} of {len(known)} trials are beaten by none in loss and {label}.",
        width=WIDTH,
        height=HEIGHT,
    )


@takes_study
def confirmation(study: Study) -> Figure:
    """Losses of confirmations beside those of the search, and the predicted interval of the recommendation.

    Raises
    ------
    StudyError
        No trial was confirmed.
    """
    alt = altair()
    confirmed = [t for t in study.trials if any(r.loss is not None for r in t.confirmations)]
    _refuse_empty(confirmed, "no trial was confirmed; study.confirm(replicas=10) does")
    best = study.best
    rows: list[dict[str, Any]] = [
        {"who": _called(t, best.number), "kind": kind, "replica": r.index, "loss": tables.as_shown(best.goal, r.loss)}
        for t in confirmed
        for kind, records in (("search", t.replicas), ("confirmation", t.confirmations))
        for r in records
        if r.loss is not None
    ]
    order = [_called(t, best.number) for t in confirmed]
    x = alt.X("loss:Q", title=printable(best.goal.metric), scale=loss_scale([row["loss"] for row in rows]))
    y = alt.Y("who:N", title=None, sort=order)
    offset = alt.YOffset("kind:N", sort=["search", "confirmation"])
    kinds = alt.Color(
        "kind:N", title=None, scale=alt.Scale(domain=["search", "confirmation"], range=[SKY, RED]),
        legend=alt.Legend(orient="top"),
    )  # fmt: skip
    tips = ["who:N", "kind:N", "replica:Q", alt.Tooltip("loss:Q", format=".6g")]
    points = alt.Chart(data(rows)).mark_tick(thickness=2.5).encode(x=x, y=y, yOffset=offset, color=kinds, tooltip=tips)
    layers = [points]
    if best.number in {t.number for t in confirmed} and np.all(np.isfinite(best.interval)):
        low, high = best.goal.interval(*best.interval)
        band = [{"who": _called(study.trials[best.number], best.number), "low": rounded(low), "high": rounded(high)}]
        layers.insert(
            0,
            alt.Chart(data(band)).mark_bar(opacity=0.25, color=BLUE).encode(x=alt.X("low:Q"), x2="high:Q", y=y),
        )
    return finished(
        alt.layer(*layers),
        "Confirmation\nblue: 90 % interval that was predicted for the mean of fresh trainings of the recommended",
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

    Raises
    ------
    StudyError
        Too few trials have several replicas.
    """
    alt = altair()
    found = spread_by_source(study)
    rows = [
        {"source": "data (split, fold)", "std": rounded(found.data, 4)},
        {"source": "training (weights, order, hardware)", "std": rounded(found.training, 4)},
        {"source": "both", "std": rounded(found.total, 4)},
    ]
    chart = (
        alt.Chart(data(rows))
        .mark_bar(color=BLUE, height={"band": 0.6})
        .encode(
            x=alt.X("std:Q", title="standard deviation of the loss", scale=alt.Scale(domainMin=0)),
            y=alt.Y("source:N", title=None, sort=[row["source"] for row in rows], axis=alt.Axis(labelLimit=230)),
            tooltip=["source:N", "std:Q"],
        )
    )
    note = f"from {found.replicas} replicas of {found.trials} trials"
    return finished(alt.layer(chart), f"Sources of spread\n{note}", str(found), width=WIDTH, height=100)


@takes_study
def coverage(study: Study) -> Figure:
    """Calibration of the recommended trial's predictions: the share of targets inside each interval.

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
