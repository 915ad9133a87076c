"""The study file in HDF5: made, appended to, read back; the only module that knows h5py.

Every file is written by one process, closed, and only then given its name.
"""

import errno
import gc
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from hyppo.curve import Curve
from hyppo.errors import LogError
from hyppo.log import codec
from hyppo.log.header import Header
from hyppo.log.rows import Batch, events_of
from hyppo.log.schema import (
    ADDED,
    BEGAN,
    CHUNK,
    COLUMNS,
    CURVE_TILE,
    CURVE_WIDTH,
    FORMAT,
    FORMAT_VERSION,
    FURTHER,
    METRICS_TILE,
    NEW,
    NOTE,
    SETTLED,
    TABLES,
    TEXT,
    Extent,
    is_numeric,
    params_chunk,
    stored,
    text_of,
)
from hyppo.space import Space
from hyppo.training.replica import Failure, Goal
from hyppo.trial import Event


@contextmanager
def _opened(path: str | Path, mode: str) -> Iterator[h5py.File]:
    # locking=False: nobody writes a file that has its name, and a lock would make a reader stop the writer.
    try:
        file = h5py.File(path, mode, libver=("earliest", "v110"), locking=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise
        raise LogError(f"{path} cannot be opened as an HDF5 file: {error}") from error
    with file:
        yield file


def empty(header: Header) -> bytes:
    """Contents of the file of a study without events."""
    space = Space.from_json(header.space)
    contents = io.BytesIO()
    with h5py.File(contents, "w", libver=("earliest", "v110")) as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "hyppo_version": header.version,
                "uuid": header.uuid,
                "created": header.created,
                "space": header.space,
                "seed": str(header.seed),  # of any size
                "config_json": json.dumps(header.config),
                "seq": 0,
                "closed": 0,
            }
        )
        text = h5py.string_dtype()
        for name, dtype in COLUMNS.items():
            file.create_dataset(
                name, (0,), text if dtype == TEXT else dtype, maxshape=(None,), chunks=(CHUNK,), track_times=False
            )
        params = file.create_dataset(
            "trials/params",
            (0, space.dimension),
            "f8",
            maxshape=(None, space.dimension),
            chunks=params_chunk(space.dimension),
            track_times=False,
        )
        params.attrs["names"] = [stored(n) for n in space.names]
        listed = {n: p.to_json()["values"] for n, p in space.parameters.items() if not is_numeric(p)}
        params.attrs["choices"] = json.dumps(listed)
        curve = file.create_dataset(
            "replicas/curve",
            (0, 0),
            "f8",
            maxshape=(None, CURVE_WIDTH),
            chunks=(CHUNK, CURVE_TILE),
            fillvalue=np.nan,
            track_times=False,
        )
        curve.attrs["dims"] = ["replica", "epoch"]
        _create_metrics(file, 0)
        file["replicas/status"].attrs["names"] = [str(state) for state in codec.STATES]
        file["events/kind"].attrs["names"] = json.dumps(
            {"asked": NEW, "asked further": FURTHER, "settled": SETTLED, "note": NOTE, "began": BEGAN}
        )
        for name in ("events/time", "trials/time", "replicas/start", "replicas/end", "notes/time"):
            file[name].attrs["units"] = "seconds since 1970-01-01T00:00:00Z"
    return contents.getvalue()


def _create_metrics(file: h5py.File, replicas: int) -> h5py.Dataset:
    return file.create_dataset(
        "replicas/metrics",
        (replicas, 0),
        "f8",
        maxshape=(None, None),
        chunks=(CHUNK, METRICS_TILE),
        fillvalue=np.nan,
        track_times=False,
    )


def append(path: str | Path, before: Extent, added: Batch, header: Header, *, closed: bool) -> None:
    """Append rows to the file at `path`, which is not its final name.

    Raises
    ------
    LogError
        The file does not go as far as `before`: something else has written it.
    """
    try:
        with _opened(path, "r+") as file:
            _, rows = _checked(file, path)
            if file.attrs["uuid"] != header.uuid or rows != before.rows:
                raise LogError("the study file was changed by another program since this study opened it")
            for name, fill in ADDED.items():
                if name not in file:
                    size = rows[name.split("/")[0]]
                    text = COLUMNS[name] == TEXT
                    file.create_dataset(
                        name,
                        (size,),
                        h5py.string_dtype() if text else COLUMNS[name],
                        maxshape=(None,),
                        chunks=(CHUNK,),
                        fillvalue=fill,
                        track_times=False,
                    )
            if "replicas/metrics" not in file:
                _create_metrics(file, rows["replicas"])
            for name, values in added.columns.items():
                _extend(file[name], values)
            if len(added.params):
                dataset = file["trials/params"]
                dataset.resize(before.rows["trials"] + len(added.params), axis=0)
                dataset[before.rows["trials"] :] = added.params
            _extend_curves(file["replicas/curve"], before.rows["replicas"], added.curves)
            _extend_metrics(file["replicas/metrics"], before.rows["replicas"], added)
            file.attrs.modify("seq", added.extent.sequence)
            file.attrs.modify("closed", int(closed))
            config = json.dumps(header.config)
            if file.attrs["config_json"] != config:
                file.attrs["config_json"] = config
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise LogError(f"the study file was changed by another program and takes no more rows: {error!r}") from error


def _extend(dataset: h5py.Dataset, values: Sequence[Any]) -> None:
    n = dataset.shape[0]
    dataset.resize(n + len(values), axis=0)
    dataset[n:] = np.array(values, dtype=dataset.dtype)


def _extend_curves(dataset: h5py.Dataset, first: int, curves: Sequence[Curve]) -> None:
    if not curves:
        return
    dataset.resize((first + len(curves), max(dataset.shape[1], *map(len, curves))))
    for lo in range(0, len(curves), CHUNK):
        block = curves[lo : lo + CHUNK]
        width = max(map(len, block))
        if width:
            padded = np.full((len(block), width), np.nan)
            for i, curve in enumerate(block):
                padded[i, : len(curve)] = curve.losses
            dataset[first + lo : first + lo + len(block), :width] = padded


def _extend_metrics(dataset: h5py.Dataset, first: int, added: Batch) -> None:
    names = added.extent.metrics
    dataset.resize((first + len(added.metrics), len(names)))
    if added.metrics and names:
        values = np.full((len(added.metrics), len(names)), np.nan)
        for i, metrics in enumerate(added.metrics):
            for name, value in metrics.items():
                values[i, names[name]] = value
        dataset[first:] = values


# -- reading ------------------------------------------------------------------------------------------------------


def read_header(path: str | Path) -> Header:
    """Header alone; raises as `read` does."""
    try:
        with _opened(path, "r") as file:
            return _checked(file, path)[0]
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise LogError(f"{path} is damaged: {error!r}") from error


def _checked(file: h5py.File, path: str | Path) -> tuple[Header, dict[str, int]]:
    attrs = file.attrs
    if attrs.get("format") != FORMAT:
        raise LogError(f"{path} is an HDF5 file, but not a study file of hyppo; give another name to the log")
    version = int(attrs["format_version"])
    if version != FORMAT_VERSION:
        raise LogError(
            f"{path} is a study file of format {version} (hyppo {attrs['hyppo_version']}), this hyppo reads format "
            f"{FORMAT_VERSION}; use the version that wrote it, or a new file"
        )
    header = Header(
        attrs["uuid"],
        attrs["space"],
        int(attrs["seed"]),
        json.loads(attrs["config_json"]),
        float(attrs["created"]),
        attrs["hyppo_version"],
    )
    rows = {
        table: 0 if column in ADDED and column not in file else int(file[column].shape[0])
        for table, column in TABLES.items()
    }
    if rows["events"] != attrs["seq"]:
        raise LogError(f"{path} is damaged: it holds {rows['events']} events and says {attrs['seq']}")
    return header, rows


def read(path: str | Path, since: Extent | None = None) -> tuple[Header, list[Event], Extent, bool]:
    """Header, the events after `since`, how far the file goes, and whether it was closed.

    Raises
    ------
    LogError
        Not a study file, of another format, or damaged.
    FileNotFoundError
        No such file.
    """
    since = since or Extent()
    try:
        with _opened(path, "r") as file, _collector_paused():
            header, rows = _checked(file, path)
            table = _Table(file, since.rows)

            def texts(*columns: str) -> list[Any]:
                return list(zip(*(map(text_of, table(column)) for column in columns), strict=True))

            hosts = [*since.hosts, *(host for (host,) in texts("hosts"))]
            names = [*since.metrics, *(name for (name,) in texts("metrics"))]
            failures = [
                *since.failures,
                *(Failure(*found) for found in texts("failures/type", "failures/message", "failures/traceback")),
            ]
            goals = [*since.goals, *(Goal(*pair) for pair in texts("goals/metric", "goals/mode"))]
            extent = Extent(
                rows, *({text: i for i, text in enumerate(found)} for found in (hosts, failures, names, goals))
            )
            events = list(events_of(table, extent))
            return header, events, extent, bool(file.attrs["closed"])
    except (LogError, FileNotFoundError):
        raise
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ESTALE:
            raise
        raise LogError(f"{path} is damaged: {error!r}") from error


@contextmanager
def _collector_paused() -> Iterator[None]:
    # Millions of small tuples, none of them garbage: collecting in between takes longer than making them.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Table:
    """Columns of an open file from the given rows on, as lists."""

    def __init__(self, file: h5py.File, first: Mapping[str, int]) -> None:
        self.file = file
        self.first = first

    def __call__(self, name: str) -> list[Any]:
        table = name.split("/")[0]
        first = self.first[table]
        if name in ADDED and name not in self.file:
            there = len(self.file[TABLES[table]]) if TABLES[table] in self.file else first
            return [ADDED[name]] * (there - first)
        values: list[Any] = self.file[name][first:].tolist()
        return values

    def curves(self, lo: int, hi: int, width: int) -> npt.NDArray[np.float64]:
        first = self.first["replicas"]
        rows: npt.NDArray[np.float64] = self.file["replicas/curve"][first + lo : first + hi, :width]
        return rows

    def metrics(self) -> npt.NDArray[np.float64]:
        first, there = self.first["replicas"], len(self.file[TABLES["replicas"]])
        if "replicas/metrics" not in self.file:
            return np.empty((there - first, 0))
        rows: npt.NDArray[np.float64] = self.file["replicas/metrics"][first:]
        return rows
