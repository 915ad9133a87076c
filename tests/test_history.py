"""The history of a study: what is refused before it is logged, and what a file with a bad event still gives."""

import dataclasses
import json
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo.curve import POINTS, Curve
from hyppo.errors import LogError, StudyError
from hyppo.log import Header, check_log, codec, open_log, read_log
from hyppo.log.checked import RULES, check
from hyppo.log.journal import journal_of
from hyppo.loop import Session
from hyppo.search.columns import Columns
from hyppo.space import Real, Space
from hyppo.stats import LossStats
from hyppo.training.replica import Failure, Outcome, Task
from hyppo.trial import Asked, Began, Note, Planned, ReplicaRecord, Settled, State
from tests.crash import workload
from tests.logs import EVENTS, write

CONFIG = {"replicas": [2, 2], "required": 1, "risk": 0.0, "surrogate": "random", "target": "mean_loss"}
HEADER = Header.new(workload.SPACE, 7, CONFIG)
DONE = ReplicaRecord(0, 1, State.DONE, 0.5, 1.0, 2.0)
GOOD = {
    Asked: Asked(0, {"x": 0.5}, ((0, 1),), {"by": "test"}, 1.0),
    Settled: Settled(0, (DONE,), False, 1.0),
    Note: Note("a line", 1.0),
    Began: Began({"hyppo": "0"}, 1.0),
    Planned: Planned({"trials": 60}, 1.0),
    ReplicaRecord: DONE,
}


def study(path: Path | None = None, objective=None, **named) -> hyppo.Study:
    return hyppo.Study(Space(x=Real(0, 1)), objective, log=path, **{"replicas": 1, "surrogate": "random"} | named)


# -- the check ----------------------------------------------------------------------------------------------------


def test_every_field_has_a_rule():
    assert {kind: set(rules) for kind, rules in RULES.items()} == {
        kind: {field.name for field in dataclasses.fields(kind)} for kind in GOOD
    }


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, rules in RULES.items() for name in rules])
def test_a_value_of_another_type_or_range_never_reaches_the_log(kind, name, path):
    odd = (3, -1, 2**64, float("nan"), 1e400, None, b"x", "x", ["x"], {"x": object()}, object(), ("x",), State.PENDING)
    refused = 0
    history = study(path)
    Session(history).note("before")
    before = journal_of(path).read_bytes()
    for value in odd:
        event = dataclasses.replace(GOOD[kind], **{name: value})
        if RULES[kind][name].holds(value):
            continue
        refused += 1
        with pytest.raises(StudyError, match=name):
            history._record(event if kind is not ReplicaRecord else Settled(0, (event,)))
    assert refused >= 8
    assert journal_of(path).read_bytes() == before
    Session(history).note("after")
    history.close()
    assert [event.text for event in read_log(path)[1] if isinstance(event, Note)] == ["before", "after"]


@pytest.mark.parametrize(
    "record",
    [
        ReplicaRecord(0, 1, State.DONE),
        ReplicaRecord(0, 1, State.FAILED, 0.5),
        ReplicaRecord(0, 1, State.PRUNED, 0.5),
        ReplicaRecord(0, 1, State.DONE, 0.5, losses=LossStats(0, 0.5, None)),
        ReplicaRecord(0, 1, State.FAILED, failure=Failure("E", b"bytes")),
    ],
)
def test_a_record_that_contradicts_itself(record):
    with pytest.raises(StudyError, match="expected"):
        check(Settled(0, (record,)))


def test_events_of_the_workload_pass():
    for event in codec.decode(codec.encode(EVENTS)):
        check(event)


def test_a_refused_event_takes_those_recorded_with_it_along(path):
    history = study(path)
    with pytest.raises(StudyError, match="never asked"):
        history._record(Note("with it"), Asked(0, {"x": 0.5}, ((0, 1),)), Settled(7, (DONE,)))
    assert history.trials == ()
    history.close()
    assert [event for event in read_log(path)[1] if not isinstance(event, Began)] == []


# -- a study under several callers --------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
def test_threads_ask_and_tell(on_disk, path):
    space = Space(x=Real(0, 1), y=Real(0, 1))
    shared = hyppo.Study(space, log=path if on_disk else None, replicas=1, surrogate="rbf")

    def one(_):
        trial = shared.ask()
        shared.tell(trial.number, [trial.params["x"]])
        return trial

    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(one, range(60)))
    assert sorted(t.number for t in asked) == list(range(60))
    assert len({tuple(t.params.values()) for t in asked}) == 60
    assert [len(t.replicas) for t in shared.trials] == [1] * 60
    shared.close()
    if on_disk:
        assert len(hyppo.load(path).trials) == 60


@pytest.mark.parametrize("call", ["tell", "fail"])
def test_a_training_cannot_settle_itself(call, path):
    def train(replica):
        if replica.trial == 1:
            running.tell(1, [0.1]) if call == "tell" else running.fail(1, "gave up")
        return replica.params["x"]

    running = study(path, train, isolate=False)
    running.run(trials=3, progress=False)
    assert [t.state for t in hyppo.load(path).trials] == ["done", "failed", "done"]
    assert "study.run is training trial 1" in str(running.trials[1].replicas[0].failure)
    running.tell(1, [0.3])  # now it may
    assert running.trials[1].mean == 0.3


def test_a_thread_tells_its_own_trial_during_a_run(path):
    told = threading.Event()

    def tell():
        trial = running.ask()
        running.tell(trial.number, [0.5])
        told.set()

    def train(replica):
        if replica.trial == 0:
            threading.Thread(target=tell).start()
            assert told.wait(20)
        return replica.params["x"]

    running = study(path, train, isolate=False)
    running.run(trials=4, progress=False)
    assert [t.state for t in hyppo.load(path).trials] == ["done"] * 4


# -- a file with events that do not follow ------------------------------------------------------------------------


def test_a_loss_that_was_logged_twice_is_skipped_with_a_notice(path):
    """Versions up to 0.1.0 logged an event before they refused it."""
    write(path, [*EVENTS[:2], EVENTS[1], *EVENTS[2:]], HEADER)
    with pytest.warns(UserWarning, match=r"skipped .*event 3: trial 0 replica 0 is settled already"):
        loaded = hyppo.load(path)
    write(path.with_name("clean.h5"), EVENTS, HEADER)
    assert [t.replicas for t in loaded.trials] == [t.replicas for t in hyppo.load(path.with_name("clean.h5")).trials]
    assert len(check_log(path)) == 1
    again = hyppo.Study(workload.SPACE, log=path, seed=7, surrogate="random")
    with pytest.warns(UserWarning, match="skipped"):
        trial = again.ask()
    again.tell(trial.number, [0.5])
    again.close()


def test_a_value_out_of_range_in_a_file_is_an_error(path):
    write(path, [*EVENTS[:2], Note("x", float("inf"))], HEADER)
    with pytest.raises(LogError, match=r"event 3: Note\.time: expected a finite number, got inf"):
        hyppo.load(path)
    assert check_log(path) == ["event 3: Note.time: expected a finite number, got inf"]


def test_a_note_that_is_no_text_was_logged_by_older_versions(path):
    log, _, _ = open_log(path, workload.HEADER)
    log.append([Note(3)])
    journal = journal_of(path).read_bytes()
    log._journal.release()
    journal_of(path).write_bytes(journal)
    assert read_log(path)[1] == (Note("3"),)
    log, _, events = open_log(path, workload.HEADER)
    assert events == (Note("3"),)
    log.close()
    assert read_log(path)[1] == (Note("3"),)


# -- what a caller gets is the caller's ---------------------------------------------------------------------------


def test_parameters_of_a_trial_are_read_only(path):
    asked = study(path).ask()
    for change in (
        lambda p: p.__setitem__("x", 0.1),
        lambda p: p.__delitem__("x"),
        lambda p: p.update(x=0.1),
        lambda p: p.pop("x"),
        lambda p: p.clear(),
        lambda p: p.setdefault("y", 1),
    ):
        with pytest.raises(TypeError, match=r"dict\(trial\.params\) is a copy"):
            change(asked.params)
    assert json.loads(json.dumps(asked.params)) == asked.params == pickle.loads(pickle.dumps(asked.params))
    copy = dict(asked.params)
    copy["x"] = 7
    assert asked.params["x"] != 7


def test_the_path_is_resolved_once(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.h5").symlink_to("disk/real.h5")
    monkeypatch.chdir(tmp_path)
    moved = study(Path("s.h5"), seed=1)
    linked = study(Path("link.h5"))
    moved.tell(moved.ask().number, [0.5])
    moved.close()
    assert linked.trials == ()
    (tmp_path / "later").mkdir()
    later = study(Path("s.h5"))
    monkeypatch.chdir("later")
    later.ask()  # the first use decides
    assert later.log == tmp_path / "later" / "s.h5"
    later.close()
    monkeypatch.chdir("../elsewhere")
    assert moved.ask().number == 1
    linked.ask()
    assert (moved.log, linked.log) == (tmp_path / "s.h5", tmp_path / "disk" / "real.h5")
    assert Session(moved).directory(0, 0).parent.parent == tmp_path / "s.h5.d"
    assert Session(linked).directory(0, 0).parent.parent == tmp_path / "disk" / "real.h5.d"
    assert os.listdir(".") == []
    moved.close()
    linked.close()


@pytest.mark.parametrize("log", [3, b"\0", "a\0b", ["s.h5"], "."])
def test_what_is_no_path(log):
    with pytest.raises(StudyError, match="log:"):
        study(log)


def test_an_interrupted_update_of_the_columns_is_made_up_for():
    """Ctrl-C between any two lines of `best`: the next call sees all rows."""
    asked = study()
    for i in range(5):
        asked.tell(asked.ask().number, [float(i)])
    trials = asked.trials
    whole = Columns(asked.space)
    whole.update(trials)
    for line in range(1, 200):
        columns, count = Columns(asked.space), 0

        def interrupt(frame, event, arg, line=line):
            nonlocal count
            if frame.f_code.co_filename.endswith("columns.py") and event == "line":
                count += 1
                if count == line:
                    raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        try:
            columns.update(trials)
            ended = True
        except KeyboardInterrupt:
            ended = False
        finally:
            sys.settrace(None)
        columns.update(trials)
        np.testing.assert_array_equal(columns.observations().mean, whole.observations().mean)
        np.testing.assert_array_equal(columns.units(), whole.units())
        assert columns.memory == whole.memory
        if ended:
            break
    assert ended
    assert line > 40


# -- a journal that a kill has left -------------------------------------------------------------------------------


def test_nothing_left_to_do_still_merges_the_journal(path):
    child = os.fork()
    if not child:
        killed = study(path)
        for _ in range(5):
            killed.tell(killed.ask().number, [0.5])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert journal_of(path).exists()
    study(path, lambda replica: 0.5, isolate=False).run(trials=5, progress=False)
    assert not journal_of(path).exists()
    copy = path.with_name("copy.h5")
    copy.write_bytes(path.read_bytes())
    assert [t.mean for t in hyppo.load(copy).trials] == [0.5] * 5


def test_nothing_left_to_do_leaves_a_study_in_use_alone(path):
    with study(path) as writer:
        writer.tell(writer.ask().number, [0.5])
        study(path, lambda replica: 0.5, isolate=False).run(trials=1, progress=False)
        assert journal_of(path).exists()
        writer.tell(writer.ask().number, [0.5])


# -- curves -------------------------------------------------------------------------------------------------------


class TestCurve:
    def test_is_a_sequence_of_pairs(self):
        pairs = ((0, 0.5), (3, float("nan")), (5, 0.25))
        curve = Curve.of(pairs)
        assert list(curve)[::2] == [pairs[0], pairs[2]]
        assert repr(curve) == repr(pairs)
        assert curve == Curve.of(pairs) == pickle.loads(pickle.dumps(curve))
        assert hash(curve) == hash(Curve.of(pairs))
        assert curve[1:] == Curve.of(pairs[1:])
        assert curve[-1] == (5, 0.25)
        assert curve != pairs[:2]
        with pytest.raises(ValueError, match="read-only"):
            curve.losses[0] = 1.0

    @pytest.mark.parametrize("points", [[(0.5, 1.0)], [("a", 1.0)], [(2**63, 1.0)], [(0, "x")], [(0,)], [(True, 1.0)]])
    def test_refuses_what_is_no_curve(self, points):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            Curve.of(points)

    @pytest.mark.parametrize("n", [POINTS, POINTS + 1, 5000, 300_000])
    def test_thinned(self, n):
        rng = np.random.default_rng(0)
        curve = Curve(np.arange(n) * 3, rng.random(n))
        kept = curve.thinned()
        assert len(kept) <= POINTS
        assert n <= POINTS or len(kept) > POINTS / 2 - 2
        assert set(kept) <= set(curve)
        assert (kept[0], kept[-1]) == (curve[0], curve[-1])
        assert min(kept.losses) == min(curve.losses)

    def test_curves_of_like_lengths_keep_the_same_steps(self):
        kept = [set(Curve(np.arange(n), np.ones(n)).thinned().steps.tolist()) for n in (3000, 4000)]
        assert len(kept[0] - kept[1]) <= 2

    def test_a_stored_replica_holds_a_thinned_one(self, path):
        points = tuple((batch, 1 / (batch + 1)) for batch in range(50_000))
        record = ReplicaRecord.of(Task(0, 0, 1, {}, "."), Outcome(0.5, None, 1.0, 2.0, points))
        write(path, [Asked(0, {"width": 8, "lr": 0.01, "act": None}, ((0, 1),)), Settled(0, (record,))], HEADER)
        (replica,) = hyppo.load(path).trials[0].replicas
        assert 500 < len(replica.curve) <= POINTS
        assert replica.curve[-1] == points[-1]

    @pytest.mark.parametrize("points", [((2**63, 0.5),), (("a", 0.5),), ((0, None),)])
    def test_reports_that_cannot_be_stored_fail_the_replica_alone(self, points):
        record = ReplicaRecord.of(Task(0, 0, 1, {}, "."), Outcome(0.5, None, 1.0, 2.0, points))
        check(Settled(0, (record,)))
        assert record.state is State.FAILED
        assert "replica.report takes a step" in str(record.failure)
