"""`hyppo show`: the recommendation, the best trials and the failures of a study file."""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hyppo.analysis.calibration import calibration
from hyppo.analysis.comparison import compare_with_named
from hyppo.analysis.confirmation import in_short, recommendation_confirmed
from hyppo.cli.console import StudyFile, console
from hyppo.config import ENSEMBLE_LOSS, named, word_of
from hyppo.errors import StudyError
from hyppo.results import Best, estimated, goal_of, judged_by, observed
from hyppo.study import Study, load
from hyppo.text import counted, digits_of, interval, metric, number, printable, ranged, shown
from hyppo.training.replica import Goal
from hyppo.trial import ReplicaRecord, State, Trial, records_of

ALWAYS = ("metrics.seconds", "metrics.memory")  # of every training, and listed only if asked for
GAP = "  "  # between two columns
INDENT = "         "  # of a trial's values that follow below its numbers


def show(
    study_file: StudyFile,
    top: Annotated[int, typer.Option(help="Trials listed, best first; 0 lists none.", min=0)] = 10,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns to list beside the losses, separated by commas: parameters, metrics.NAME, name, state, by, "
            "failed.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List all trials in the order of their numbers, with every column.")
    ] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List failed replicas with their tracebacks.")] = False,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="List each session: program, versions, machine, job.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON, for a program.")] = False,
) -> None:
    """Show the recommended configuration, the best trials, and the failures.

    Nothing is locked or written, so this works while the study runs.

    Examples: hyppo show study.h5; hyppo show study.h5 --top 30 --columns lr,metrics.seconds
    """
    study = load(study_file)
    listed = list(study.trials) if everything else ranked(study)[:top]
    known = Columns.of(study, listed)
    chosen = known.chosen(columns) if columns is not None else known.every if everything else known.usual
    screen = console()
    if as_json:
        screen.file.write(json.dumps(_record(study, listed), indent=2) + "\n")
        screen.file.flush()
        return
    _summary(screen, study, str(study_file))
    _recommended(screen, study)
    if listed:
        screen.print()
        screen.print(Text("all trials" if everything else f"best observed, by {known.criterion}", style="bold"))
        for line in laid_out(listed, known.numbers, chosen, screen.width):
            screen.print(line, soft_wrap=True)
    _failed(screen, study, failures)
    if provenance:
        _sessions(screen, study)


def ranked(study: Study) -> list[Trial]:
    """Trials with a known score, best first."""
    return sorted((t for t in study.trials if math.isfinite(study.score(t))), key=study.score)


# -- the table of trials ----------------------------------------------------------------------------------------------

Cell = Callable[[Trial], str]


@dataclass(frozen=True)
class Columns:
    """Columns of the table of trials, by heading.

    `numbers` are never cut and always shown; `usual` come beside or below them; `every` is all there is.
    """

    numbers: dict[str, Cell]
    usual: dict[str, Cell]
    every: dict[str, Cell]
    criterion: str

    @staticmethod
    def of(study: Study, listed: Sequence[Trial]) -> "Columns":
        """All columns of a study's trials."""
        numbers: dict[str, Cell] = {"trial": lambda t: str(t.number)}
        criterion = "mean"
        digits = digits_of((study.score(t) for t in listed), 6)
        goal = goal_of(study)
        if study.target == ENSEMBLE_LOSS:
            numbers["ensemble loss"] = lambda t: number(t.ensemble_loss, digits)
            numbers["u"] = lambda t: number(t.losses.std if t.losses else None, 3)
            criterion = "ensemble loss"
        if study.config.other_score:
            criterion = word_of(study.config.score)
            numbers[criterion] = lambda t: _score(t.score(study.target, 0.0, study.config.score), goal, digits)
        if study.risk > 0.0:
            criterion = "score"
            numbers[criterion] = lambda t: _score(study.score(t), goal, digits)
        numbers |= {
            "mean": lambda t: number(None if t.mean is None else goal.shown(t.mean), digits),
            "spread": lambda t: number(t.spread, 3),
            "replicas": lambda t: str(t.stats.n if t.stats else 0),
        }
        failed = {"failed": lambda t: str(sum(r.failure is not None for r in t.replicas))}
        named = {"name": lambda t: shown(t.name or "-")}
        metrics = {f"metrics.{printable(name)}": _metric(name) for name in metric_names(study.trials)}
        taken = {*numbers, *failed, *named, *metrics, "state", "by"}
        params = {
            (f"params.{label}" if label in taken else label): _param(name)
            for name, label in ((name, printable(name)) for name in study.space.names)
        }
        usual = dict(params)
        usual |= {label: cell for label, cell in metrics.items() if label not in ALWAYS}
        if any(t.name for t in study.trials):
            usual = named | usual
        if any(r.failure is not None for t in listed for r in t.replicas):
            usual = failed | usual
        others: dict[str, Cell] = {"state": lambda t: t.state.value, "by": lambda t: shown(t.origin.get("by", "-"))}
        return Columns(numbers, usual, named | failed | others | metrics | params, criterion)

    def chosen(self, names: str) -> dict[str, Cell]:
        """The columns that the user names.

        Raises
        ------
        StudyError
            A name that is no column.
        """
        found: dict[str, Cell] = {}
        for name in filter(None, (part.strip() for part in names.split(","))):
            label = name if name in self.every or name in self.numbers else name.removeprefix("params.")
            if label in self.numbers:
                continue
            if label not in self.every:
                raise StudyError(f"--columns: there is no column {printable(name)}; there are {', '.join(self.every)}")
            found[label] = self.every[label]
        return found


def _param(name: str) -> Cell:
    return lambda t: shown(t.params.get(name, "-"))


def _metric(name: str) -> Cell:
    return lambda t: metric(name, t.metrics.get(name))


def metric_names(trials: Iterable[Trial]) -> list[str]:
    """Names of all metrics that any trial has, in the order of their first use."""
    return list(dict.fromkeys(name for t in trials for name in t.metrics))


def _score(score: float, goal: Goal, digits: int) -> str:
    """A score in the sign of the metric; "-" if it is unknown."""
    return number(goal.shown(score) if math.isfinite(score) else None, digits)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def laid_out(trials: Sequence[Trial], numbers: dict[str, Cell], others: dict[str, Cell], width: int) -> list[Text]:
    """Lines of the table: the other columns beside the numbers if they fit into `width`, else below each trial's."""
    cells = {name: [cell(t) for t in trials] for name, cell in {**numbers, **others}.items()}
    widths = {name: max(cell_len(name), *map(cell_len, column)) for name, column in cells.items()}
    beside = sum(widths.values()) + len(GAP) * (len(widths) - 1) <= width
    first = list(cells) if beside else list(numbers)

    def row(values: Sequence[str], style: str = "") -> Text:
        padded = [" " * (widths[name] - cell_len(v)) + v for name, v in zip(first, values, strict=True)]
        return Text(GAP.join(padded), style=style)

    lines = [row(first, "bold")]
    for i in range(len(trials)):
        lines.append(row([cells[name][i] for name in first]))
        if not beside and others:
            lines += _below([f"{name} = {cells[name][i]}" for name in others if cells[name][i] != "-"], width)
    return lines


def _below(items: Sequence[str], width: int) -> list[Text]:
    """Items one after another on indented lines of `width`; one that is longer than a line is folded, never cut."""
    lines, line = [], ""
    for item in items:
        longer = f"{line},{GAP}{item}" if line else item
        if line and cell_len(INDENT + longer) >= width:
            lines.append(line + ",")
            line = item
        else:
            line = longer
    lines.append(line)
    room = max(width - len(INDENT), 10)
    return [Text(INDENT + line[at : at + room], "dim") for line in lines for at in range(0, max(len(line), 1), room)]


# -- the parts above and below it -------------------------------------------------------------------------------------


def _pairs(screen: Console, pairs: Iterable[tuple[str, str]]) -> None:
    """Lines of a name and its text, which is wrapped beside the name."""
    rows = list(pairs)
    label = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        width = max(screen.width - label - 2, 20)
        for i, line in enumerate(Text(text).wrap(screen, width)):
            start = Text(f"  {name if i == 0 else '':<{label}}", "dim")
            screen.print(start + line, soft_wrap=True)


def _summary(screen: Console, study: Study, name: str) -> None:
    states = [(state, sum(t.state is state for t in study.trials)) for state in State]
    replicas = [r for t in study.trials for r in t.replicas]
    screen.print(Text(printable(name), "bold"), soft_wrap=True)
    surrogate = printable(study.surrogate)
    counts = ", ".join(f"{count} {state.value}" for state, count in states if count)
    pairs = [
        ("study", f"seed {study.seed}, surrogate {surrogate}, {judged_by(study)}"),
        ("trials", f"{len(study.trials)}: {counts}" if counts else "none yet"),
        (
            "replicas",
            f"{len(replicas)}: {sum(r.loss is not None for r in replicas)} with a loss, "
            f"{sum(r.state is State.FAILED for r in replicas)} failed, "
            f"{sum(r.state is State.PRUNED for r in replicas)} stopped early, "
            f"{sum(r.state is State.PENDING for r in replicas)} pending",
        ),
    ]
    if stopped := _stopped_early(study):
        pairs.append(("stopped", stopped))
    _pairs(screen, pairs)


def _stopped_early(study: Study) -> str:
    """The trials that the rule stopped early, and the number of reports saved; empty if there are none."""
    pruned = [t for t in study.trials if t.state is State.PRUNED]
    if not pruned:
        return ""
    short = [len(r.curve) for t in pruned for r in t.replicas if r.state is State.PRUNED]
    whole = sorted(len(r.curve) for t in study.trials for r in t.replicas if r.loss is not None)
    others = f" (others: {whole[len(whole) // 2]})" if whole else ""
    return f"stopped {counted(len(pruned), 'trial')} early, after {ranged(short, 'report')}{others}"


def _recommended(screen: Console, study: Study) -> None:
    screen.print()
    try:
        best = study.best
    except StudyError as error:
        screen.print(Text(f"no recommendation: {error}", "bold"))
        return
    screen.print(Text("recommended", "bold"))
    _pairs(screen, _facts(study, best))


def _facts(study: Study, best: Best) -> Iterable[tuple[str, str]]:
    name = study.trials[best.number].name
    yield "trial", f"{best.number} ({shown(name)})" if name else str(best.number)
    goal = best.goal
    around = interval(*goal.interval(*best.interval), 6)
    estimate = number(goal.shown(best.estimate), 6, best.width)
    yield "estimate", f"{estimate}, {around}, for the {estimated(study)}"
    spread = "spread unknown" if best.spread is None else f"spread {best.spread:.4g}"
    yield (
        "observed",
        f"{observed(best, 6, label=True)}, {spread}, over {counted(best.replicas, 'replica')}"
        + (f"; {best.failed} failed" if best.failed else ""),
    )
    if found := recommendation_confirmed(study, best):
        yield "confirmed", in_short(found, goal, study.config)
    for other, versus in compare_with_named(study, best.number):
        yield "compared", f"with {shown(other.name)} (trial {other.number}), {study.config.quantity('loss')}: {versus}"
    if best.ensemble_loss is not None:
        ends = f", l ± 2u: {best.loss_interval[0]:.6g} .. {best.loss_interval[1]:.6g}" if best.loss_interval else ""
        yield "ensemble loss", f"l = {best.ensemble_loss:.6g}{ends} (loss of the mean prediction)"
    if held := _calibration(study, best.number):
        yield "predictions", held
    metrics = study.trials[best.number].metrics
    if metrics:
        yield "metrics", ", ".join(f"{printable(name)} = {metric(name, value)}" for name, value in metrics.items())
    yield "why", printable(best.reason)
    for i, (key, value) in enumerate(best.params.items()):
        yield "params" if i == 0 else "", f"{printable(key)} = {printable(value)}"


def _calibration(study: Study, number: int) -> str:
    """A comparison of a trial's predictions with their targets; empty if one of them is missing."""
    try:
        found = calibration(study.predictions(number), crps=find_spec("scoringrules") is not None)
    except StudyError:
        return ""
    return f"before calibration, on the data that chose the configuration: {found}"


def _failed(screen: Console, study: Study, all_of_them: bool) -> None:
    failed = _failures(study)
    if not failed:
        return
    screen.print()
    if all_of_them:
        for trial, record in failed:
            assert record.failure is not None
            screen.print(Text(named(trial.number, record.index), "bold"))
            screen.print(Text(printable(record.failure, lines=True), "red"), soft_wrap=True)
            screen.print(Text(printable(record.failure.traceback, lines=True)), soft_wrap=True)
        return
    trial, record = failed[-1]
    assert record.failure is not None
    text = printable(f"last failure: {named(trial.number, record.index)}: {record.failure.line}")
    screen.print(Text(text, "red"))
    screen.print(Text("--failures lists them all with their tracebacks", "dim"))


def _failures(study: Study) -> list[tuple[Trial, ReplicaRecord]]:
    """Failed replicas and confirmations, each with its trial."""
    return [(t, r) for t in study.trials for r in records_of(t) if r.failure is not None]


# -- the same for a program -------------------------------------------------------------------------------------------


def _record(study: Study, listed: Sequence[Trial]) -> dict[str, Any]:
    replicas = [r for t in study.trials for r in t.replicas]
    recommended: dict[str, Any] | None = None
    try:
        best = study.best
    except StudyError:
        pass
    else:
        found = recommendation_confirmed(study, best)
        recommended = {
            **_trial_record(study, study.trials[best.number]),
            "estimate": best.estimate,
            "interval": [_finite(end) for end in best.interval],
            "reason": best.reason,
            "confirmation": None
            if found is None
            else {
                "losses": list(found.losses),
                "mean": found.mean,
                "spread": found.spread,
                "interval": [_finite(end) for end in found.interval],
                "predicted": [_finite(end) for end in found.predicted],
                "held": found.held,
            },
            "compared": [
                {
                    "number": other.number,
                    "name": other.name,
                    "difference": versus.difference,
                    "interval": [_finite(end) for end in versus.interval],
                    "probability": versus.probability,
                }
                for other, versus in compare_with_named(study, best.number)
            ],
        }
    return {
        "seed": study.seed,
        "surrogate": str(study.surrogate),
        "risk": study.risk,
        "target": study.target,
        "score": word_of(study.config.score),
        "trials": {state.value: sum(t.state is state for t in study.trials) for state in State},
        "replicas": {state.value: sum(r.state is state for r in replicas) for state in State},
        "recommended": recommended,
        "listed": [_trial_record(study, t) for t in listed],
        "failures": [
            {"trial": t.number, "replica": r.index, "type": r.failure.type, "message": r.failure.message}
            for t, r in _failures(study)
            if r.failure is not None
        ],
    }


def _trial_record(study: Study, trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "name": trial.name,
        "state": trial.state.value,
        "score": _finite(study.score(trial)),
        "mean": trial.mean,
        "spread": trial.spread,
        "replicas": trial.stats.n if trial.stats else 0,
        "failed": sum(r.failure is not None for r in trial.replicas),
        "ensemble_loss": trial.ensemble_loss,
        "metrics": dict(trial.metrics),
        "params": dict(trial.params),
    }


def _sessions(screen: Console, study: Study) -> None:
    """Every session, with the lines that differ from those of the session before."""
    before: dict[str, str] = {}
    for session in study.provenance:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(session["time"]))
        lines = {name: _value(value) for name, value in session.items() if name != "time"}
        screen.print()
        screen.print(Text(f"session of {began}", style="bold"))
        for name, value in lines.items():
            if before.get(name) != value:
                screen.print(Text(f"  {printable(name):14} {value}"), soft_wrap=True)
        before = lines


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{printable(k)} {printable(v)}" for k, v in value.items())
    return printable(" ".join(map(str, value)) if isinstance(value, list) else value)
