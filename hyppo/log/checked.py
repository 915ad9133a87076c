"""The check of every event: before it is logged, and when it is read from a file.

Each field of each event has a rule here. A value that breaks a rule never reaches the journal, where it would keep the
study from being written or read again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyppo.config import named
from hyppo.curve import Curve
from hyppo.errors import StudyError
from hyppo.stats import LossStats
from hyppo.training.replica import Failure, Goal
from hyppo.trial import Asked, Began, Event, Note, Planned, ReplicaRecord, Settled, State


@dataclass(frozen=True, slots=True)
class Rule:
    """The values that a field may have: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def _integer(low: int, high: int) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(low <= value <= high)

    return Rule(f"an integer in [{low}, {high}]", holds)


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(math.isfinite(value))


def _is_text_pair(value: Any) -> bool:
    return isinstance(value, Failure) and all(
        isinstance(text, str) for text in (value.type, value.message, value.traceback)
    )


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) for name in value) and all(map(_is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | bool | np.bool_) or _is_finite(value)


def _is_metrics(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and _is_finite(value[name]) for name in value)


def _is_statistics(value: Any) -> bool:
    return (
        isinstance(value, LossStats)
        and _COUNT.holds(value.n)
        and isinstance(value.mean, float)
        and not math.isnan(value.mean)
        and (value.std is None or (isinstance(value.std, float) and value.std >= 0))
    )


def _or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.holds(value))


_COUNT = _integer(1, 2**31 - 1)
_INDEX = _integer(0, 2**31 - 1)
_SEED = _integer(0, 2**64 - 1)
_NUMBER = _integer(0, 2**63 - 1)
_FINITE = Rule("a finite number", _is_finite)
_TEXT = Rule("text", lambda value: isinstance(value, str))
_FLAG = Rule("True or False", lambda value: isinstance(value, bool | np.bool_))
_OBJECT = Rule("a mapping of names to JSON values", lambda value: isinstance(value, Mapping) and _is_json(value))
_SEEDS = Rule(
    "pairs of replica and seed",
    lambda value: (
        isinstance(value, tuple)
        and all(isinstance(p, tuple) and len(p) == 2 and _INDEX.holds(p[0]) and _SEED.holds(p[1]) for p in value)
    ),
)

RULES: Mapping[type[Any], Mapping[str, Rule]] = {
    Asked: {"number": _NUMBER, "params": _OBJECT, "replicas": _SEEDS, "origin": _OBJECT, "time": _FINITE},
    Settled: {
        "number": _NUMBER,
        "records": Rule("replicas", lambda value: isinstance(value, tuple)),
        "closed": _FLAG,
        "time": _FINITE,
    },
    Note: {"text": _TEXT, "time": _FINITE},
    Began: {"provenance": _OBJECT, "time": _FINITE},
    Planned: {"budget": _OBJECT, "time": _FINITE},
    ReplicaRecord: {
        "index": _INDEX,
        "seed": _SEED,
        "state": Rule("done, failed or pruned", lambda value: isinstance(value, State) and value is not State.PENDING),
        "loss": _or_none(_FINITE),
        "start": _or_none(_FINITE),
        "end": _or_none(_FINITE),
        "failure": _or_none(Rule("a Failure with texts", _is_text_pair)),
        "curve": Rule("a Curve", lambda value: isinstance(value, Curve)),
        "host": _TEXT,
        "attempts": _COUNT,
        "losses": _or_none(Rule("statistics of losses", _is_statistics)),
        "ensemble_loss": _or_none(_FINITE),
        "metrics": Rule("a mapping of names to finite numbers", _is_metrics),
        "goal": _or_none(Rule("a Goal", lambda value: isinstance(value, Goal) and _TEXT.holds(value.metric))),
    },
}


def check(event: Event) -> None:
    """Refuse an event that no study may hold.

    Raises
    ------
    StudyError
        A field is of another type or out of its range; or a loss and the replica's state contradict each other.

    Examples
    --------
    >>> check(Note(3))
    Traceback (most recent call last):
    hyppo.errors.StudyError: Note.text: expected text, got 3
    """
    if type(event) not in RULES or isinstance(event, ReplicaRecord):
        raise StudyError(f"expected an event of a study, got {_shortened(event)}")
    _check_fields(event)
    if isinstance(event, Settled):
        for record in event.records:
            if not isinstance(record, ReplicaRecord):
                raise StudyError(f"Settled.records: expected replicas, got {_shortened(record)}")
            _check_fields(record)
            if (record.loss is not None) is not (record.state is State.DONE):
                raise StudyError(
                    f"{named(event.number, record.index)} is {record.state}: "
                    f"expected {'a' if record.state is State.DONE else 'no'} loss, got {record.loss!r}"
                )


def _check_fields(event: Any) -> None:
    for name, rule in RULES[type(event)].items():
        value = getattr(event, name)
        if not rule.holds(value):
            raise StudyError(f"{type(event).__name__}.{name}: expected {rule.expected}, got {_shortened(value)}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
