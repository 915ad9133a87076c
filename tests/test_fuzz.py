"""Odd arguments of every public call: each works or raises a `HyppoError`, at once and without a file spoiled."""

import contextlib
import math
import random
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo import Choice, HyppoError, Integer, Ordinal, Real, Space, Study, stopping
from hyppo.loop.options import Options
from hyppo.training.replica import Replica, Result, Task

LIMIT = 1.0  # s a call; the typical one takes a millisecond, the slowest 0.1 s on a busy machine


ODD = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e-300, 1e300, 5e-324,
    math.nan, math.inf, -math.inf, 1j, "", "no", "0", "a\0b", "\ud800", "x" * 100_000, b"", b"x", [], [1], [[1]],
    [None], (), (1, 2), (2, 1), (1, 2, 3), {}, {"x": 1}, {1: 2}, {1, 2}, frozenset(), range(3), object(), object, len,
    np.float64(0.5), np.float32("nan"), np.int64(2), np.uint64(2**64 - 1), np.bool_(True), np.array(0.5),
    np.array([1.0, 2.0]), np.array([]), np.array("x"), np.array([None], dtype=object), np.datetime64("2026-01-01"),
    Path("x"), iter([1.0]), (x for x in (1.0, 2.0)), Ellipsis, ValueError("x"), Real(0, 1),
]  # fmt: skip


def attempt(call, *arguments, **named):
    """Result of a call that works or raises an error of the package, in time."""
    began = time.monotonic()
    try:
        return call(*arguments, **named)
    except HyppoError:
        return None
    finally:
        assert time.monotonic() - began < LIMIT


def described(value):
    return f"{type(value).__name__}: {value!r}"[:80]


@pytest.fixture
def study():
    made = Study(Space(x=Real(0, 1), n=Integer(1, 4)), replicas=1, surrogate="random")
    made.tell(made.ask().number, [0.5])
    made.ask()
    return made


def check_all(calls, choose=None):
    """Every call with every odd value; all that fail are named together."""
    wrong = []
    for name, call in calls.items():
        for value in ODD:
            if choose is not None and not choose(name, value):
                continue
            try:
                attempt(call, value)
            except Exception as error:  # what the test is about
                wrong.append(f"{name}({described(value)}): {type(error).__name__}: {str(error)[:100]}")
    assert not wrong, "\n".join([f"{len(wrong)} calls", *wrong])


def test_parameters():
    check_all(
        {
            "Real.low": lambda v: Real(v, 1),
            "Real.high": lambda v: Real(0, v),
            "Real.log": lambda v: Real(1, 2, log=v),
            "Integer.low": lambda v: Integer(v, 8),
            "Integer.high": lambda v: Integer(1, v),
            "Integer.step": lambda v: Integer(1, 8, step=v),
            "Integer.log": lambda v: Integer(1, 8, log=v),
            "Choice": lambda v: Choice(v),
            "Choice of one": lambda v: Choice([v, "other"]),
            "Ordinal": lambda v: Ordinal(v),
            "Ordinal of one": lambda v: Ordinal([v, 7]),
            "Space": lambda v: Space(v),
            "Space of one": lambda v: Space(x=v),
            "name": lambda v: Space({v: Real(0, 1)}),
        },
        lambda name, value: name != "name" or isinstance(value, str | int | float | bytes | tuple | type(None)),
    )


def test_spaces_that_are_taken_can_be_asked():
    for low, high in [
        (1e-300, 1e300),
        (5e-324, 1.0),
        (1e-320, 2e-320),
        (1.0, math.nextafter(1.0, 2.0)),
        (1e307, 1e308),
    ]:
        for log in (False, True):
            space = attempt(lambda low=low, high=high, log=log: Space(x=Real(low, high, log=log)))
            if space is not None:
                trial = Study(space, replicas=1, surrogate="random").ask()
                assert low <= trial.params["x"] <= high
    with pytest.raises(HyppoError, match="log"):
        Real(1, 2, log="no")
    for values in ({"a", "b"}, frozenset("ab"), {"a": 1}):
        with pytest.raises(HyppoError, match="list"):  # an order that another process does not have
            Choice(values)


def test_study():
    space = Space(x=Real(0, 1))
    named = ("replicas", "seed", "risk", "surrogate", "target", "criterion", "stopping", "isolate", "folds", "score")
    named += ("feasible", "extend")
    calls = {name: lambda v, name=name: Study(space, **{name: v}) for name in named}
    check_all({"space": lambda v: Study(v), "objective": lambda v: Study(space, v), **calls})


def test_options_of_a_run_and_rules():
    calls = {f"Options.{its.name}": lambda v, name=its.name: Options(**{name: v}) for its in fields(Options)}
    calls["halving"] = lambda v: Study(Space(x=Real(0, 1)), stopping=stopping.Halving(v))
    calls["median"] = lambda v: Study(Space(x=Real(0, 1)), stopping=stopping.Median(v))
    check_all(calls)


def test_functions_of_a_study(study, tmp_path, monkeypatch):
    pytest.importorskip("altair")
    monkeypatch.chdir(tmp_path)
    for first in (study.front, lambda: hyppo.sensitivity(study), lambda: hyppo.plots.convergence(study)):
        with contextlib.suppress(HyppoError):
            first()  # imports and compiles, for seconds
    space = Space(x=Real(0, 1), n=Integer(1, 4))
    plots = {name: getattr(hyppo.plots, name) for name in hyppo.plots.__all__ if name != "parameter"}
    assert len(plots) > 10
    check_all(
        {
            **plots,
            "parameter": lambda v: hyppo.plots.parameter(v, "x"),
            "parameter.name": lambda v: hyppo.plots.parameter(study, v),
            "sensitivity": hyppo.sensitivity,
            "partial_dependence": lambda v: hyppo.partial_dependence(v, "x"),
            "partial_dependence.name": lambda v: hyppo.partial_dependence(study, v),
            "spread_by_source": hyppo.spread_by_source,
            "compare.a": lambda v: study.compare(v, 0),
            "compare.b": lambda v: study.compare(0, v),
            "front": lambda v: study.front(v),
            "confirm.replicas": lambda v: study.confirm(replicas=v),
            "confirm.against": lambda v: study.confirm(against=v),
            "enqueue": lambda v: study.enqueue(v),
            "enqueue.x": lambda v: study.enqueue({"x": v, "n": 1}),
            "enqueue.name": lambda v: study.enqueue({"x": 0.3, "n": 2}, name=v),
            "inactive_if": lambda v: space.inactive_if(v),
            "inactive_if.values": lambda v: space.inactive_if({"n": {"x": v}}),
            "report": lambda v: study.report(v),
        },
        lambda name, value: name != "report" or not isinstance(value, str | Path),  # pages take a second each
    )


def test_ask_and_tell(study):
    check_all(
        {
            "ask_batch": lambda v: study.ask_batch(v),
            "tell.number": lambda v: study.tell(v, [0.5]),
            "tell.losses": lambda v: study.tell(1, v),
            "tell.loss": lambda v: study.tell(1, [v]),
            "fail.number": lambda v: study.fail(v),
            "add.params": lambda v: study.add(v, [0.5]),
            "add.x": lambda v: study.add({"x": v, "n": 1}, [0.5]),
            "add.n": lambda v: study.add({"x": 0.5, "n": v}, [0.5]),
            "add.losses": lambda v: study.add({"x": 0.5, "n": 1}, v),
            "note": lambda v: study.note(v),
            "predictions": lambda v: study.predictions(v),
            "checkpoints": lambda v: study.checkpoints(v),
            "run.trials": lambda v: study.run(trials=v),
            "load": lambda v: hyppo.load(v),
        },
        lambda name, value: name != "ask_batch" or not isinstance(value, int) or not 10 < value < 100_000,
    )
    assert len(study.trials) >= 2
    assert study.best.mean is not None


def test_a_logged_study_survives_all_of_it(path):
    rng = random.Random(0)
    with Study(Space(x=Real(0, 1)), log=path, replicas=1, surrogate="random") as study:
        for _ in range(400):
            call = rng.choice((study.tell, study.fail, study.add, study.note))
            arguments = [rng.choice(ODD) for _ in range({"note": 1}.get(call.__name__, 2))]
            if rng.random() < 0.3:
                arguments[0] = study.ask().number
            try:
                attempt(call, *arguments)
            except Exception as error:
                pytest.fail(f"{call.__name__}{tuple(map(described, arguments))}: {error!r}")
        trials = study.trials
    assert [t.replicas for t in hyppo.load(path).trials] == [t.replicas for t in trials]


def test_reports_and_results(tmp_path):
    def replica():
        return Replica(Task(0, 0, 1, {"x": 0.5}, str(tmp_path)))

    check_all(
        {
            "report.step": lambda v: replica().report(v, 0.5),
            "report.loss": lambda v: replica().report(0, v),
            "log.name": lambda v: replica().log(v, 1.0),
            "log.value": lambda v: replica().log("size", v),
            "node_lock": lambda v: replica().node_lock(v).__enter__(),
            "Result.loss": lambda v: Result(v),
            "Result.prediction": lambda v: Result(0.5, prediction=v),
            "Result.metrics": lambda v: Result(0.5, metrics=v),
        }
    )
    assert Result(0.5).loss == 0.5


@pytest.mark.parametrize(("value", "steals"), [("0", False), ("", False), ("false", False), ("1", True)])
def test_stealing_is_asked_for_by_a_word_that_means_it(value, steals, path, monkeypatch):
    asked = []
    monkeypatch.setenv("HYPPO_STEAL", value)
    monkeypatch.setattr("hyppo.log.history.open_log", lambda *a, steal, **k: asked.append(steal) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Study(Space(x=Real(0, 1)), log=path).ask()
    assert asked == [steals]
