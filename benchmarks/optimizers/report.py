"""Tables and figures of a results file, written into a page between two marks."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.optimizers.measures import Estimate, Races, Record
from benchmarks.optimizers.peers import OPTIMIZERS
from benchmarks.optimizers.reference import SAMPLES, Reference
from benchmarks.optimizers.spending import OWN, Spendings

BEGIN, END = "<!-- optimizers: begin -->", "<!-- optimizers: end -->"
_COUNTS = ("visited", "replicas")
NOISY = ("bbob-replicas", "bbob-mixint-replicas", "bbob-noisy", "surface-noisy", "network", "recorded")


def report(records: Sequence[Record], page: Path, figures: Path, references: Callable[[str], Reference]) -> str:
    """Write the results of `records` into `page`, figures as SVG into `figures`; returns the text.

    Raises
    ------
    ValueError
        No record, or records of both splits.
    """
    if not records:
        raise ValueError("no results to report: run the benchmark first")
    if len({r["seed"] < 1000 for r in records}) > 1:
        raise ValueError("results of both splits in one file: races for choosing defaults must not be reported")
    figures.mkdir(parents=True, exist_ok=True)
    parts = _spendings([r for r in records if r.get("unit") == "trainings"], references)
    evaluations = [r for r in records if r.get("unit") != "trainings"]
    for budget in sorted({r["budget"] for r in evaluations}):
        here = [r for r in evaluations if r["budget"] == budget]
        by_pending = {
            k: Races([r for r in here if r["pending"] == k], references) for k in sorted({r["pending"] for r in here})
        }
        for pending, races in by_pending.items():
            variants = [o for o in races.optimizers if _own(o) not in (None, "hyppo")]
            parts.append(_section(races.complete(leave_out=variants), budget, pending, figures, page.parent))
            parts.append(_partial(races, variants))
        if 1 in by_pending:
            parts.append(_questions(by_pending))
    text = "\n\n".join(p for p in parts if p)
    _write(page, text)
    return text


def _write(page: Path, text: str) -> None:
    block = f"{BEGIN}\n{text}\n{END}"
    old = page.read_text() if page.exists() else f"# Benchmarks\n\n{block}\n"
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n{block}\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, old, flags=re.DOTALL))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spendings(records: Sequence[Record], references: Callable[[str], Reference]) -> list[str]:
    """Tables of races at equal trainings, one for each number of them."""
    parts = []
    for trainings in sorted({int(mark) for r in records for mark in r["spent"]}):
        races = Spendings(records, trainings, references)
        problems = {f: len({r["problem"] for r in races.records if r["family"] == f}) for f in races.families}
        ran = {name: {r["problem"] for r in races.of(name)} for name in races.labels}
        rows = [
            [
                name,
                races.speed_up(name).relative(),
                "" if name == OWN or OWN not in races.labels else races.ratio(OWN, name).relative(),
                races.visited_speed_up(name).relative(),
                races.mean(races.of(name), races.picked).text(0, 100.0),
                races.mean(races.of(name), races.regret).text(3),
                races.mean(races.of(name), races.optimism).text(3),
                races.coverage(name).text(0, 100.0),
                *(f"{np.median([r['spent'][races.mark][what] for r in races.of(name)]):.0f}" for what in _COUNTS),
                str(len(ran[name])),
                str(len(races.of(name))),
            ]
            # First those that have run all problems: means over different problems do not compare.
            for name in sorted(races.labels, key=lambda o: (-len(ran[o]), -(races.speed_up(o).value or 0.0)))
        ]
        parts += [
            f"### {trainings} trainings",
            "Problems: " + ", ".join(f"{f} {n}" for f, n in problems.items()) + f"; {len(races.records)} races.",
            table(
                [
                    "optimiser",
                    "x",
                    f"{OWN} / it",
                    "x of the best visited",
                    "picked, %",
                    "regret",
                    "optimism",
                    "coverage, %",
                    "points",
                    "replicas of the recommended",
                    "problems",
                    "races",
                ],
                rows,
            ),
            *_intervals(races),
        ]
    failed = [r for r in records if r["error"]]
    if failed:
        parts.append("Failed races, which count nowhere: " + _failures(failed) + ".")
    return parts


def _intervals(races: Spendings) -> list[str]:
    """Coverage and optimism by family, of the optimisers that give an interval."""
    names = [name for name in races.labels if races.coverage(name).value is not None]
    rows = [
        [
            name,
            family,
            races.coverage(name, family).text(0, 100.0),
            races.mean(races.of(name, family), races.optimism).text(3),
            f"{np.median([races.width(r) for r in races.of(name, family)]):.2f}",
            str(len(races.of(name, family))),
        ]
        for name in names
        for family in races.families
        if races.of(name, family)
    ]
    if not rows:
        return []
    head = ["optimiser", "family", "coverage, %", "optimism", "width", "races"]
    return ["**The 90 % interval by family**, its width in the unit of the optimism (median):", table(head, rows)]


def _section(races: Races, budget: int, pending: int, figures: Path, base: Path) -> str:
    order = sorted(races.optimizers, key=lambda o: -(races.speed_up(o).value or 0.0))
    stem = f"optimizers-{budget}" + (f"-pending-{pending}" if pending > 1 else "")
    mode = "one point at a time" if pending == 1 else f"{pending} points pending"
    problems = {f: len({r["problem"] for r in races.records if r["family"] == f}) for f in races.families}
    seeds = {o: len({r["seed"] for r in races.of(o)}) for o in order}
    ranks = races.ranks()
    parts = [
        f"### {budget} evaluations, {mode}",
        "Problems: " + ", ".join(f"{f} {n}" for f, n in problems.items()) + f"; {len(races.records)} races.",
        "**Random-equivalent speed-up** (geometric mean over problems ± relative standard error; highest in bold; the "
        f"yardstick ends at {SAMPLES // budget:,}), and mean rank over the races that all have run:",
        table(
            ["optimiser", "all", "hyppo / it", *races.families, "mean rank", "seeds"],
            [
                [
                    f"{o} {races.of(o)[0]['version']}",
                    races.speed_up(o).relative(),
                    "" if o == "hyppo" else races.ratio("hyppo", races, o, races.families).relative(),
                    *(_bold(races, o, f) for f in races.families),
                    ranks[o].text(),
                    str(seeds[o]),
                ]
                for o in order
            ],
        ),
        "**First in family**, and by how much:",
        table(["family", "first", "x", "second", "x", "first / second"], [_first(races, f) for f in races.families]),
        "**CPU time** of an ask with its tell, imports and start left out:",
        table(
            ["optimiser", "median, ms", "slowest problem, ms", "recommendation, ms"],
            [[o, *(f"{1000 * s:.1f}" for s in races.seconds(o))] for o in order],
        ),
    ]
    if len(order) > 1:
        _regret_figure(races, order, figures / f"{stem}-regret.svg")
        _speed_up_figure(races, order, figures / f"{stem}-speed-up.svg")
        where = figures.relative_to(base) if figures.is_relative_to(base) else figures
        parts += [
            f"![Regret against evaluations, a panel a family]({where}/{stem}-regret.svg)",
            f"![Speed-up by family]({where}/{stem}-speed-up.svg)",
        ]
    return "\n\n".join(parts)


def _partial(races: Races, variants: Sequence[str]) -> str:
    """Those that have not run all problems, each beside `hyppo` on the races that both have run."""
    elsewhere = [*races.complete().optimizers, *variants]
    rows = []
    for o in (o for o in races.optimizers if o not in elsewhere):
        ran = races.of(o)
        rows.append(
            [
                f"{o} {ran[0]['version']}",
                str(len({r["problem"] for r in ran})),
                str(len(ran)),
                races.speed_up(o).relative(),
                races.ratio("hyppo", races, o, races.families).relative(),
                f"{1000 * races.seconds(o)[0]:.0f}",
            ]
        )
    parts = []
    if rows:
        head = ["optimiser", "problems", "races", "x there", "hyppo / it", "CPU, ms an ask"]
        parts += ["**On part of the problems**, on the races that both have run:", table(head, rows)]
    if races.failed:
        parts.append("Failed races, which count nowhere: " + _failures(races.failed) + ".")
    return "\n\n".join(parts)


def _failures(failed: Sequence[Record]) -> str:
    count: dict[tuple[str, str], int] = {}
    for r in failed:
        key = (r["optimizer"], r["error"].strip().splitlines()[-1])
        count[key] = count.get(key, 0) + 1
    return "; ".join(f"{o} {n} (`{why}`)" for (o, why), n in count.items())


def _bold(races: Races, optimizer: str, family: str) -> str:
    values = {o: races.speed_up(o, family).value or 0.0 for o in races.optimizers}
    text = races.speed_up(optimizer, family).relative()
    return f"**{text}**" if text and values[optimizer] == max(values.values()) else text


def _first(races: Races, family: str) -> list[str]:
    order = sorted(races.optimizers, key=lambda o: -(races.speed_up(o, family).value or 0.0))
    if len(order) < 2:
        return [family, *order, "", "", "", ""]
    ratio = races.ratio(order[0], races, order[1], [family])
    x, y = (races.speed_up(o, family).relative() for o in order[:2])
    return [family, order[0], x, order[1], y, ratio.relative()]


def _own(optimizer: str) -> str | None:
    """The name of an optimiser of this package; None for a peer."""
    return optimizer if OPTIMIZERS[optimizer].module == "study" else None


def _questions(by_pending: dict[int, Races]) -> str:
    """The effect of the spread, the recommendation, the replicas and pending points on `hyppo`."""
    races = by_pending[1]
    noisy = [f for f in races.families if f in NOISY]
    rows: list[tuple[str, Estimate]] = []
    for variant in (o for o in races.optimizers if _own(o) and o != "hyppo"):
        rows.append((f"hyppo / {variant}, all families", races.ratio("hyppo", races, variant, races.families)))
        rows.append((f"hyppo / {variant}, families with noise", races.ratio("hyppo", races, variant, noisy)))
    for pending, other in by_pending.items():
        if pending > 1:
            rows += [
                (f"{o}: {pending} pending / one at a time", other.ratio(o, races, o, races.families))
                for o in other.optimizers
            ]
    if "hyppo" in races.optimizers:
        quiet = [f for f in races.families if f not in NOISY]
        for what, optimizer, families in (
            ("replicas told, families with noise", "hyppo", noisy),
            ("one noisy loss a point, families with noise", "hyppo-means", noisy),
            ("families without noise", "hyppo", quiet),
        ):
            if optimizer in races.optimizers and families:
                ratio = races.recommendation(optimizer, *families)
                rows.append((f"recommendation / best observed mean, {what}", ratio))
        for f in noisy:
            rows.append((f"recommendation / best observed mean, {f}", races.recommendation("hyppo", f)))
            rows.append((f"best of the points tried / recommendation, {f}", races.oracle("hyppo", f)))
    shown = [[what, ratio.relative()] for what, ratio in rows if ratio.value is not None]
    parts = []
    if shown:
        parts += ["**What it is worth**, as a ratio of speed-ups on the same races:", table(["comparison", "x"], shown)]
    intervals = [
        [o, f, races.coverage(o, f).text(0, 100.0), str(sum(r["interval"] is not None for r in races.of(o, f)))]
        for o in races.optimizers
        for f in noisy
        if races.coverage(o, f).value is not None
    ]
    if intervals:
        parts += [
            "**Coverage of the 90 % interval** for the true mean at the recommendation:",
            table(["optimiser", "family", "%", "races"], intervals),
        ]
    return "\n\n".join(parts)


def _colour(optimizer: str, order: Sequence[str]) -> Any:
    from matplotlib import colormaps

    return "black" if optimizer == "hyppo" else colormaps["tab20"](sorted(order).index(optimizer) % 20)


def _regret_figure(races: Races, order: Sequence[str], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = min(4, len(races.families))
    rows = -(-len(races.families) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.9 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for family, axis in zip(races.families, axes, strict=False):
        for o in order:
            if not races.of(o, family):
                continue
            n, mean, error = races.regret(o, family)
            colour = _colour(o, order)
            axis.plot(n, mean, color=colour, lw=2.0 if o == "hyppo" else 1.2, label=o)
            if o == "hyppo":
                axis.fill_between(n, mean * np.exp(-error), mean * np.exp(error), color=colour, alpha=0.12, lw=0)
        axis.set_yscale("log")
        _plain_numbers(axis.yaxis)
        axis.set_title(family, fontsize=10)
        axis.set_xlabel("evaluations")
        axis.grid(alpha=0.25)
    for axis in list(axes):
        axis.set_visible(False)
    figure.supylabel("regret of the recommendation / that of a median random point")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    _save(figure, path)


def _speed_up_figure(races: Races, order: Sequence[str], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 0.42 * len(order) + 1.4), layout="constrained")
    axis = figure.subplots()
    for i, o in enumerate(reversed(order)):
        x = races.speed_up(o)
        value, log_error = x.value or 1.0, (x.error or 0.0) / (x.value or 1.0)
        bar = [[value * (1.0 - np.exp(-log_error))], [value * (np.exp(log_error) - 1.0)]]
        axis.errorbar(value, i, xerr=bar, fmt="o", color=_colour(o, order), capsize=3)
    axis.set_yticks(range(len(order)), list(reversed(order)))
    axis.set_ylim(-0.5, len(order) - 0.5)
    axis.set_xscale("log")
    _plain_numbers(axis.xaxis)
    axis.set_xlabel("random-equivalent speed-up, all families, and its standard error")
    axis.grid(axis="x", alpha=0.25)
    _save(figure, path)


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis with 0.2 instead of 2 x 10^-1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": path.stem}):  # the same results give the same file
        figure.savefig(path, metadata={"Date": None})
