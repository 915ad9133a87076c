"""The HDF5 side of the study file: what is stored where, appending events, reading them back exactly.

    dataset                    shape   a row is
    /events/{kind,trial,time,closed,count}
                               (e,)    an event, in order: number e is row e - 1; with the rest below, all of it
    /trials/{trial,time,params_json,origin}
                               (t,)    a trial: row number = trial number
    /trials/params             (t, d)  its point in numbers; attributes: `names`, and `choices` (JSON) of the columns
                                       that hold the position of a value in its list
    /asks/{trial,replica,seed} (a,)    a replica that was asked
    /further/{trial,params_json,origin}
                               (f,)    an ask for more replicas of a trial that exists
    /replicas/<column>         (n,)    a replica that ended; NaN is none; `host` and `failure` are rows of /hosts and
                                       /failures
    /replicas/losses{,_mean,_std}, /replicas/ensemble_loss
                               (n,)    of its predictions, by the criterion: their number, 0 for none, and statistics
    /replicas/curve            (n, E)  its losses as reported, NaN after the last, at most CURVE_WIDTH of them
    /curves/{step,loss}        (c,)    curves in full where they are longer than that, or their steps are not 0, 1,
                                       2 ...; `/replicas/curve_at` says where one begins, -1: not here
    /notes/{time,text}, /hosts, /failures/{type,message,traceback}

Times are unix seconds. Text with a NUL or a lone surrogate, which HDF5 cannot hold, is stored as JSON; so is text that
begins with a quotation mark, which tells the two apart. One dataset per column, none per trial: a group per trial was
800 times slower to read. Every file is written by one process, closed, and only then given its name.
"""

import errno
import gc
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from hyppo.errors import LogError, SpaceError
from hyppo.log import codec
from hyppo.log.header import Header
from hyppo.replica import Failure
from hyppo.space import AnyParameter, Choice, Integer, Real, Space
from hyppo.stats import LossStats
from hyppo.trial import Asked, Event, Note, ReplicaRecord, Settled

FORMAT = "hyppo-study"
FORMAT_VERSION = 1
CHUNK = 1024  # rows; 64 read half as fast
CURVE_TILE = 32  # columns of a chunk of /replicas/curve
CURVE_WIDTH = 1024

NEW, FURTHER, SETTLED, NOTE = 1, 2, 3, 4
"""Codes of /events/kind."""

TEXT = "text"
COLUMNS: Mapping[str, str] = {
    "events/kind": "u1",
    "events/trial": "i8",
    "events/time": "f8",
    "events/closed": "u1",
    "events/count": "i4",
    "trials/trial": "i8",
    "trials/time": "f8",
    "trials/params_json": TEXT,
    "trials/origin": TEXT,
    "asks/trial": "i8",
    "asks/replica": "i4",
    "asks/seed": "u8",
    "further/trial": "i8",
    "further/params_json": TEXT,
    "further/origin": TEXT,
    "replicas/trial": "i8",
    "replicas/replica": "i4",
    "replicas/seed": "u8",
    "replicas/status": "u1",
    "replicas/loss": "f8",
    "replicas/start": "f8",
    "replicas/end": "f8",
    "replicas/host": "i4",
    "replicas/failure": "i4",
    "replicas/attempts": "i4",
    "replicas/epochs": "i4",
    "replicas/curve_at": "i8",
    "replicas/seq": "i8",
    "replicas/losses": "i4",
    "replicas/losses_mean": "f8",
    "replicas/losses_std": "f8",
    "replicas/ensemble_loss": "f8",
    "curves/step": "i8",
    "curves/loss": "f8",
    "notes/time": "f8",
    "notes/text": TEXT,
    "hosts": TEXT,
    "failures/type": TEXT,
    "failures/message": TEXT,
    "failures/traceback": TEXT,
}
# Columns of later versions, and what a file without them is taken to hold.
ADDED: Mapping[str, Any] = {
    "replicas/losses": 0,
    "replicas/losses_mean": np.nan,
    "replicas/losses_std": np.nan,
    "replicas/ensemble_loss": np.nan,
}
_TABLES = {name.split("/")[0]: name for name in reversed(list(COLUMNS))}  # table -> its first column

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Extent:
    """How far a study file goes: rows of each table, and the texts that are stored once."""

    rows: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_TABLES, 0))
    hosts: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[Failure, int] = field(default_factory=dict)

    @property
    def sequence(self) -> int:
        """Number of the last event in the file; 0 where there is none."""
        return self.rows["events"]


@dataclass(frozen=True)
class Batch:
    """Rows to append, and how far the file goes after them."""

    columns: Mapping[str, Sequence[Any]]
    params: npt.NDArray[np.float64]  # (new trials, d)
    curves: Sequence[Curve]  # one a replica
    extent: Extent

    @property
    def growth(self) -> int:
        """Bytes that the file grows by, at most; HDF5 must not meet a full disk, it does not survive it."""
        bytes_: int = 1 << 19
        for name, values in self.columns.items():
            chunks = _chunks_added(self.extent.rows[name.split("/")[0]], len(values), CHUNK)
            bytes_ += chunks * CHUNK * (16 if COLUMNS[name] == TEXT else 8)
            if COLUMNS[name] == TEXT:
                # The global heap fills collections of 4096 B and more; a text that does not fit begins another.
                bytes_ += 2 * sum(4 * len(text) + 64 for text in values) + 8192
        trials, dimension = self.params.shape
        rows = _params_chunk(dimension)[0]
        bytes_ += _chunks_added(self.extent.rows["trials"], trials, rows) * rows * dimension * 8
        first = self.extent.rows["replicas"] - len(self.curves)
        for lo in range(0, len(self.curves), CHUNK):
            block = self.curves[lo : lo + CHUNK]
            chunks = (first + lo + len(block) - 1) // CHUNK - (first + lo) // CHUNK + 1
            tiles = -(-max(map(len, block)) // CURVE_TILE)
            bytes_ += chunks * tiles * (CHUNK * CURVE_TILE * 8 + 128)
        return bytes_


def _chunks_added(rows: int, added: int, chunk: int) -> int:
    """Chunks that a column gets with the last `added` of its `rows`."""
    return -(-rows // chunk) - -(-(rows - added) // chunk)


# -- text ---------------------------------------------------------------------------------------------------------


def _stored(text: str) -> str:
    unsafe = text.startswith('"') or "\0" in text
    if not unsafe and not text.isascii():
        unsafe = any("\ud800" <= c <= "\udfff" for c in text)
    return json.dumps(text) if unsafe else text


def _text(stored: bytes) -> str:
    return str(json.loads(stored)) if stored.startswith(b'"') else stored.decode()


# -- params in numbers --------------------------------------------------------------------------------------------


def _numeric(parameter: AnyParameter) -> bool:
    """Whether the values of a parameter stand for themselves in /trials/params; positions in its list do otherwise."""
    if isinstance(parameter, Real | Integer):
        return True
    if isinstance(parameter, Choice):
        return False
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in parameter.values)


def _params_chunk(dimension: int) -> tuple[int, int]:
    return min(CHUNK, max(1, (1 << 20) // (8 * dimension))), dimension


def _numbers(space: Space, points: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """Points as rows of /trials/params, (t, d); NaN where a value is not the space's."""
    out = np.full((len(points), space.dimension), np.nan)
    for j, (name, parameter) in enumerate(space.parameters.items()):
        numeric = _numeric(parameter)
        for i, params in enumerate(points):
            try:
                out[i, j] = params[name] if numeric else parameter.index(params[name])
            except (KeyError, TypeError, ValueError, OverflowError, SpaceError):
                continue
    return out


# -- writing ------------------------------------------------------------------------------------------------------


def batch(extent: Extent, space: Space, events: Iterable[Event]) -> Batch:
    """Rows that append `events` to a file that goes as far as `extent`."""
    columns: dict[str, list[Any]] = defaultdict(list)
    rows, hosts, failures = dict(extent.rows), dict(extent.hosts), dict(extent.failures)
    points: list[Mapping[str, Any]] = []
    curves: list[Curve] = []

    def add(table: str, **row: Any) -> None:
        for column, value in row.items():
            columns[f"{table}/{column}"].append(value)
        rows[table] += 1

    def add_settled(record: ReplicaRecord, trial: int) -> None:
        if record.host not in hosts:
            hosts[record.host] = len(hosts)
            columns["hosts"].append(_stored(record.host))
            rows["hosts"] += 1
        failure = record.failure
        if failure is not None and failure not in failures:
            failures[failure] = len(failures)
            texts = {"type": failure.type, "message": failure.message, "traceback": failure.traceback}
            add("failures", **{column: _stored(text) for column, text in texts.items()})
        curve, at = record.curve, -1
        if len(curve) > CURVE_WIDTH or any(step != i for i, (step, _) in enumerate(curve)):
            at = rows["curves"]
            columns["curves/step"] += [step for step, _ in curve]
            columns["curves/loss"] += [loss for _, loss in curve]
            rows["curves"] += len(curve)
        curves.append(curve[:CURVE_WIDTH])
        add(
            "replicas",
            trial=trial,
            replica=record.index,
            seed=record.seed,
            status=codec.STATES.index(record.state),
            loss=codec.number(record.loss),
            start=codec.number(record.start),
            end=codec.number(record.end),
            host=hosts[record.host],
            failure=-1 if failure is None else failures[failure],
            attempts=record.attempts,
            epochs=len(curve),
            curve_at=at,
            seq=rows["events"],
            losses=0 if record.losses is None else record.losses.n,
            losses_mean=codec.number(None if record.losses is None else record.losses.mean),
            losses_std=codec.number(None if record.losses is None else record.losses.std),
            ensemble_loss=codec.number(record.ensemble_loss),
        )

    for event in events:
        match event:
            case Asked(trial, params, replicas, origin, time):
                new = trial == rows["trials"]
                kind = NEW if new else FURTHER
                add("events", kind=kind, trial=trial, time=time, closed=0, count=len(replicas))
                texts = {"params_json": codec.to_json(dict(params)), "origin": codec.to_json(dict(origin))}
                if new:
                    add("trials", trial=trial, time=time, **texts)
                    points.append(params)
                else:
                    add("further", trial=trial, **texts)
                for index, seed in replicas:
                    add("asks", trial=trial, replica=index, seed=seed)
            case Settled(trial, records, closed, time):
                add("events", kind=SETTLED, trial=trial, time=time, closed=closed, count=len(records))
                for record in records:
                    add_settled(record, trial)
            case Note(text, time):
                add("events", kind=NOTE, trial=-1, time=time, closed=0, count=0)
                add("notes", time=time, text=_stored(text))
    return Batch(columns, _numbers(space, points), curves, Extent(rows, hosts, failures))


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
            chunks=_params_chunk(space.dimension),
            track_times=False,
        )
        params.attrs["names"] = [_stored(n) for n in space.names]
        listed = {n: p.to_json()["values"] for n, p in space.parameters.items() if not _numeric(p)}
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
        file["replicas/status"].attrs["names"] = [str(state) for state in codec.STATES]
        file["events/kind"].attrs["names"] = json.dumps(
            {"asked": NEW, "asked further": FURTHER, "settled": SETTLED, "note": NOTE}
        )
        for name in ("events/time", "trials/time", "replicas/start", "replicas/end", "notes/time"):
            file[name].attrs["units"] = "seconds since 1970-01-01T00:00:00Z"
    return contents.getvalue()


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
                    file.create_dataset(
                        name,
                        (size,),
                        COLUMNS[name],
                        maxshape=(None,),
                        chunks=(CHUNK,),
                        fillvalue=fill,
                        track_times=False,
                    )
            for name, values in added.columns.items():
                _extend(file[name], values)
            if len(added.params):
                dataset = file["trials/params"]
                dataset.resize(before.rows["trials"] + len(added.params), axis=0)
                dataset[before.rows["trials"] :] = added.params
            _extend_curves(file["replicas/curve"], before.rows["replicas"], added.curves)
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
                padded[i, : len(curve)] = [loss for _, loss in curve]
            dataset[first + lo : first + lo + len(block), :width] = padded


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
    rows = {table: int(file[column].shape[0]) for table, column in _TABLES.items()}
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
            hosts = [*since.hosts, *map(_text, table("hosts"))]
            texts = [map(_text, table(f"failures/{column}")) for column in ("type", "message", "traceback")]
            failures = [*since.failures, *map(Failure, *texts)]
            events = list(_events(table, hosts, failures))
            extent = Extent(rows, {h: i for i, h in enumerate(hosts)}, {f: i for i, f in enumerate(failures)})
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
            return [ADDED[name]] * (len(self.file[_TABLES[table]]) - first)
        values: list[Any] = self.file[name][first:].tolist()
        return values


def _json_values(texts: Sequence[bytes]) -> Iterator[Any]:
    """Many JSON texts, parsed as one."""
    return iter(json.loads(b"[" + b",".join(texts) + b"]"))


def _events(table: _Table, hosts: Sequence[str], failures: Sequence[Failure]) -> Iterator[Event]:
    asked = {
        NEW: (_json_values(table("trials/params_json")), _json_values(table("trials/origin"))),
        FURTHER: (_json_values(table("further/params_json")), _json_values(table("further/origin"))),
    }
    seeds = zip(table("asks/replica"), table("asks/seed"), strict=True)
    records = _records(table, hosts, failures)
    notes = map(_text, table("notes/text"))
    columns = [table(f"events/{column}") for column in ("kind", "trial", "time", "closed", "count")]
    for kind, trial, time, closed, count in zip(*columns, strict=True):
        if kind == SETTLED:
            yield Settled(trial, tuple(itertools.islice(records, count)), bool(closed), time)
        elif kind == NOTE:
            yield Note(next(notes), time)
        else:
            params, origin = asked[kind]
            yield Asked(trial, next(params), tuple(itertools.islice(seeds, count)), next(origin), time)


def _records(table: _Table, hosts: Sequence[str], failures: Sequence[Failure]) -> Iterator[ReplicaRecord]:
    names = ("replica", "seed", "status", "loss", "start", "end", "host", "failure", "attempts")
    columns = [table(f"replicas/{column}") for column in (*names, *(name.split("/")[1] for name in ADDED))]
    for (index, seed, status, loss, start, end, host, failure, attempts, n, mean, std, ensemble), curve in zip(
        zip(*columns, strict=True), _curves(table), strict=True
    ):
        yield ReplicaRecord(
            index,
            seed,
            codec.STATES[status],
            codec.optional(loss),
            codec.optional(start),
            codec.optional(end),
            None if failure < 0 else failures[failure],
            curve,
            hosts[host],
            attempts,
            LossStats(n, mean, codec.optional(std)) if n else None,
            codec.optional(ensemble),
        )


def _curves(table: _Table) -> Iterator[Curve]:
    lengths, places = table("replicas/epochs"), table("replicas/curve_at")
    base = table.first["curves"]
    steps, losses = table("curves/step"), table("curves/loss")
    padded = table.file["replicas/curve"]
    first = table.first["replicas"]
    counting = range(0)
    for lo in range(0, len(lengths), CHUNK):
        block = list(zip(lengths[lo : lo + CHUNK], places[lo : lo + CHUNK], strict=True))
        width = max(0 if at >= 0 else length for length, at in block)
        rows = padded[first + lo : first + lo + len(block), :width]
        if width > len(counting):
            counting = range(width)
            numbers = list(counting)  # shared by all curves: an int object a step, not a step and curve
        for (length, at), row in zip(block, rows, strict=True):
            if at >= 0:
                where = slice(at - base, at - base + length)
                yield tuple(zip(steps[where], losses[where], strict=True))
            elif length:
                yield tuple(zip(numbers[:length], row[:length].tolist(), strict=True))
            else:
                yield ()
