"""Converts events to rows of the study file's tables and back, exactly; `schema.py` describes each column."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hyppo.curve import EMPTY, Curve
from hyppo.errors import LogError, SpaceError
from hyppo.log import codec
from hyppo.log.schema import (
    BEGAN,
    CHUNK,
    COLUMNS,
    CURVE_TILE,
    CURVE_WIDTH,
    FURTHER,
    METRICS_TILE,
    NEW,
    NOTE,
    PLANNED,
    SETTLED,
    TEXT,
    TEXTS,
    Extent,
    is_numeric,
    params_chunk,
    stored,
    text_of,
)
from hyppo.space import Space
from hyppo.stats import LossStats
from hyppo.trial import Asked, Began, Event, Note, Planned, ReplicaRecord, Settled

# -- events to rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Rows to append, and how far the file goes after them."""

    columns: Mapping[str, Sequence[Any]]
    params: npt.NDArray[np.float64]  # (new trials, d)
    curves: Sequence[Curve]  # one a replica
    metrics: Sequence[Mapping[str, float]]  # the same
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
        rows = params_chunk(dimension)[0]
        bytes_ += _chunks_added(self.extent.rows["trials"], trials, rows) * rows * dimension * 8
        first = self.extent.rows["replicas"] - len(self.curves)
        for lo in range(0, len(self.curves), CHUNK):
            block = self.curves[lo : lo + CHUNK]
            chunks = (first + lo + len(block) - 1) // CHUNK - (first + lo) // CHUNK + 1
            tiles = -(-max(map(len, block)) // CURVE_TILE)
            tiles_of_metrics = -(-len(self.extent.metrics) // METRICS_TILE)
            bytes_ += chunks * (tiles * CURVE_TILE + tiles_of_metrics * METRICS_TILE) * (CHUNK * 8 + 16)
        return bytes_


def _chunks_added(rows: int, added: int, chunk: int) -> int:
    """Chunks that a column gets with the last `added` of its `rows`."""
    return -(-rows // chunk) - -(-(rows - added) // chunk)


def batch(extent: Extent, space: Space, events: Iterable[Event]) -> Batch:
    """Rows that append `events` to a file that goes as far as `extent`."""
    columns: dict[str, list[Any]] = defaultdict(list)
    rows, hosts, failures = dict(extent.rows), dict(extent.hosts), dict(extent.failures)
    names, goals = dict(extent.metrics), dict(extent.goals)
    metrics: list[Mapping[str, float]] = []
    points: list[Mapping[str, Any]] = []
    curves: list[Curve] = []

    def add(table: str, **row: Any) -> None:
        for column, value in row.items():
            columns[f"{table}/{column}"].append(value)
        rows[table] += 1

    def add_settled(record: ReplicaRecord, trial: int) -> None:
        if record.host not in hosts:
            hosts[record.host] = len(hosts)
            columns["hosts"].append(stored(record.host))
            rows["hosts"] += 1
        failure = record.failure
        if failure is not None and failure not in failures:
            failures[failure] = len(failures)
            texts = {"type": failure.type, "message": failure.message, "traceback": failure.traceback}
            add("failures", **{column: stored(text) for column, text in texts.items()})
        for name in [name for name in record.metrics if name not in names]:
            names[name] = len(names)
            columns["metrics"].append(stored(name))
            rows["metrics"] += 1
        metrics.append(record.metrics)
        goal = record.goal
        if goal is not None and goal not in goals:
            goals[goal] = len(goals)
            add("goals", metric=stored(goal.metric), mode=goal.mode)
        curve, at = Curve.of(record.curve), -1
        if len(curve) > CURVE_WIDTH or not curve.counts_up:
            at = rows["curves"]
            columns["curves/step"] += curve.steps.tolist()
            columns["curves/loss"] += curve.losses.tolist()
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
            goal=-1 if goal is None else goals[goal],
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
                add("notes", time=time, text=stored(text))
            case Began(provenance, time):
                add("events", kind=BEGAN, trial=-1, time=time, closed=0, count=0)
                add("notes", time=time, text=stored(codec.to_json(dict(provenance))))
            case Planned(budget, time):
                add("events", kind=PLANNED, trial=-1, time=time, closed=0, count=0)
                add("notes", time=time, text=stored(codec.to_json(dict(budget))))
    return Batch(columns, numbers(space, points), curves, metrics, Extent(rows, hosts, failures, names, goals))


def numbers(space: Space, points: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """Points as rows of /trials/params, (t, d); NaN where a value is not the space's."""
    out = np.full((len(points), space.dimension), np.nan)
    for j, (name, parameter) in enumerate(space.parameters.items()):
        numeric = is_numeric(parameter)
        for i, params in enumerate(points):
            try:
                out[i, j] = params[name] if numeric else parameter.index(params[name])
            except (KeyError, TypeError, ValueError, OverflowError, SpaceError):
                continue
    return out


# -- rows to events -----------------------------------------------------------------------------------------------


class Table(Protocol):
    """Columns of a study file from some row of each table on."""

    @property
    def first(self) -> Mapping[str, int]:
        """That row of each table."""
        ...

    def __call__(self, name: str) -> list[Any]:
        """Values of the column `name`."""
        ...

    def curves(self, lo: int, hi: int, width: int) -> npt.NDArray[np.float64]:
        """Rows lo to hi of /replicas/curve, counted from the first, (hi - lo, width)."""
        ...

    def metrics(self) -> npt.NDArray[np.float64]:
        """Rows of /replicas/metrics, (n, M)."""
        ...


def events_of(table: Table, extent: Extent) -> Iterator[Event]:
    """The events that `batch` made the rows of; `extent` has the texts of the whole file.

    Raises
    ------
    LogError
        An event of a kind that a later version has added.
    ValueError
        The tables contradict each other, or hold a value out of its range.
    """
    columns = [table(f"events/{column}") for column in ("kind", "trial", "time", "closed", "count")]
    _require_agreement(table, *(np.array(columns[i], dtype=np.int64) for i in (0, 1, 4)))
    asked = {
        NEW: (_json_values(table("trials/params_json")), _json_values(table("trials/origin"))),
        FURTHER: (_json_values(table("further/params_json")), _json_values(table("further/origin"))),
    }
    seeds = zip(table("asks/replica"), table("asks/seed"), strict=True)
    records = _records(table, extent)
    notes = map(text_of, table("notes/text"))
    for kind, trial, time, closed, count in zip(*columns, strict=True):
        if kind == SETTLED:
            yield Settled(trial, tuple(itertools.islice(records, count)), bool(closed), time)
        elif kind == NOTE:
            yield Note(next(notes), time)
        elif kind == BEGAN:
            yield Began(json.loads(next(notes)), time)
        elif kind == PLANNED:
            yield Planned(json.loads(next(notes)), time)
        else:
            params, origin = asked[kind]
            yield Asked(trial, next(params), tuple(itertools.islice(seeds, count)), next(origin), time)


def _require_agreement(
    table: Table, kind: npt.NDArray[np.int64], trial: npt.NDArray[np.int64], count: npt.NDArray[np.int64]
) -> None:
    """Refuse tables whose rows are not those of the events."""
    unknown = np.setdiff1d(kind, (NEW, FURTHER, SETTLED, *TEXTS))
    if unknown.size:
        raise LogError(
            f"the study file holds events of kind {unknown[0]}, which this hyppo does not know; use the version that "
            "wrote it"
        )
    if np.any(count < 0) or count.sum() > 1 << 40:
        raise ValueError("/events/count is out of range")
    asks = np.where((kind == NEW) | (kind == FURTHER), count, 0)
    settled = np.where(kind == SETTLED, count, 0)
    for name, repeats in (
        ("trials/trial", (kind == NEW).astype(np.int64)),
        ("further/trial", (kind == FURTHER).astype(np.int64)),
        ("asks/trial", asks),
        ("replicas/trial", settled),
    ):
        found = np.array(table(name), dtype=np.int64)
        if repeats.sum() != found.size or not np.array_equal(np.repeat(trial, repeats), found):
            raise ValueError(f"/{name} does not agree with /events: {found.size} rows, the events say {repeats.sum()}")
    if np.isin(kind, TEXTS).sum() != len(table("notes/time")):
        raise ValueError("/notes does not agree with /events")


def _records(table: Table, extent: Extent) -> Iterator[ReplicaRecord]:
    read = ("replica", "seed", "status", "loss", "start", "end", "host", "failure", "attempts")
    added = ("losses", "losses_mean", "losses_std", "ensemble_loss", "goal")
    columns = {column: table(f"replicas/{column}") for column in (*read, *added)}
    hosts, failures, goals = list(extent.hosts), list(extent.failures), list(extent.goals)
    for name, size, lowest in (
        ("status", len(codec.STATES), 0),
        ("host", len(hosts), 0),
        ("failure", len(failures), -1),
        ("goal", len(goals), -1),
    ):
        values = np.array(columns[name], dtype=np.int64)
        if values.size and not lowest <= values.min() <= values.max() < size:
            raise ValueError(f"/replicas/{name} is out of range")
    rows = zip(zip(*columns.values(), strict=True), _curves(table), _metrics(table, list(extent.metrics)), strict=True)
    for row, curve, metrics in rows:
        index, seed, status, loss, start, end, host, failure, attempts, n, mean, std, ensemble, goal = row
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
            metrics,
            None if goal < 0 else goals[goal],
        )


def _metrics(table: Table, names: Sequence[str]) -> Iterator[Mapping[str, float]]:
    in_order = sorted(range(len(names)), key=names.__getitem__)
    for row in table.metrics().tolist():
        yield {names[j]: row[j] for j in in_order if j < len(row) and row[j] == row[j]}


def _curves(table: Table) -> Iterator[Curve]:
    lengths, places = table("replicas/epochs"), table("replicas/curve_at")
    base = table.first["curves"]
    steps, losses = (np.array(table(f"curves/{name}"), kind) for name, kind in (("step", np.int64), ("loss", float)))
    for length, at in zip(lengths, places, strict=True):
        stored = CURVE_WIDTH if at == -1 else base + steps.size - at
        if not 0 <= length <= stored or (at != -1 and at < base):
            raise ValueError("/replicas/epochs or /replicas/curve_at is out of range")
    for lo in range(0, len(lengths), CHUNK):
        block = list(zip(lengths[lo : lo + CHUNK], places[lo : lo + CHUNK], strict=True))
        width = max(0 if at >= 0 else length for length, at in block)
        rows = table.curves(lo, lo + len(block), width)
        for (length, at), row in zip(block, rows, strict=True):
            if at >= 0:
                where = slice(at - base, at - base + length)
                yield Curve(steps[where].copy(), losses[where].copy())
            elif length:
                yield Curve(_counting(length), row[:length].copy())
            else:
                yield EMPTY


@cache
def _counting(length: int) -> npt.NDArray[np.int64]:
    """Steps 0, 1, 2, ..., one array for all curves of a length."""
    return np.arange(length)


def _json_values(texts: Sequence[bytes]) -> Iterator[Any]:
    """Many JSON texts, parsed as one."""
    values = json.loads(b"[" + b",".join(texts) + b"]")
    if len(values) != len(texts):
        raise ValueError("a text is no JSON value")
    return iter(values)
