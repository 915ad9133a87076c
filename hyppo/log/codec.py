"""Events as bytes of the journal, and back, exactly.

Numbers are fixed little-endian fields, curves raw arrays, free-form values JSON in ASCII (which carries integers of any
size, NUL characters and lone surrogates). Ranges are those of the columns of the study file, so
that a checkpoint can store every event of the journal. No pickle.
"""

import json
import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from hyppo.curve import Curve
from hyppo.errors import LogError
from hyppo.stats import LossStats
from hyppo.training.replica import Failure, Goal
from hyppo.trial import Asked, Began, Event, Note, Planned, ReplicaRecord, Settled, State

STATES = tuple(State)
"""Codes of the states are their positions here; append new ones at the end."""

_STATE_CODE = {state: code for code, state in enumerate(STATES)}
_ASKED, _SETTLED, _NOTE, _BEGAN, _PLANNED = 1, 2, 3, 4, 5

_EVENT = struct.Struct("<IBqdBI")  # length of the rest, kind, trial, time, closed, count
_SEED = struct.Struct("<iQ")  # replica, seed
_RECORD = struct.Struct("<iQBdddiii")  # replica, seed, state, loss, start, end, attempts, points, bytes of text


def to_json(value: Any) -> str:
    """JSON of a value, NumPy scalars as the Python numbers they are."""
    return json.dumps(value, separators=(",", ":"), default=_native)


def _native(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} is no JSON value")


def number(value: float | None) -> float:
    """None as NaN, for columns where NaN means none."""
    if value is None:
        return math.nan
    if value != value:
        raise ValueError("NaN means a missing value in the study file; give None, or the failure that caused it")
    return value


def optional(value: float) -> float | None:
    return None if value != value else value


def _encode(event: Event) -> bytes:
    match event:
        case Asked(trial, params, replicas, origin, time):
            text = to_json([dict(params), dict(origin)]).encode()
            body = b"".join([*(_SEED.pack(index, seed) for index, seed in replicas), text])
            return _EVENT.pack(len(body), _ASKED, trial, time, 0, len(replicas)) + body
        case Settled(trial, records, closed, time):
            parts: list[bytes] = []
            for r in records:
                failure = None if r.failure is None else [r.failure.type, r.failure.message, r.failure.traceback]
                texts: list[Any] = [r.host, failure]
                losses_of = None if r.losses is None else [r.losses.n, r.losses.mean, r.losses.std]
                goal = None if r.goal is None else [r.goal.metric, r.goal.mode]
                metrics = {name: number(value) for name, value in r.metrics.items()}
                texts += [losses_of, r.ensemble_loss, metrics, goal]
                text = to_json(texts).encode()
                curve = Curve.of(r.curve)
                parts.append(
                    _RECORD.pack(
                        r.index,
                        r.seed,
                        _STATE_CODE[r.state],
                        number(r.loss),
                        number(r.start),
                        number(r.end),
                        r.attempts,
                        len(curve),
                        len(text),
                    )
                )
                parts += (text, curve.steps.tobytes(), curve.losses.tobytes())
            body = b"".join(parts)
            return _EVENT.pack(len(body), _SETTLED, trial, time, closed, len(records)) + body
        case Note(note, time):
            body = to_json(note).encode()
            return _EVENT.pack(len(body), _NOTE, -1, time, 0, 0) + body
        case Began(provenance, time):
            body = to_json(dict(provenance)).encode()
            return _EVENT.pack(len(body), _BEGAN, -1, time, 0, 0) + body
        case Planned(budget, time):
            body = to_json(dict(budget)).encode()
            return _EVENT.pack(len(body), _PLANNED, -1, time, 0, 0) + body


def encode(events: Iterable[Event]) -> bytes:
    """Payload of the frame of some events.

    Raises
    ------
    LogError
        A value that no study file can hold: not JSON, out of the range of its column, a loss of NaN.
    """
    parts: list[bytes] = []
    for event in events:
        try:
            parts.append(_encode(event))
        except (TypeError, ValueError, KeyError, OverflowError, struct.error) as error:
            raise LogError(f"cannot log {str(event)[:500]}: {error}") from error
    return b"".join(parts)


def _decode_asked(body: bytes, trial: int, time: float, count: int) -> Asked:
    replicas = tuple(_SEED.unpack_from(body, i * _SEED.size) for i in range(count))
    params, origin = json.loads(body[count * _SEED.size :])
    return Asked(trial, params, replicas, origin, time)


def _decode_settled(body: bytes, trial: int, time: float, closed: bool, count: int) -> Settled:
    records: list[ReplicaRecord] = []
    offset = 0
    for _ in range(count):
        index, seed, state, loss, start, end, attempts, points, length = _RECORD.unpack_from(body, offset)
        offset += _RECORD.size
        # Journals of earlier versions end after the second or the fourth of these.
        host, failure, *later = json.loads(body[offset : offset + length])
        losses_of, ensemble_loss, metrics, goal = [*later, None, None, None, None][:4]
        offset += length
        steps = np.frombuffer(body, np.int64, points, offset).copy()
        losses = np.frombuffer(body, np.float64, points, offset + points * 8).copy()
        offset += points * 16
        records.append(
            ReplicaRecord(
                index,
                seed,
                STATES[state],
                optional(loss),
                optional(start),
                optional(end),
                None if failure is None else Failure(*failure),
                Curve(steps, losses),
                host,
                attempts,
                None if losses_of is None else LossStats(*losses_of),
                ensemble_loss,
                metrics or {},
                None if goal is None else Goal(*goal),
            )
        )
    return Settled(trial, tuple(records), closed, time)


def decode(payload: bytes) -> list[Event]:
    """Events of a frame's payload.

    Raises
    ------
    LogError
        An event of another version, or one that is none.
    """
    try:
        return _decode(payload)
    except LogError:
        raise
    except (struct.error, KeyError, IndexError, ValueError, TypeError, RecursionError) as error:
        raise LogError(f"the journal holds a frame that is no event ({error!r})") from error


def _decode(payload: bytes) -> list[Event]:
    events: list[Event] = []
    offset = 0
    while offset < len(payload):
        length, kind, trial, time, closed, count = _EVENT.unpack_from(payload, offset)
        offset += _EVENT.size
        body = payload[offset : offset + length]
        offset += length
        if kind == _ASKED:
            events.append(_decode_asked(body, trial, time, count))
        elif kind == _SETTLED:
            events.append(_decode_settled(body, trial, time, bool(closed), count))
        elif kind == _NOTE:
            text = json.loads(body)
            events.append(Note(text if isinstance(text, str) else str(text), time))  # up to 0.1.0 any value was taken
        elif kind == _BEGAN:
            events.append(Began(json.loads(body), time))
        elif kind == _PLANNED:
            events.append(Planned(json.loads(body), time))
        else:
            raise LogError(
                f"the journal holds an event of kind {kind}, which this hyppo does not know; use the version that "
                "wrote it"
            )
    return events
