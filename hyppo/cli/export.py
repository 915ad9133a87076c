"""`hyppo export`: a study file as CSV or JSON, one row a replica."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from hyppo.cli.console import StudyFile
from hyppo.study import Study, load


class Format(StrEnum):
    """What `hyppo export` writes."""

    CSV = "csv"
    JSON = "json"


def export(
    study_file: StudyFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output without it.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="csv or json; by the output's ending, else csv.")
    ] = None,
) -> None:
    """Export every replica of a study, as CSV (one row a replica) or JSON (trials with their replicas).

    Nothing is locked or written but the output, so this works while the study runs.

    Examples: hyppo export study.h5 > study.csv; hyppo export study.h5 -o study.json
    """
    study = load(study_file)
    if form is None:
        form = Format.JSON if output is not None and output.suffix.lower() == ".json" else Format.CSV
    write = _write_json if form is Format.JSON else _write_csv
    if output is None:
        write(study, sys.stdout)
        return
    with output.open("w", newline="", encoding="utf-8") as stream:
        write(study, stream)
    replicas = sum(len(t.replicas) for t in study.trials)
    typer.echo(f"{output}: {replicas} replicas of {len(study.trials)} trials", err=True)


def _write_csv(study: Study, stream: TextIO) -> None:
    writer = csv.writer(stream)
    columns = ("trial", "replica", "seed", "state", "loss", "start", "end", "attempts", "host", "failure")
    # A parameter may be called like a column: the prefix keeps both.
    writer.writerow([*columns, *(f"params.{name}" for name in study.space.names)])
    for trial in study.trials:
        for r in trial.replicas:
            row = (trial.number, r.index, r.seed, r.state, r.loss, r.start, r.end, r.attempts, r.host, r.failure)
            writer.writerow(["" if value is None else value for value in row] + list(trial.params.values()))


def _write_json(study: Study, stream: TextIO) -> None:
    trials: list[dict[str, Any]] = [
        {
            "number": t.number,
            "state": t.state,
            "params": dict(t.params),
            "mean": t.mean,
            "spread": t.spread,
            "origin": dict(t.origin),
            "replicas": [
                {
                    "index": r.index,
                    "seed": r.seed,
                    "state": r.state,
                    "loss": r.loss,
                    "start": r.start,
                    "end": r.end,
                    "attempts": r.attempts,
                    "host": r.host,
                    "curve": r.curve,
                    "failure": None
                    if r.failure is None
                    else {"type": r.failure.type, "message": r.failure.message, "traceback": r.failure.traceback},
                }
                for r in t.replicas
            ],
        }
        for t in study.trials
    ]
    record = {
        "space": json.loads(study.space.to_json()),
        "seed": study.seed,
        "risk": study.risk,
        "surrogate": study.surrogate,
        "replicas": list(study.replicas),
        "trials": trials,
    }
    json.dump(record, stream, indent=2, default=str)
    stream.write("\n")
