"""The readable part of a damaged study file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from hyppo.log.hdf5 import (
    DAMAGE,
    FAILURES,
    GOALS,
    LATER,
    WIDE,
    ReadStream,
    Table,
    collector_paused,
    extent_of,
    header_of,
    opened,
    own_dataset,
)
from hyppo.log.header import Header
from hyppo.log.rows import events_of
from hyppo.log.schema import CHUNK, COLUMNS, FURTHER, NEW, SETTLED, TEXTS, text_of
from hyppo.training.replica import Failure, Goal
from hyppo.trial import Event


def salvage(path: str | Path) -> tuple[Header, list[Event], int, list[str]]:
    """The readable part of a damaged file: header, events, their number by the header, and a line for each loss.

    Raises
    ------
    LogError
        Not even the header can be read.
    FileNotFoundError
        No such file.
    """
    lost: list[str] = []
    with ReadStream(path) as stream, opened(stream, path, "r") as file, collector_paused():
        header = header_of(file.attrs, path)
        datasets = {}
        for name in (*COLUMNS, *WIDE):
            try:
                datasets[name] = own_dataset(file, name, path)
            except DAMAGE as error:
                if name not in LATER:
                    lost.append(str(error))
        hosts, failures, metrics, goals = (
            _texts(datasets, columns, lost) for columns in (("hosts",), FAILURES, ("metrics",), GOALS)
        )
        bounds = _bounds(datasets, lost)
        known = extent_of(
            {},
            [host for (host,) in hosts],
            [Failure(*texts) for texts in failures],
            [name for (name,) in metrics],
            [Goal(*pair) for pair in goals],
        )
        events: list[Event] = []
        claimed = len(bounds["events"]) - 1
        pending = [(lo, min(lo + CHUNK, claimed)) for lo in reversed(range(0, claimed, CHUNK))]
        while pending:  # halves of a range that does not read, down to the event that is at fault
            lo, hi = pending.pop()
            try:
                first, last = ({table: int(at[i]) for table, at in bounds.items()} for i in (lo, hi))
                events += list(events_of(Table(datasets, *_with_curves(datasets, first, last)), known))
            except DAMAGE as error:
                if hi - lo > 1:
                    pending += [((lo + hi) // 2, hi), (lo, (lo + hi) // 2)]
                else:
                    lost.append(f"event {lo + 1}: {error}")
    return header, events, claimed, lost


def _texts(datasets: Mapping[str, h5py.Dataset], names: Sequence[str], lost: list[str]) -> list[list[str]]:
    """Rows of columns of text; a cell that does not read is a text that says so."""
    length = max((len(datasets[name]) for name in names if name in datasets), default=0)
    columns: list[list[str]] = []
    for name in names:
        cells = [f"lost, row {i}" for i in range(length)]  # no two alike: each text is stored once
        for i in range(len(datasets[name]) if name in datasets else 0):
            try:
                cells[i] = text_of(datasets[name][i])
            except DAMAGE as error:
                lost.append(f"/{name} row {i}: {error}")
        columns.append(cells)
    return [list(row) for row in zip(*columns, strict=True)]


def _bounds(datasets: Mapping[str, h5py.Dataset], lost: list[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Rows of each table before each event, and after the last one that reads."""
    columns: list[list[int]] = [[], []]
    try:
        both = [datasets[f"events/{name}"] for name in ("kind", "count")]
        for lo in range(0, min(map(len, both)), CHUNK):
            for column, dataset in zip(columns, both, strict=True):
                column += dataset[lo : lo + CHUNK].tolist()
    except DAMAGE as error:
        lost.append(f"all events from {min(map(len, columns)) + 1} on: {error}")
    kind, count = (np.array(column[: min(map(len, columns))], dtype=np.int64) for column in columns)
    added = {
        "events": np.ones_like(kind),
        "trials": kind == NEW,
        "further": kind == FURTHER,
        "asks": np.where((kind == NEW) | (kind == FURTHER), count, 0),
        "replicas": np.where(kind == SETTLED, count, 0),
        "notes": np.isin(kind, TEXTS),
    }
    return {table: np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]) for table, rows in added.items()}


def _with_curves(
    datasets: Mapping[str, h5py.Dataset], first: dict[str, int], last: dict[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of /curves that belong to a range of replicas, added to its bounds."""
    rows = slice(first["replicas"], last["replicas"])
    places, lengths = (datasets[f"replicas/{name}"][rows] for name in ("curve_at", "epochs"))
    ends = (places + lengths)[places >= 0]
    starts = places[places >= 0]
    low, high = (int(starts.min()), int(ends.max())) if starts.size else (0, 0)
    return first | {"curves": low}, last | {"curves": high}
