"""`hyppo export`: a study file as CSV or Parquet, one row per replica, or as JSON with all contents."""

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hyppo.cli.console import StudyFile
from hyppo.config import CONFIRMATION
from hyppo.errors import LogError, StudyError
from hyppo.log import Header, read_log
from hyppo.log.output import replaced
from hyppo.study import Study, study_of
from hyppo.text import counted, printable
from hyppo.trial import Asked, Began, Event, Note, Planned, ReplicaRecord, Settled, Trial, records_of

Rows = Mapping[str, list[Any]]
"""Columns of the table, one entry a replica."""


class Format(StrEnum):
    """The formats of `hyppo export`."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


ENDINGS = {
    "": Format.CSV,
    ".csv": Format.CSV,
    ".txt": Format.CSV,
    ".json": Format.JSON,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


def export(
    study_file: StudyFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output without it.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="The format; by the output's ending, else csv.")
    ] = None,
) -> None:
    """Export every replica of a study: CSV or Parquet (one row per replica), or JSON (everything in the file).

    Trainings of `hyppo confirm` have 1 in the column `confirmation`, and indices from 1,000,000 on.

    Nothing is locked or written but the output, so this works while the study runs.

    Examples: hyppo export study.h5 > study.csv; hyppo export study.h5 -o study.json
    """
    form = _format(output, form)
    header, events = read_log(study_file)
    study = study_of(study_file, header, events)
    content = _CONTENT[form](study, header, events)
    if output is None:
        _print(content)
        return
    with replaced(output) as stream:
        stream.write(content)
    trained = counted(sum(len(t.replicas) for t in study.trials), "replica")
    if confirmations := sum(len(t.confirmations) for t in study.trials):
        trained += f" and {counted(confirmations, 'confirmation')}"
    done = f"{output}: {trained} of {counted(len(study.trials), 'trial')}"
    typer.echo(printable(done), err=True)


def _format(output: Path | None, form: Format | None) -> Format:
    """The format to write.

    Raises
    ------
    StudyError
        The output's ending is that of another format, or of one that is not written.
    """
    if output is None:
        return form or Format.CSV
    meant = ENDINGS.get(output.suffix.lower())
    if meant is None:
        written = ", ".join(ending for ending in ENDINGS if ending)
        raise StudyError(f"{output}: hyppo export does not write {output.suffix} files; name the output {written}")
    if form is not None and form is not meant and output.suffix:
        raise StudyError(f"{output} would be a {form} file with the ending {output.suffix}: leave out one of the two")
    return form or meant


# -- output -------------------------------------------------------------------------------------------------------


def _print(content: bytes) -> None:
    if sys.stdout is None:  # as with `>&-`
        raise LogError("standard output is closed; name a file with --output")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise LogError(f"standard output cannot be written: {error.strerror or error}") from error


# -- tables -------------------------------------------------------------------------------------------------------


def _trained(study: Study) -> list[tuple[Trial, ReplicaRecord]]:
    """Every replica and confirmation, each with its trial."""
    return [(t, r) for t in study.trials for r in records_of(t)]


def _rows(study: Study) -> Rows:
    """The table of replicas and confirmations. A prefix separates parameters from columns of the same name."""
    of = _trained(study)
    columns: dict[str, Callable[[Trial, ReplicaRecord], Any]] = {
        "trial": lambda t, r: t.number,
        "name": lambda t, r: t.name,
        "replica": lambda t, r: r.index,
        "confirmation": lambda t, r: int(r.index >= CONFIRMATION),
        "seed": lambda t, r: r.seed,
        "state": lambda t, r: str(r.state),
        "loss": lambda t, r: r.loss,
        "start": lambda t, r: r.start,
        "end": lambda t, r: r.end,
        "attempts": lambda t, r: r.attempts,
        "host": lambda t, r: r.host,
        "failure": lambda t, r: None if r.failure is None else str(r.failure),
        "reports": lambda t, r: len(r.curve),
        "ensemble_loss": lambda t, r: r.ensemble_loss,
        "losses": lambda t, r: r.losses.n if r.losses else 0,
        "losses_mean": lambda t, r: r.losses.mean if r.losses else None,
        "losses_std": lambda t, r: r.losses.std if r.losses else None,
    }
    rows = {name: [value(t, r) for t, r in of] for name, value in columns.items()}
    rows |= {f"params.{name}": [t.params.get(name) for t, _ in of] for name in study.space.names}
    names = dict.fromkeys(name for _, r in of for name in r.metrics)
    return rows | {f"metrics.{name}": [r.metrics.get(name) for _, r in of] for name in names}


def _csv(study: Study, header: Header, events: Iterable[Event]) -> bytes:
    rows = _rows(study)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(map(_cell, rows))
    writer.writerows(zip(*([_cell(value) for value in column] for column in rows.values()), strict=True))
    return stream.getvalue().encode()


def _cell(value: Any) -> Any:
    """A value on one line, in a form that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return "" if value is None else value
    line = printable(value)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def _parquet(study: Study, header: Header, events: Iterable[Event]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise StudyError("a Parquet file needs pyarrow: pip install pyarrow; or export to .csv or .json") from None
    rows = _rows(study)
    curves = [r.curve for _, r in _trained(study)]
    columns = {name: _arrow(pa, name, values) for name, values in rows.items()}
    columns["steps"] = pa.array([curve.steps.tolist() for curve in curves], pa.list_(pa.int64()))
    columns["reported"] = pa.array([curve.losses.tolist() for curve in curves], pa.list_(pa.float64()))
    sink = io.BytesIO()
    parquet.write_table(pa.table({printable(name): column for name, column in columns.items()}), sink)
    return sink.getvalue()


def _arrow(pa: Any, name: str, values: list[Any]) -> Any:
    """A column of one type; values of several types become JSON text."""
    known = {"seed": pa.uint64(), "loss": pa.float64(), "start": pa.float64(), "end": pa.float64()}
    known |= dict.fromkeys(("ensemble_loss", "losses_mean", "losses_std"), pa.float64())
    known |= dict.fromkeys(("name", "state", "host", "failure"), pa.string())
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        values = [value if value is None else value.encode("utf-8", "backslashreplace").decode() for value in values]
    elif len(kinds - {int, float}) and len(kinds) > 1:
        values = [None if value is None else json.dumps(value) for value in values]
    try:
        return pa.array(values, known.get(name))
    except (pa.ArrowException, OverflowError):  # integers of more than 64 bits
        return pa.array([None if value is None else json.dumps(value) for value in values])


# -- all of it ----------------------------------------------------------------------------------------------------


def _json(study: Study, header: Header, events: Iterable[Event]) -> bytes:
    asked: dict[int, float] = {}
    order: list[dict[str, Any]] = []
    for event in events:
        match event:
            case Asked(number, _, replicas, origin, time):
                asked.setdefault(number, time)
                order.append(
                    {
                        "kind": "asked",
                        "trial": number,
                        "time": time,
                        "origin": origin,
                        "replicas": [i for i, _ in replicas],
                    }
                )
            case Settled(number, records, closed, time):
                indices = [r.index for r in records]
                order.append({"kind": "settled", "trial": number, "time": time, "replicas": indices, "closed": closed})
            case Note(text, time):
                order.append({"kind": "note", "time": time, "text": text})
            case Began(provenance, time):
                order.append({"kind": "began", "time": time, "provenance": dict(provenance)})
            case Planned(budget, time):
                order.append({"kind": "planned", "time": time, "budget": dict(budget)})
    record = {
        "uuid": header.uuid,
        "created": header.created,
        "hyppo_version": header.version,
        "space": json.loads(header.space),
        "seed": header.seed,
        "config": header.config,
        "trials": [_trial(t, asked.get(t.number)) for t in study.trials],
        "notes": [{"time": event["time"], "text": event["text"]} for event in order if event["kind"] == "note"],
        "events": order,
    }
    return (json.dumps(_finite(record), indent=1, allow_nan=False) + "\n").encode()


def _trial(t: Trial, asked: float | None) -> dict[str, Any]:
    return {
        "number": t.number,
        "name": t.name,
        "state": t.state,
        "params": t.params,
        "asked": asked,
        "mean": t.mean,
        "spread": t.spread,
        "ensemble_loss": t.ensemble_loss,
        "losses": _statistics(t),
        "metrics": t.metrics,
        "origin": t.origin,
        "replicas": [_replica(r) for r in t.replicas],
        "confirmations": [_replica(r) for r in t.confirmations],
    }


def _replica(r: ReplicaRecord) -> dict[str, Any]:
    return {
        "index": r.index,
        "seed": r.seed,
        "state": r.state,
        "loss": r.loss,
        "start": r.start,
        "end": r.end,
        "attempts": r.attempts,
        "host": r.host,
        "curve": list(r.curve),
        "ensemble_loss": r.ensemble_loss,
        "losses": _statistics(r),
        "metrics": r.metrics,
        "failure": None
        if r.failure is None
        else {"type": r.failure.type, "message": r.failure.message, "traceback": r.failure.traceback},
    }


def _statistics(of: Trial | ReplicaRecord) -> dict[str, Any] | None:
    return None if of.losses is None else {"n": of.losses.n, "mean": of.losses.mean, "std": of.losses.std}


def _finite(value: Any) -> Any:
    """A value for JSON, with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


_CONTENT: Mapping[Format, Callable[[Study, Header, Iterable[Event]], bytes]] = {
    Format.CSV: _csv,
    Format.JSON: _json,
    Format.PARQUET: _parquet,
}
