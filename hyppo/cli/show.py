"""`hyppo show`: what a study file holds, for people."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hyppo.analysis.calibration import calibration
from hyppo.errors import StudyError
from hyppo.study import Study, load
from hyppo.trial import State, Trial

StudyFile = Annotated[Path, typer.Argument(help="The study file, e.g. study.h5; it may be in use.", show_default=False)]


def show(
    study_file: StudyFile,
    top: Annotated[int, typer.Option(help="Trials listed, best mean first; 0 lists none.", min=0)] = 10,
    failures: Annotated[bool, typer.Option("--failures", help="List failed replicas with their tracebacks.")] = False,
) -> None:
    """Show the recommended configuration, the best trials, and what failed.

    Nothing is locked or written, so this works while the study runs.
    """
    console = Console()
    study = load(study_file)
    counts = {state: sum(t.state is state for t in study.trials) for state in State}
    replicas = [r for t in study.trials for r in t.replicas]
    console.print(f"[bold]{study_file}[/bold]: seed {study.seed}, surrogate {study.surrogate}, risk {study.risk:g}")
    console.print(
        f"trials   {len(study.trials)}: "
        + ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    )
    console.print(
        f"replicas {len(replicas)}: {sum(r.loss is not None for r in replicas)} with a loss, "
        f"{sum(r.state is State.FAILED for r in replicas)} failed, "
        f"{sum(r.state is State.PRUNED for r in replicas)} stopped early, "
        f"{sum(r.state is State.PENDING for r in replicas)} pending"
    )
    if stopped := _stopped_early(study):
        console.print(stopped)
    if any(t.stats for t in study.trials):
        console.print(_recommended(study))
        if top:
            console.print(_ranking(study, top))
    else:
        console.print("no replica has a finite loss yet")
    failed = [(t, r) for t in study.trials for r in t.replicas if r.failure is not None]
    if failed and failures:
        for trial, record in failed:
            console.rule(f"trial {trial.number} replica {record.index}")
            console.print(str(record.failure), style="red", markup=False)
            console.print(record.failure.traceback if record.failure else "", markup=False, highlight=False)
    elif failed:
        trial, record = failed[-1]
        console.print(
            f"last failure: trial {trial.number} replica {record.index}: {record.failure}", style="red", markup=False
        )
        console.print("--failures lists them all with their tracebacks")


def _stopped_early(study: Study) -> str:
    """What the rule for stopping early gave up, and what that spared; empty where it gave up nothing."""
    pruned = [t for t in study.trials if t.state is State.PRUNED]
    if not pruned:
        return ""
    short = sorted(len(r.curve) for t in pruned for r in t.replicas if r.state is State.PRUNED)
    whole = sorted(len(r.curve) for t in study.trials for r in t.replicas if r.loss is not None)
    others = f" (others: {whole[len(whole) // 2]})" if whole else ""
    return f"stopped  {len(pruned)} trials early, after {short[0]} to {short[-1]} reports{others}"


def _recommended(study: Study) -> Table:
    best = study.best
    table = Table(title="recommended", show_header=False, title_justify="left")
    table.add_row("trial", str(best.number))
    table.add_row("params", json.dumps(best.params))
    spread = "unknown (one replica)" if best.spread is None else f"{best.spread:.4g}"
    table.add_row("mean, spread", f"{best.mean:.6g}, {spread} over {best.replicas} replicas")
    if best.ensemble_loss is not None:
        interval = f", l ± 2u: {best.loss_interval[0]:.6g} .. {best.loss_interval[1]:.6g}" if best.loss_interval else ""
        table.add_row("loss of the mean prediction", f"l = {best.ensemble_loss:.6g}{interval}")
    held = _calibration(study, best.number)
    if held:
        table.add_row("prediction intervals", held)
    table.add_row("90 % interval of a retraining", f"{best.interval[0]:.6g} .. {best.interval[1]:.6g}")
    table.add_row("why", best.reason)
    return table


def _calibration(study: Study, number: int) -> str:
    """How the predictions of a trial hold against their targets; empty where that cannot be said."""
    try:
        return str(calibration(study.predictions(number), crps=find_spec("scoringrules") is not None))
    except StudyError:  # no predictions, no targets, or none that compare
        return ""


def _ranking(study: Study, top: int) -> Table:
    ranked: list[Trial] = sorted((t for t in study.trials if t.stats), key=study.score)
    table = Table(title="best observed", title_justify="left")
    for name in ("trial", "mean", "spread", "replicas", *study.space.names):
        table.add_column(name, justify="right")
    for trial in ranked[:top]:
        stats = trial.stats
        if stats is not None:
            values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in trial.params.values()]
            spread = "-" if stats.std is None else f"{stats.std:.3g}"
            table.add_row(str(trial.number), f"{stats.mean:.6g}", spread, str(stats.n), *values)
    return table
