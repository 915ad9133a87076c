"""The HTML report: the result first, then every figure, then tables; all text of the study is escaped."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from hyppo import plots
from hyppo._version import __version__
from hyppo.config import named
from hyppo.errors import StudyError
from hyppo.log.output import refuse_study, replaced
from hyppo.plots import tables
from hyppo.plots.style import finished
from hyppo.plots.surrogate import SOBOL_NOTE, sobol_charts
from hyppo.report.answer import Answer, text
from hyppo.results import goal_of, judged_by
from hyppo.study import Study
from hyppo.text import counted, digits_of, metric, number, one_line, printable, shown
from hyppo.trial import State, Trial, records_of

LISTED = 20  # trials in the table
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write(study: Study, path: str | Path) -> Path:
    """Write a study's report to `path`, whole or not at all, and return the path.

    Raises
    ------
    StudyError
        altair or vl-convert-python is not installed, or the file cannot be written or is a study file.
    """
    try:
        target = Path(path)
        usable = bool(target.name) and target.parent.is_dir() and not target.is_dir()
    except TypeError:
        usable = False
    if not usable:  # before the page is made, which takes seconds
        raise StudyError(f"the report cannot be written to {str(path)!r}: expected a file in a folder that exists")
    refuse_study(target)
    content = page(study).encode()
    with replaced(target) as stream:
        stream.write(content)
    return target


def page(study: Study) -> str:
    """The report of a study as HTML.

    Raises
    ------
    StudyError
        altair or vl-convert-python is not installed.
    """
    script = _libraries()
    name = text(study.log.name if study.log is not None else "study in memory")
    sections = [Section("answer", "", Answer.of(study).html()), *_figures(study), *_tables(study)]
    shown_sections = [s for s in sections if s.body]
    links = "".join(f'<li><a href="#{s.id}">{s.heading}</a></li>' for s in shown_sections if s.heading)
    absent = "; ".join(s.absent for s in sections if not s.body and s.absent)
    body = "\n".join(s.html() for s in shown_sections)
    left_out = f'<p class="soft" id="absent">Not on this page: {absent}.</p>' if absent else ""
    folder = files("hyppo.report")
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{name}: hyppo report</title>
<style>
{folder.joinpath("style.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<a class="skip" href="#answer">Skip to the answer</a>
<header>
<h1>{name}</h1>
<p class="soft">{status(study)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<footer>{left_out}<p class="soft">Written by hyppo {text(__version__)} on {written}.</p></footer>
<script>
{script}
</script>
</body>
</html>
"""


@cache
def _libraries() -> str:
    """Vega-Lite and the page's own script, as one text that can stand in a script element; bundled in a second."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise StudyError("a report needs vl-convert-python: pip install 'hyppo-uq[report]'") from None
    own = files("hyppo.report").joinpath("draw.js").read_text(encoding="utf-8")
    bundle: str = vl_convert.javascript_bundle(own)
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def status(study: Study) -> str:
    """Counts of trials and trainings, and the configuration, in a line of HTML."""
    states = [(state, sum(t.state is state for t in study.trials)) for state in State]
    trials = ", ".join(f"{count} {state.value}" for state, count in states if count)
    replicas = [r for t in study.trials for r in t.replicas]
    ended = sum(r.loss is not None for r in replicas)
    failed = sum(r.state is State.FAILED for r in replicas)
    stopped = sum(r.state is State.PRUNED for r in replicas)
    pending = sum(r.state is State.PENDING for r in replicas)
    parts = [counted(len(study.trials), "trial") + (f" ({trials})" if trials else "")]
    parts.append(
        f"{counted(ended, 'training')} with a loss, {failed} failed, {stopped} stopped early, {pending} pending"
    )
    if confirmations := [r for t in study.trials for r in t.confirmations]:
        failed = sum(r.state is State.FAILED for r in confirmations)
        parts.append(f"{counted(len(confirmations), 'confirmation')}, {failed} failed")
    if pending:
        parts.append("the study may be running: this page is how it stood")
    parts.append(f"seed {study.seed}, {text(judged_by(study))}")
    return "; ".join(parts)


@dataclass
class Section:
    """A part of the page; without a body it is omitted, and `absent` gives the reason."""

    id: str
    heading: str
    body: str = ""
    absent: str = ""

    def html(self) -> str:
        heading = f"<h2>{self.heading}</h2>" if self.heading else ""
        return f'<section id="{self.id}" aria-label="{self.heading or "Answer"}">{heading}\n{self.body}\n</section>'


# -- figures ----------------------------------------------------------------------------------------------------------

Draw = Callable[[Study], Any]

FIGURES: tuple[tuple[str, str, Draw], ...] = (
    ("confirmation", "Confirmation", plots.confirmation),
    ("convergence", "Convergence", plots.convergence),
    ("spread", "Loss and spread", plots.spread),
    ("parallel", "Parameters and loss", plots.parallel),
    ("curves", "Learning curves", plots.learning_curves),
    ("timeline", "Timeline", plots.timeline),
    ("failures", "Failures", plots.failures),
    ("front", "Loss and size", plots.front),
    ("sources", "Sources of spread", plots.sources),
    ("coverage", "Calibration of the predictions", plots.coverage),
)


def _figures(study: Study) -> Iterator[Section]:
    for place, heading, draw in FIGURES:
        if place == "curves":
            yield _parameters(study)
            yield _sobol(study)
        try:
            chart = draw(study)
        except StudyError as error:
            yield Section(place, heading, absent=f"{heading.lower()} ({text(_reason(error))})")
            continue
        body = _figure(place, chart)
        yield Section(place, heading, body + (_failures_table(study) if place == "failures" else ""))


def _reason(error: StudyError) -> str:
    return str(error).removeprefix("nothing to draw: ")


def _figure(place: str, chart: Any, label: str = "") -> str:
    """A figure in its place, its caption, and its specification as JSON."""
    specification = chart.to_dict(validate=False)
    title = specification.pop("title", {})
    caption = " ".join(title.get("subtitle", [])) if isinstance(title, dict) else ""
    config = specification.setdefault("config", {})
    config["background"] = "transparent"
    least = 0 if place not in ("parallel", "failures") else specification["width"]
    most = "; max-width: 26rem" if place == "coverage" else ""  # a square
    specification["width"] = "container"
    specification["autosize"] = {"type": "fit-x", "contains": "padding"}
    encoded = json.dumps(specification, separators=(",", ":")).replace("<", "\\u003c")
    heading = f"<h3>{label}</h3>" if label else ""
    caption = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return (
        f'{heading}<figure>{caption}<div class="chart" tabindex="0" role="group" '
        f'aria-label="{text(specification.get("description", ""))}">'
        f'<div class="drawn" id="figure-{place}" style="min-width: {least}px{most}"></div></div>'
        f'<script type="application/json" class="figure" data-place="figure-{place}">{encoded}</script></figure>'
    )


def _parameters(study: Study) -> Section:
    heading = "Each parameter"
    try:
        charts = [plots.parameter(study, name) for name in study.space.names]
    except StudyError as error:
        return Section("parameters", heading, absent=f"{heading.lower()} ({text(_reason(error))})")
    caption = (
        '<p class="soft">Dots: trials. Line: partial dependence of the surrogate; band: its 90 % uncertainty; '
        "thin lines: the middle 90 % over the other parameters. Diamond: recommended.</p>"
    )
    cells = "".join(
        f"<div>{_figure(f'parameter-{i}', chart, text(name))}</div>"
        for i, (name, chart) in enumerate(zip(study.space.names, charts, strict=True))
    )
    return Section("parameters", heading, f'{caption}<div class="grid">{cells}</div>')


def _sobol(study: Study) -> Section:
    heading = "Which parameters matter"
    try:
        charts, said = sobol_charts(study)
    except StudyError as error:
        return Section("sobol", heading, absent=f"{heading.lower()} ({text(_reason(error))})")
    cells = "".join(
        f"<div>{_figure(f'sobol-{i}', finished(chart, '', said), ('Loss', 'Spread')[i])}</div>"
        for i, chart in enumerate(charts)
    )
    return Section("sobol", heading, f'<p class="soft">{text(SOBOL_NOTE)}.</p><div class="grid">{cells}</div>')


# -- tables -----------------------------------------------------------------------------------------------------------


def _tables(study: Study) -> Iterator[Section]:
    yield Section("trials", "Best trials", trials_table(study, listed(study)[:LISTED]))
    yield Section("provenance", "Provenance", _provenance(study), "provenance (the study has no session with a file)")


SESSION = ("python", "host", "cpu", "gpus", "driver", "cuda", "git_commit", "git_dirty", "script", "script_sha256")


def _provenance(study: Study) -> str:
    """Sessions of the study, the newest first, each with the packages that matter."""
    sessions = study.provenance
    if not sessions:
        return ""
    parts = []
    for session in reversed(sessions[-LISTED:]):
        began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(session["time"]))
        pairs = [("command", " ".join(map(str, session.get("command", []))))]
        pairs += [(name.replace("_", " "), _said(session[name])) for name in SESSION if name in session]
        pairs += [("packages", ", ".join(f"{name} {version}" for name, version in session.get("packages", {}).items()))]
        pairs += [("job", _said(session["job"]))] if "job" in session else []
        rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs)
        parts.append(f"<h3>Session of {text(began)}</h3><dl>{rows}</dl>")
    left = len(sessions) - len(parts)
    return "".join(parts) + (f"<p>and {left} earlier ones: hyppo show --provenance</p>" if left else "")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = (), wide: Sequence[int] = ()
) -> str:
    """A table of HTML; its cells are escaped already. Columns in `wide` hold sentences."""
    kinds = ["n" if i in numeric else "wide" if i in wide else "" for i in range(len(headings))]
    head = "".join(
        f'<th scope="col"{f" class={kind}" if kind else ""}>{h}</th>' for h, kind in zip(headings, kinds, strict=True)
    )
    cells = (
        "".join(f"<td{f' class={kind}' if kind else ''}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def listed(study: Study) -> list[Trial]:
    """Trials with a known score, best first."""
    return sorted((t for t in study.trials if math.isfinite(study.score(t))), key=study.score)


def trials_table(study: Study, trials: Sequence[Trial]) -> str:
    """Numbers, parameters and metrics of trials; empty without any."""
    if not trials:
        return ""
    metrics, goal = tables.metric_names(study), goal_of(study)
    digits = digits_of((study.score(t) for t in trials), 6)
    headings = ["trial", tables.loss_name(study), "spread", "replicas", *map(text, study.space.names)]
    headings += [f"metrics.{text(name)}" for name in metrics]
    rows = [
        [
            str(t.number) + (f" ({text(t.name)})" if t.name else ""),
            number(tables.as_shown(goal, tables.value_of(t, study)), digits),
            number(t.spread, 3),
            str(t.stats.n if t.stats else 0),
            *(escape(shown(v)) for v in t.params.values()),
            *(metric(name, tables.metrics_of(t).get(name)) for name in metrics),
        ]
        for t in trials
    ]
    return table(headings, rows, numeric=range(4))


def _failures_table(study: Study) -> str:
    _, counts = tables.failure_rows(study)
    last: dict[str, tuple[str, str]] = {}
    for t in study.trials:
        for r in records_of(t):
            if r.failure is not None:
                last[printable(r.failure.type)] = named(t.number, r.index), r.failure.message
    rows = [
        [escape(kind), str(count), last[kind][0], text(one_line(last[kind][1], 400))] for kind, count in counts.items()
    ]
    return table(["failure", "trainings", "last", "message"], rows, numeric=(1,), wide=(3,))
