"""One line for each trial over all parameters: parallel coordinates, and failures."""

from typing import Any

import numpy as np

from hyppo.arguments import takes_study
from hyppo.plots import tables
from hyppo.plots.style import (
    HEIGHT,
    KINDS,
    LOSS_DIGITS,
    RED,
    SHADES,
    STEEP,
    WIDTH,
    Figure,
    altair,
    data,
    finished,
    joined,
    refuse_empty,
    rounded,
)
from hyppo.results import goal_of
from hyppo.study import Study
from hyppo.text import digits_of, number, shortened, shown
from hyppo.trial import State

STEP = 74  # pixels between two axes of parallel coordinates


@takes_study
def parallel(study: Study) -> Figure:
    """Parallel coordinates: one line a trial over all parameters and the loss, coloured by loss.

    Drag over a part of an axis to keep the trials that pass through it; a double click keeps all again.

    Picture: `docs/report/parallel.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        No trial has a loss yet.
    """
    trials = [t for t in tables.in_space(study) if tables.value_of(t, study) is not None]
    refuse_empty(trials, "no trial has a loss yet")
    drawn = tables.worth_drawing(study, trials, tables.LINES)
    goal = goal_of(study)
    losses = [goal.shown(tables.value_of(t, study) or 0.0) for t in drawn]
    ordered = sorted(losses, key=goal.shown)
    best, middle, worst = ordered[0], float(np.median(losses)), ordered[-1]
    # from gold (the best) to blue (the middle and everything worse)
    ends = sorted([best, next((loss for loss in (middle, worst) if loss != best), best + goal.sign)])
    alt = altair()
    color = alt.Color(
        "loss:Q",
        title=tables.loss_name(study),
        scale=alt.Scale(range=SHADES[:: -1 if goal.sign > 0 else 1], domain=ends, clamp=True),
        legend=alt.Legend(orient="top", gradientLength=200, format=f".{min(digits_of(ends, 3), 8)}~g")
        if best != worst
        else None,
    )
    shades = {t.number: {"loss": rounded(loss, LOSS_DIGITS)} for t, loss in zip(drawn, losses, strict=True)}
    note = joined(
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

    Picture: `docs/report/failures.png`, drawn by `docs/report/pictures.py`.

    Raises
    ------
    StudyError
        Nothing has failed.
    """
    alt = altair()
    failed, counts = tables.failure_rows(study)
    refuse_empty(failed, "no training has failed")
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
    note = joined(
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
        goal = goal_of(study)
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
    labels = [shortened(tables.label_of(name), 22) for name in axes]
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
    layers = [back, handles, front]
    if with_loss:
        recommended = long.transform_filter("datum.best").mark_line(strokeWidth=3, color=RED)
        layers.append(recommended.encode(x=x, y=y, detail="trial:N", tooltip=tips))
    layers += _ends(study, axes, ends if with_loss else None)
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
                    "text": shortened(shown(parameter.value(k)), 14),
                }
                for k in at
            ]
        elif loss is not None:
            digits = min(digits_of(loss, 3), 8)
            rows += [{"at": i, "height": k, "text": number(loss[k], digits)} for k in (0, 1)]
    base = alt.Chart(data(rows)).encode(x=alt.X("at:Q"), y=alt.Y("height:Q"), text="text:N")
    text = {"align": "left", "dx": 5, "fontSize": 10}
    return [base.mark_text(**text, stroke="white", strokeWidth=3, strokeJoin="round"), base.mark_text(**text)]
