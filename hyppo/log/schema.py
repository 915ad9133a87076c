"""The study file's datasets: their contents, types and chunks.

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
    /replicas/<column>         (n,)    a replica that ended, or a confirmation (`replica` from 1 000 000 on); NaN is
                                       none; `host` and `failure` are rows of /hosts and /failures
    /replicas/losses{,_mean,_std}, /replicas/ensemble_loss
                               (n,)    of its predictions, by the criterion: their number, 0 for none, and statistics
    /replicas/metrics          (n, M)  further numbers of a replica, NaN for none; row j of /metrics is the name of
                                       column j
    /replicas/goal             (n,)    row of /goals: the metric that its loss is, and "min" or "max"; -1: unknown
    /replicas/curve            (n, E)  its losses as reported, NaN after the last, at most CURVE_WIDTH of them
    /curves/{step,loss}        (c,)    curves in full if they are longer than that, or their steps are not 0, 1,
                                       2 ...; `/replicas/curve_at` says where one begins, -1: not here
    /notes/{time,text}         (m,)    a note, the provenance of a session (JSON) that began, or
                                       the budget of a run (JSON) that began
    /hosts, /failures/{type,message,traceback}, /metrics, /goals/{metric,mode}

Times are unix seconds. Text with a NUL or a lone surrogate, which HDF5 cannot hold, is stored as JSON; so is text that
begins with a quotation mark, which tells the two apart. One dataset per column, none per trial: a group per trial was
800 times slower to read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyppo.space import AnyParameter, Choice, Integer, Real
from hyppo.training.replica import Failure, Goal

FORMAT = "hyppo-study"
FORMAT_VERSION = 1
CHUNK = 1024  # rows; 64 read half as fast
CURVE_TILE = 32  # columns of a chunk of /replicas/curve
CURVE_WIDTH = 1024
METRICS_TILE = 8  # columns of a chunk of /replicas/metrics

NEW, FURTHER, SETTLED, NOTE, BEGAN, PLANNED = 1, 2, 3, 4, 5, 6
"""Codes of /events/kind."""
TEXTS = NOTE, BEGAN, PLANNED
"""Kinds of events whose text is a row of /notes."""

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
    "replicas/goal": "i4",
    "curves/step": "i8",
    "curves/loss": "f8",
    "notes/time": "f8",
    "notes/text": TEXT,
    "hosts": TEXT,
    "failures/type": TEXT,
    "failures/message": TEXT,
    "failures/traceback": TEXT,
    "metrics": TEXT,
    "goals/metric": TEXT,
    "goals/mode": TEXT,
}
# Columns of later versions, and their values for a file without them.
ADDED: Mapping[str, Any] = {
    "replicas/losses": 0,
    "replicas/losses_mean": np.nan,
    "replicas/losses_std": np.nan,
    "replicas/ensemble_loss": np.nan,
    "replicas/goal": -1,
    "metrics": None,
    "goals/metric": None,
    "goals/mode": None,
}
TABLES = {name.split("/")[0]: name for name in reversed(list(COLUMNS))}  # table -> its first column


@dataclass(frozen=True)
class Extent:
    """How far a study file goes: rows of each table, and the texts that are stored once."""

    rows: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    hosts: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[Failure, int] = field(default_factory=dict)
    metrics: Mapping[str, int] = field(default_factory=dict)
    goals: Mapping[Goal, int] = field(default_factory=dict)

    @property
    def sequence(self) -> int:
        """Number of the last event in the file; 0 if there is none."""
        return self.rows["events"]


def params_chunk(dimension: int) -> tuple[int, int]:
    """Chunk of /trials/params, 1 MiB at most."""
    return min(CHUNK, max(1, (1 << 20) // (8 * dimension))), dimension


def is_numeric(parameter: AnyParameter) -> bool:
    """Whether the values of a parameter stand for themselves in /trials/params; positions in its list do otherwise."""
    if isinstance(parameter, Real | Integer):
        return True
    if isinstance(parameter, Choice):
        return False
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in parameter.values)


def stored(text: str) -> str:
    """A text as HDF5 can hold it."""
    unsafe = text.startswith('"') or "\0" in text
    if not unsafe and not text.isascii():
        unsafe = any("\ud800" <= c <= "\udfff" for c in text)
    return json.dumps(text) if unsafe else text


def text_of(found: bytes) -> str:
    """The text that `stored` stored."""
    return str(json.loads(found)) if found.startswith(b'"') else found.decode()
