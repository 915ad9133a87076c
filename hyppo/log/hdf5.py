"""The study file in HDF5: create it, append to it, read it.

Every file is written by one process, closed, and only then given its name. HDF5 gets open streams, never a path: so it
takes no locks, follows no links, and needs no feature of later versions.
"""

import errno
import gc
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from hyppo.curve import Curve
from hyppo.errors import LogError
from hyppo.log import codec
from hyppo.log.header import Header
from hyppo.log.rows import Batch, events_of, numbers
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
    PLANNED,
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

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DAMAGE = (LogError, KeyError, IndexError, ValueError, TypeError, RuntimeError, MemoryError, OSError)
WIDE = ("trials/params", "replicas/curve", "replicas/metrics")  # two-dimensional
LATER = {*ADDED, "replicas/metrics"}  # not in older files
GOALS = ("goals/metric", "goals/mode")
FAILURES = ("failures/type", "failures/message", "failures/traceback")
REREADS = 64  # times that HDF5 may read a file; it takes less than two


class ReadStream(io.FileIO):
    """A study file that HDF5 reads through Python: any version of HDF5 does, without a lock, beside any other handle.

    HDF5 loops for ever in some damaged files, so the number of bytes read is limited to a multiple of the file's size.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, opener=_open_regular)
        self._left = REREADS * os.fstat(self.fileno()).st_size + (16 << 20)

    def readinto(self, buffer: Any) -> int | None:
        self._left -= len(buffer)
        if self._left < 0:
            raise OSError(errno.EIO, "the file leads in circles")
        return super().readinto(buffer)


def _open_regular(path: str, flags: int) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # the open of a pipe would wait for a writer
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            raise
        raise LogError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LogError(f"{path} is no regular file; name a study file")
    return fd


@contextmanager
def opened(stream: IO[bytes], name: str | Path, mode: str) -> Iterator[h5py.File]:
    """The study file in an open stream; every error of HDF5 about its content becomes a LogError."""
    try:
        with h5py.File(stream, mode, libver=("earliest", "v110")) as file:
            yield file
    except LogError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in (errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        if stream.seek(0) == 0 and stream.read(len(SIGNATURE)) != SIGNATURE:
            raise LogError(f"{name} cannot be opened as an HDF5 file; name a study file of hyppo") from error
        text = str(error) or type(error).__name__
        raise LogError(f"{name} is damaged: {text}; `hyppo check` says what can be read") from error


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
        params.attrs["choices"] = _choices(space)
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
            {
                "asked": NEW,
                "asked further": FURTHER,
                "settled": SETTLED,
                "note": NOTE,
                "began": BEGAN,
                "planned": PLANNED,
            }
        )
        for name in ("events/time", "trials/time", "replicas/start", "replicas/end", "notes/time"):
            file[name].attrs["units"] = "seconds since 1970-01-01T00:00:00Z"
    return contents.getvalue()


def _choices(space: Space) -> str:
    """Lists of values, as JSON, of the parameters whose column in /trials/params is a position."""
    return json.dumps({n: p.to_json()["values"] for n, p in space.parameters.items() if not is_numeric(p)})


def _change_space(file: h5py.File, header: Header) -> None:
    """Replace the space of a study file: the points of its trials stay, their positions in lists may not."""
    space = Space.from_json(header.space)
    params = file["trials/params"]
    points = [json.loads(text) for text in file["trials/params_json"][:]]
    if points:
        params[:] = numbers(space, points)
    params.attrs["choices"] = _choices(space)
    file.attrs["space"] = header.space


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


def append(stream: IO[bytes], before: Extent, added: Batch, header: Header, *, closed: bool) -> None:
    """Append rows to the copy of a study file in `stream`.

    Raises
    ------
    LogError
        The file does not go as far as `before`: something else has written it.
    """
    try:
        with h5py.File(stream, "r+", libver=("earliest", "v110")) as file:
            _, rows, _ = _checked(file, "the study file")
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
            if file.attrs["space"] != header.space:
                _change_space(file, header)
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
    with ReadStream(path) as stream, opened(stream, path, "r") as file:
        return header_of(file.attrs, path)


def header_of(attrs: Mapping[str, Any], path: str | Path) -> Header:
    if attrs.get("format") != FORMAT:
        raise LogError(f"{path} is an HDF5 file, but not a study file of hyppo; give another name to the log")
    version = int(attrs["format_version"])
    if version != FORMAT_VERSION:
        raise LogError(
            f"{path} is a study file of format {version} (hyppo {attrs['hyppo_version']}), this hyppo reads format "
            f"{FORMAT_VERSION}; use the version that wrote it, or a new file"
        )
    return Header(
        str(attrs["uuid"]),
        str(attrs["space"]),
        int(attrs["seed"]),
        json.loads(attrs["config_json"]),
        float(attrs["created"]),
        str(attrs["hyppo_version"]),
    )


def _checked(file: h5py.File, path: str | Path) -> tuple[Header, dict[str, int], dict[str, h5py.Dataset]]:
    """Header, rows of each table, and the datasets, of a file that is as this module makes it."""
    header = header_of(file.attrs, path)
    names = [name for name in (*COLUMNS, *WIDE) if name not in LATER or name in file]
    datasets = {name: own_dataset(file, name, path) for name in names}
    rows = {table: datasets[column].shape[0] if column in datasets else 0 for table, column in TABLES.items()}
    for name, dataset in datasets.items():
        expected = rows[name.split("/")[0]]
        if dataset.shape[0] != expected or dataset.ndim != (2 if name in WIDE else 1):
            raise LogError(f"{path} is damaged: /{name} has the shape {dataset.shape}, expected {expected} rows")
    for column in TABLES.values():
        # rows without storage cost no bytes in the file, and as much memory as somebody likes
        dataset = datasets.get(column)
        if dataset is not None and dataset.id.get_storage_size() < dataset.nbytes and not dataset.compression:
            raise LogError(f"{path} is damaged: /{column} claims {len(dataset)} rows and stores fewer")
    if "replicas/metrics" in datasets and datasets["replicas/metrics"].shape[1] > rows["metrics"]:
        raise LogError(f"{path} is damaged: /replicas/metrics has more columns than /metrics has names")
    if rows["events"] != file.attrs["seq"]:
        raise LogError(f"{path} is damaged: it holds {rows['events']} events and says {file.attrs['seq']}")
    return header, rows, datasets


def own_dataset(file: h5py.File, name: str, path: str | Path) -> h5py.Dataset:
    """A dataset of the expected type that lies in this file and in no other: a link could lead to any file."""
    at = file.id
    for part in name.split("/"):
        if part.encode() not in at:
            raise LogError(f"{path} is damaged: /{name} is missing")
        if at.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise LogError(f"{path}: /{name} is a link, which is not followed: it could lead to another file")
        at = h5py.h5o.open(at, part.encode())
    if not isinstance(at, h5py.h5d.DatasetID):
        raise LogError(f"{path} is damaged: /{name} is no dataset")
    creation = at.get_create_plist()
    if creation.get_external_count() or creation.get_layout() == h5py.h5d.VIRTUAL:
        raise LogError(f"{path}: /{name} is stored in another file, which is not read")
    dataset = h5py.Dataset(at)
    kind = COLUMNS.get(name, "f8")
    text = h5py.check_string_dtype(dataset.dtype)
    if (text is None or text.length is not None) if kind == TEXT else dataset.dtype != np.dtype(kind):
        raise LogError(f"{path} is damaged: /{name} is of type {dataset.dtype}, expected {kind}")
    return dataset


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
    with ReadStream(path) as stream, opened(stream, path, "r") as file, collector_paused():
        header, rows, datasets = _checked(file, path)
        table = Table(datasets, since.rows)

        def texts(*columns: str) -> list[Any]:
            return list(zip(*(map(text_of, table(column)) for column in columns), strict=True))

        hosts = [*since.hosts, *(host for (host,) in texts("hosts"))]
        failures = [*since.failures, *(Failure(*found) for found in texts(*FAILURES))]
        names = [*since.metrics, *(name for (name,) in texts("metrics"))]
        goals = [*since.goals, *(Goal(*pair) for pair in texts(*GOALS))]
        extent = extent_of(rows, hosts, failures, names, goals)
        events = list(events_of(table, extent))
        return header, events, extent, bool(file.attrs["closed"])


def extent_of(rows: Mapping[str, int], *stored_once: Sequence[Any]) -> Extent:
    positions = [{text: i for i, text in enumerate(found)} for found in stored_once]
    if [len(found) for found in positions] != [len(found) for found in stored_once]:
        raise ValueError("a text that is stored once is there twice")
    return Extent(rows, *positions)


@contextmanager
def collector_paused() -> Iterator[None]:
    # Millions of small tuples, none of them garbage: collecting in between takes longer than making them.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Table:
    """Columns of an open file, from one row of each table to another (by default the last), as lists."""

    def __init__(
        self,
        datasets: Mapping[str, h5py.Dataset],
        first: Mapping[str, int],
        last: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._datasets = datasets
        self.first = first
        self._last = last

    def __call__(self, name: str) -> list[Any]:
        table = name.split("/")[0]
        first, last = self.first[table], self._last.get(table)
        if name in ADDED and name not in self._datasets:
            there = len(self._datasets[TABLES[table]]) if TABLES[table] in self._datasets else first
            return [ADDED[name]] * ((there if last is None else last) - first)
        values: list[Any] = self._datasets[name][first:last].tolist()
        return values

    def curves(self, lo: int, hi: int, width: int) -> npt.NDArray[np.float64]:
        first = self.first["replicas"]
        rows: npt.NDArray[np.float64] = self._datasets["replicas/curve"][first + lo : first + hi, :width]
        return rows

    def metrics(self) -> npt.NDArray[np.float64]:
        first, last = self.first["replicas"], self._last.get("replicas")
        if "replicas/metrics" not in self._datasets:
            return np.empty((len(self._datasets[TABLES["replicas"]][first:last]), 0))
        rows: npt.NDArray[np.float64] = self._datasets["replicas/metrics"][first:last]
        return rows
