"""The study file: what goes in comes out, whoever may open it when; its crash tests are in test_log_crash.py."""

import errno
import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyppo.errors import LogError
from hyppo.log import (
    Header,
    MemoryLog,
    StudyLog,
    check_log,
    codec,
    disk,
    frame,
    hdf5,
    open_log,
    open_reader,
    read_log,
    rows,
)
from hyppo.log import journal as journal_module
from hyppo.log.journal import journal_of
from hyppo.log.schema import Extent
from hyppo.replica import Failure
from hyppo.space import Choice, Integer, Ordinal, Real, Space
from hyppo.trial import Asked, Event, Note, ReplicaRecord, Settled, State
from tests.crash import workload

SPACE = Space(
    {
        "width": Integer(1, 100),
        "lr": Real(1e-4, 1e-1, log=True),
        "act": Choice(["relu", "gelu", None, True, 1]),
        "batch": Ordinal([16, 32, 64]),
        "größe": Ordinal(["s", "m"]),
    }
)
HEADER = Header.new(SPACE, 3, {"replicas": 2, "risk": 0.0})
EVENTS: list[Event] = [e for group in workload.groups(12) for e in group]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.h5"


def write(path: Path, events: Sequence[Event], header: Header = workload.HEADER) -> None:
    log, _, _ = open_log(path, header)
    log.append(events)
    log.close()


@contextmanager
def killed(path: Path, events: Sequence[Event], checkpointed: int = 0) -> Iterator[None]:
    """A study whose writer was killed with events in the journal."""
    child = os.fork()
    if not child:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(events[:checkpointed])
        log.checkpoint()
        log.append(events[checkpointed:])
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    yield


# -- contract of every log ----------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "file, kernel only", "memory"])
def log(request: pytest.FixtureRequest, path: Path) -> Iterator[StudyLog]:
    if request.param == "memory":
        log: StudyLog = MemoryLog()
    else:
        log, _, _ = open_log(path, workload.HEADER, durability="power" if request.param == "file" else "process")
    yield log
    log.close()


class TestContract:
    def test_takes_events_in_groups_of_any_size(self, log: StudyLog, path: Path) -> None:
        log.append(EVENTS[:1])
        log.append([])
        log.append(tuple(EVENTS[1:8]))
        log.checkpoint()
        log.append(EVENTS[8:])
        log.close()
        if not isinstance(log, MemoryLog):
            assert list(read_log(path)[1]) == EVENTS

    def test_checkpoint_of_nothing(self, log: StudyLog) -> None:
        log.checkpoint()
        log.checkpoint()

    def test_close_twice(self, log: StudyLog) -> None:
        log.close()
        log.close()


# -- round trip ---------------------------------------------------------------------------------------------------

json_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**200), 2**200), st.floats(allow_nan=False), st.text()
)
json_values = st.recursive(
    json_scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=6
)
text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(['"', '""', "\0", "\ud800", "\\u0000", ""])
finite = st.floats(allow_nan=False)
seeds = st.integers(0, 2**64 - 1)
indices = st.integers(0, 2**31 - 1)
curves = st.one_of(
    st.lists(finite, max_size=5).map(lambda v: tuple(enumerate(v))),
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), finite), max_size=5).map(tuple),
    st.sampled_from([tuple((i, float(i)) for i in range(n)) for n in (1023, 1024, 1025, 1500)]),
)
failures = st.none() | st.builds(Failure, text, text, text)
replica_records = st.builds(
    ReplicaRecord,
    indices,
    seeds,
    st.sampled_from(State),
    st.none() | finite,
    st.none() | finite,
    st.none() | finite,
    failures,
    curves,
    text,
    indices,
)
params = st.dictionaries(st.sampled_from(SPACE.names) | text, json_scalars, max_size=6)
numbers = st.integers(0, 4) | st.integers(0, 2**63 - 1)
events = st.one_of(
    st.builds(Asked, numbers, params, st.lists(st.tuples(indices, seeds), max_size=3).map(tuple), params, finite),
    st.builds(
        Asked,
        numbers,
        params,
        st.just(()),
        st.dictionaries(st.text(max_size=5), json_values, max_size=3),
        finite,
    ),
    st.builds(Settled, numbers, st.lists(replica_records, max_size=3).map(tuple), st.booleans(), finite),
    st.builds(Note, text, finite),
)


def same(found: Sequence[Event], logged: Sequence[Event]) -> bool:
    """Equal, and of the same types: True is not 1, and 1 is not 1.0."""
    return list(found) == list(logged) and repr(list(found)) == repr(list(logged))


class TestRoundTrip:
    @settings(max_examples=100)
    @given(st.lists(events, max_size=5))
    def test_journal(self, logged: list[Event]) -> None:
        assert same(codec.decode(codec.encode(logged)), logged)

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(groups=st.lists(st.lists(events, max_size=4), max_size=4), data=st.data())
    def test_file(
        self, groups: list[list[Event]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("round") / "study.h5"
        logged: list[Event] = []
        log, header, _ = open_log(path, HEADER, durability="process")
        reader = open_reader(path)
        for group in groups:
            log.append(group)
            logged += group
            match data.draw(st.sampled_from(["", "checkpoint", "reopen"])):
                case "checkpoint":
                    log.checkpoint()
                case "reopen":
                    log.close()
                    log, header, there = open_log(path, HEADER, durability="process")
                    assert same(there, logged)
            assert same(reader.read()[1], logged)
            assert same(read_log(path)[1], logged)
        log.close()
        assert header == HEADER
        assert same(reader.read()[1], logged)
        found, there = read_log(path)
        assert found == HEADER
        assert same(there, logged)

    def test_numpy_scalars_become_python_numbers(self, path: Path) -> None:
        asked = Asked(0, {"lr": np.float64(0.5), "n": np.int64(3)}, ((0, 1),), {"flag": np.bool_(True)}, 0.0)
        write(path, [asked])
        (found,) = read_log(path)[1]
        assert isinstance(found, Asked)
        assert found == asked
        assert type(found.params["n"]) is int

    @pytest.mark.parametrize(
        "event",
        [
            Asked(0, {"lr": object()}, ()),
            Asked(2**63, {}, ()),
            Asked(0, {}, ((0, -1),)),
            Settled(0, (ReplicaRecord(0, 1, State.DONE, float("nan")),)),
            Settled(0, (ReplicaRecord(2**31, 1, State.DONE, 1.0),)),
            Settled(0, (ReplicaRecord(0, 1, State.DONE, 1.0, curve=((2**63, 0.0),)),)),
        ],
    )
    def test_what_no_file_can_hold_is_refused_before_it_is_logged(self, event: Event, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        with pytest.raises(LogError, match="cannot log"):
            log.append([Note("whole group"), event])
        log.append([Note("next")])
        log.close()
        assert list(read_log(path)[1]) == [Note("next")]

    def test_space_larger_than_an_hdf5_attribute(self, path: Path) -> None:
        space = Space(name=Choice([f"value {i}" for i in range(20_000)]))
        header = Header.new(space, 0, {"long": "x" * 100_000})
        write(path, EVENTS, header)
        assert read_log(path) == (header, tuple(EVENTS))

    def test_seed_of_any_size(self, path: Path) -> None:
        header = Header.new(SPACE, 2**128 - 1)
        write(path, [], header)
        assert read_log(path)[0] == header


def batches() -> Iterator[list[Event]]:
    def settled(count: int, points: int, message: str) -> Settled:
        curve = tuple((i, 0.5) for i in range(points))
        failure = Failure("E", message)
        return Settled(0, tuple(ReplicaRecord(i, i, curve=curve, failure=failure) for i in range(count)))

    yield [Note("")]
    yield [Note("x" * 2100)] * 200
    yield [Asked(i, {"width": i}, ((0, 1),) * 3, {"by": "x" * 300}) for i in range(1500)]
    yield [settled(1, 1000, "a")]
    yield [settled(1100, 40, "b")]
    yield [settled(1, 2000, "c" * 100_000), settled(30, 1, "d" * 5000)]


def test_growth_is_an_upper_bound(tmp_path: Path) -> None:
    """HDF5 must not meet a full disk: what a checkpoint reserves is what it needs at most."""
    file, extent = tmp_path / "x.h5", Extent()
    file.write_bytes(hdf5.empty(HEADER))
    for _ in range(2):
        for logged in batches():
            added = rows.batch(extent, SPACE, logged)
            before = file.stat().st_size
            hdf5.append(file, extent, added, HEADER, closed=False)
            assert 0 <= file.stat().st_size - before <= added.growth
            extent = added.extent


# -- what other programs see --------------------------------------------------------------------------------------


class TestPlainHDF5:
    def test_columns(self, path: Path) -> None:
        record = ReplicaRecord(0, 11, State.DONE, 0.5, 1.0, 2.0, None, ((0, 0.9), (1, 0.5)), "node1")
        failed = ReplicaRecord(1, 12, State.FAILED, None, 1.0, 2.0, Failure("E", "no", "tb"), (), "node2")
        point = {"width": 7, "lr": 0.01, "act": None, "batch": 32, "größe": "m"}
        write(path, [Asked(0, point, ((0, 11), (1, 12)), {"by": "gp"}, 5.0), Settled(0, (record, failed))], HEADER)
        with h5py.File(path) as file:
            assert file.attrs["format"] == "hyppo-study"
            assert file.attrs["closed"] == 1
            assert file.attrs["seq"] == 2
            assert json.loads(file.attrs["config_json"]) == HEADER.config
            assert Space.from_json(file.attrs["space"]) == SPACE
            replicas = pd.DataFrame({k: d[:] for k, d in file["replicas"].items() if d.ndim == 1})
            assert replicas["loss"].tolist()[0] == 0.5
            assert replicas["loss"].isna().tolist() == [False, True]
            assert file["replicas/status"].attrs["names"][replicas["status"][1]] == "failed"
            assert file["hosts"].asstr()[replicas["host"][1]] == "node2"
            assert file["failures/message"].asstr()[replicas["failure"][1]] == "no"
            np.testing.assert_array_equal(file["replicas/curve"][:], [[0.9, 0.5], [np.nan, np.nan]])
            params = file["trials/params"]
            names, choices = list(params.attrs["names"]), json.loads(params.attrs["choices"])
            assert names == list(SPACE.names)
            assert params[0].tolist() == [7.0, 0.01, 2.0, 32.0, 1.0]
            assert {n: choices[n][int(params[0, names.index(n)])] for n in choices} == {"act": None, "größe": "m"}

    def test_opens_while_the_study_runs(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:5])
        with h5py.File(path) as file:
            assert file.attrs["closed"] == 0
            assert file.attrs["seq"] == 0
        log.checkpoint()
        with h5py.File(path) as file:
            assert file.attrs["seq"] == 5
        log.close()

    def test_closed_file_that_goes_on_says_so(self, path: Path) -> None:
        write(path, EVENTS[:5])
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[5:6])
        with h5py.File(path) as file:
            assert file.attrs["closed"] == 0
        log.close()

    def test_is_read_only_while_the_study_runs(self, path: Path) -> None:
        old = os.umask(0o027)
        try:
            log, _, _ = open_log(path, workload.HEADER)
            log.append(EVENTS[:1])
            log.checkpoint()
            assert stat.S_IMODE(path.stat().st_mode) == 0o440
            log.close()
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            path.chmod(0o664)
            log, _, _ = open_log(path, workload.HEADER)
            log.append(EVENTS[1:])
            log.close()
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o664

    def test_a_notebook_that_holds_the_file_stops_nothing(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:4])
        log.checkpoint()
        with h5py.File(path, "r") as notebook:
            for event in EVENTS[4:]:
                log.append([event])
                log.checkpoint()
            log.close()
            assert notebook["events/kind"].shape == (4,)  # its snapshot
        assert list(read_log(path)[1]) == EVENTS

    def test_written_by_hand_after_a_crash(self, path: Path) -> None:
        with killed(path, EVENTS, checkpointed=4):
            path.chmod(0o644)
            with h5py.File(path, "r+") as file:
                file.attrs["remark"] = "mine"
                file["replicas"].create_dataset("my_column", data=[1, 2, 3])
        write(path, [Note("on")])
        assert list(read_log(path)[1]) == [*EVENTS, Note("on")]
        with h5py.File(path) as file:
            assert file.attrs["remark"] == "mine"

    def test_a_file_broken_by_hand_keeps_the_journal(self, path: Path) -> None:
        with killed(path, EVENTS, checkpointed=4):
            path.chmod(0o644)
            with h5py.File(path, "r+") as file:
                del file["replicas/curve"]
        before = journal_of(path).read_bytes()
        with pytest.raises(LogError, match="damaged"):
            open_log(path, workload.HEADER)
        assert journal_of(path).read_bytes() == before

    def test_an_idle_session_leaves_the_file_alone(self, path: Path) -> None:
        write(path, EVENTS)
        before = path.stat()
        log, _, events = open_log(path, workload.HEADER)
        log.close()
        after = path.stat()
        assert list(events) == EVENTS
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_symbolic_link(self, path: Path) -> None:
        (path.parent / "data").mkdir()
        path.symlink_to("data/study.h5")
        write(path, EVENTS)
        assert path.is_symlink()
        assert list(read_log(path)[1]) == EVENTS
        with killed(path, [*EVENTS, Note("x")][len(EVENTS) :]):
            assert (path.parent / "data" / "study.h5.journal").exists()
            assert list(read_log(path)[1]) == [*EVENTS, Note("x")]


# -- one study, one writer ----------------------------------------------------------------------------------------


class TestOneWriter:
    def test_second_process(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:3])
        script = (
            "import sys; from tests.crash import workload; from hyppo.log import open_log\n"
            "try: open_log(sys.argv[1], workload.HEADER, steal=True)\n"
            "except OSError as error: print(error)"
        )
        root = Path(__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], cwd=root, capture_output=True, text=True, timeout=30, check=True
        )
        assert f"written by process {os.getpid()} on {socket.gethostname()} since 20" in done.stdout
        log.append(EVENTS[3:])
        log.close()
        assert list(read_log(path)[1]) == EVENTS

    def test_same_process(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        with pytest.raises(LogError, match="close the other study first"):
            open_log(path, workload.HEADER)
        log.close()
        open_log(path, workload.HEADER)[0].close()

    def test_a_study_that_was_forgotten_is_not_locked(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del log
            gc.collect()
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS
        log.close()

    def test_lock_of_a_dead_process(self, path: Path) -> None:
        with killed(path, EVENTS, checkpointed=3):
            log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS
        log.close()
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]

    def test_forked_process_neither_writes_nor_keeps_the_lock(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            try:
                log.append(EVENTS[:1])
            except LogError as error:
                log.close()  # as an exit handler does
                os.write(write_end, str(error).encode())
            time.sleep(20)
            os._exit(0)
        try:
            assert b"forked process" in os.read(read_end, 1000)
            log.close()
            open_log(path, workload.HEADER)[0].close()  # though the child lives
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert read_log(path)[1] == ()

    @pytest.mark.parametrize("then", ["append", "close"])
    def test_journal_deleted_under_the_writer(self, then: str, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:3])
        log.checkpoint()
        log.append(EVENTS[3:6])
        journal_of(path).unlink()
        if then == "append":
            with pytest.raises(LogError, match="deleted or replaced"):
                log.append(EVENTS[6:])
            with pytest.raises(LogError, match="deleted or replaced"):
                log.checkpoint()
        with pytest.warns(UserWarning, match="deleted or replaced"):
            log.close()
        (rescued,) = path.parent.glob("*.rescued-*")
        rescued.rename(journal_of(path))
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS[:6]
        log.close()


def test_processes_that_start_at_once(path: Path) -> None:
    """One of them gets the study, the others are told so."""
    ready, go = os.pipe()
    children = []
    for i in range(4):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(ready, 1)  # until all are there
            status = 1
            try:
                log, _, events = open_log(path, workload.HEADER)
                log.append([Note(str(i))] if not events else [])
                time.sleep(0.5)
                log.close()
                status = 0
            except LogError:
                status = 2
            finally:
                os._exit(status)
        children.append(child)
    os.close(ready)
    os.close(go)
    statuses = sorted(os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children)
    assert statuses[0] == 0
    assert set(statuses) <= {0, 2}
    assert len(read_log(path)[1]) == 1


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module.disk, "filesystem", lambda path: "nfs4")


def rewrite_header(path: Path, **writer: str) -> None:
    """Make the journal say that somebody else writes it."""
    scan = frame.scan(path.read_bytes())
    told = json.loads(scan.frames[0].payload)
    told["writer"].update(writer)
    head = frame.encode(frame.HEADER, 0, 0, json.dumps(told).encode())
    rest = b"".join(frame.encode(f.kind, f.sequence, f.count, f.payload) for f in scan.frames[1:])
    path.write_bytes(head + rest)


@pytest.mark.usefixtures("network")
class TestNetworkFileSystem:
    def test_live_writer_on_another_host(self, path: Path) -> None:
        with killed(path, EVENTS, checkpointed=3):
            rewrite_header(journal_of(path), host="node9", boot="other", pid="77")
        with pytest.raises(LogError, match=r"process 77 on node9 .* last seen \d+ s ago; .* steal=True"):
            open_log(path, workload.HEADER)
        log, _, events = open_log(path, workload.HEADER, steal=True)
        assert list(events) == EVENTS
        log.close()

    def test_a_writer_that_was_taken_over_from_stops(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module.fcntl, "flock", lambda fd, operation: None)  # of no use between hosts
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(journal_module.disk, "boot_id", lambda: "other")
            elsewhere.setattr(journal_module.socket, "gethostname", lambda: "node9")
            old, _, _ = open_log(path, workload.HEADER)
        old.append(EVENTS[:3])
        new, _, events = open_log(path, workload.HEADER, steal=True)
        assert list(events) == EVENTS[:3]
        with pytest.raises(LogError, match="deleted or replaced"):
            old.append([Note("too late")])
        new.append(EVENTS[3:])
        with pytest.warns(UserWarning, match="deleted or replaced"):
            old.close()
        new.close()
        assert list(read_log(path)[1]) == EVENTS

    def test_a_forgotten_study_is_not_kept_by_its_clock(self, path: Path) -> None:
        log, _, _ = open_log(path, workload.HEADER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del log
            gc.collect()
        open_log(path, workload.HEADER)[0].close()

    def test_writer_on_another_host_that_is_long_gone(self, path: Path) -> None:
        with killed(path, EVENTS):
            rewrite_header(journal_of(path), host="node9", boot="other")
        os.utime(journal_of(path), (time.time() - 400,) * 2)
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS
        log.close()

    def test_this_host(self, path: Path) -> None:
        with killed(path, EVENTS):
            pass
        open_log(path, workload.HEADER)[0].close()
        with killed(path, [Note("x")]):
            rewrite_header(journal_of(path), boot="before the restart")
        open_log(path, workload.HEADER)[0].close()

    def test_a_live_writer_touches_its_journal(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module, "TOUCH_EVERY", 0.02)
        log, _, _ = open_log(path, workload.HEADER)
        os.utime(journal_of(path), (0, 0))
        deadline = time.monotonic() + 5
        while journal_of(path).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert journal_of(path).stat().st_mtime > 0
        log.close()

    def test_no_locks_at_all(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(fd: int, operation: int) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr(journal_module.fcntl, "flock", refuse)
        with pytest.warns(UserWarning, match="has no locks"):
            log, _, _ = open_log(path, workload.HEADER)
        with pytest.warns(UserWarning, match="no locks"), pytest.raises(LogError, match="close the other study"):
            open_log(path, workload.HEADER)
        log.close()


def test_a_local_lock_is_trusted_whatever_the_journal_says(path: Path) -> None:
    with killed(path, EVENTS):
        rewrite_header(journal_of(path), host="container-17", boot="other")
    open_log(path, workload.HEADER)[0].close()


# -- whose file it is ---------------------------------------------------------------------------------------------


class TestRefusals:
    def test_another_space(self, path: Path) -> None:
        write(path, EVENTS)
        other = Header.new(Space(width=Integer(8, 32)), workload.HEADER.seed)
        with pytest.raises(LogError, match=r"another space.*width"):
            open_log(path, other)

    def test_another_seed(self, path: Path) -> None:
        write(path, EVENTS)
        with pytest.raises(LogError, match="seed=7, not 8"):
            open_log(path, Header.new(workload.SPACE, 8))

    def test_text_file(self, path: Path) -> None:
        path.write_text("notes of mine")
        with pytest.raises(LogError, match="cannot be opened as an HDF5 file"):
            open_log(path, HEADER)
        with pytest.raises(LogError, match="cannot be opened as an HDF5 file"):
            read_log(path)
        assert path.read_text() == "notes of mine"
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]

    def test_foreign_hdf5(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["x"] = 1
        with pytest.raises(LogError, match="not a study file"):
            open_log(path, HEADER)
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]

    def test_another_format(self, path: Path) -> None:
        write(path, EVENTS)
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 99
        with pytest.raises(LogError, match="format 99"):
            open_log(path, workload.HEADER)
        with pytest.raises(LogError, match="format 99"):
            read_log(path)

    def test_no_such_file(self, path: Path) -> None:
        with pytest.raises(LogError, match="does not exist"):
            read_log(path)
        assert list(path.parent.iterdir()) == []

    def test_no_such_folder(self, path: Path) -> None:
        with pytest.raises(LogError, match="no folder"):
            open_log(path.parent / "none" / "study.h5", HEADER)

    def test_closed_log(self, path: Path) -> None:
        log, _, _ = open_log(path, HEADER)
        log.close()
        with pytest.raises(LogError, match="closed"):
            log.append([Note("late")])

    def test_journal_of_another_study(self, path: Path) -> None:
        with killed(path, EVENTS, checkpointed=2):
            path.unlink()
        write(path.with_name("other.h5"), EVENTS[:2], Header.new(workload.SPACE, 7))
        path.with_name("other.h5").rename(path)
        with pytest.raises(LogError, match="another study"):
            open_log(path, workload.HEADER)
        with pytest.raises(LogError, match="another study"):
            read_log(path)
        assert check_log(path)

    def test_older_copy_of_the_file(self, path: Path) -> None:
        write(path, EVENTS[:2])
        old = path.read_bytes()
        with killed(path, EVENTS[2:], checkpointed=3):
            path.unlink()
            path.write_bytes(old)
        before = journal_of(path).read_bytes()
        with pytest.raises(LogError, match=r"goes on at event 6, but study\.h5 ends at event 2"):
            open_log(path, workload.HEADER)
        with pytest.raises(LogError, match="events are missing"):
            read_log(path)
        assert journal_of(path).read_bytes() == before

    def test_file_lost_before_the_first_checkpoint(self, path: Path) -> None:
        with killed(path, EVENTS):
            path.unlink()
        log, header, events = open_log(path, workload.HEADER)
        assert header == workload.HEADER
        assert list(events) == EVENTS
        log.close()

    def test_configuration_may_change(self, path: Path) -> None:
        write(path, EVENTS)
        newer = Header.new(workload.SPACE, 7, {"replicas": 5, "risk": 1.0})
        log, header, events = open_log(path, newer)
        assert header.uuid == workload.HEADER.uuid
        assert header.config == newer.config
        note = events[-1]
        assert isinstance(note, Note)
        assert note.text == "configuration changed: replicas: 2 -> 5; risk: null -> 1.0"
        assert read_log(path) == (header, events)
        log.close()
        assert read_log(path) == (header, events)

    @pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
    def test_folder_of_another_user(self) -> None:
        # Not under tmp_path, whose parents are closed to others.
        folder = Path(f"/tmp/hyppo-read-only-{os.getpid()}")
        folder.mkdir(mode=0o755)
        path = folder / "study.h5"
        child = 0
        try:
            with killed(path, EVENTS, checkpointed=3):
                child = os.fork()
            if not child:
                status = 1
                try:
                    os.setuid(65534)
                    assert list(read_log(path)[1]) == EVENTS
                    with pytest.raises(LogError, match=r"cannot be written .*hyppo show"):
                        open_log(path, workload.HEADER)
                    with pytest.raises(LogError, match="cannot be written"):
                        open_log(folder / "new.h5", workload.HEADER)
                    status = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
        finally:
            if child:
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()


# -- damage -------------------------------------------------------------------------------------------------------


class TestDamage:
    def test_any_byte_of_a_journal(self) -> None:
        """Whatever is flipped or cut: the frames before it, and never a wrong one."""
        payloads = [codec.encode(group) for group in workload.groups(4)]
        frames = [frame.encode(frame.EVENTS, i + 1, 1, payload) for i, payload in enumerate(payloads)]
        whole = b"".join(frames)
        ends = np.cumsum([len(f) for f in frames]).tolist()
        for at in range(len(whole)):
            for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]):
                scan = frame.scan(damaged)
                intact = sum(end <= at for end in ends)
                assert [f.payload for f in scan.frames] == payloads[:intact]
                assert scan.end == (ends[intact - 1] if intact else 0)
                assert [f.payload for f in scan.stray] == (payloads[intact + 1 :] if len(damaged) == len(whole) else [])

    def test_a_torn_tail_is_cut(self, path: Path) -> None:
        with killed(path, EVENTS[:6]), journal_of(path).open("ab") as file:
            file.write(frame.encode(frame.EVENTS, 7, 1, codec.encode(EVENTS[6:7]))[:-5])
        assert list(read_log(path)[1]) == EVENTS[:6]
        assert check_log(path) == []
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS[:6]
        log.append(EVENTS[6:])
        log.close()
        assert list(read_log(path)[1]) == EVENTS

    def test_damage_is_kept_and_what_follows_from_the_rest_is_taken(self, path: Path) -> None:
        asked = [Asked(i, {"width": 8, "lr": 0.01, "act": None}, ((0, 1),)) for i in range(3)]
        settled = [Settled(i, (ReplicaRecord(0, 1, State.DONE, 0.5),)) for i in range(3)]
        child = os.fork()
        if not child:
            log, _, _ = open_log(path, workload.HEADER)
            for event in (*asked, *settled):
                log.append([event])
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        whole = journal_of(path).read_bytes()
        damaged = bytearray(whole)
        damaged[whole.index(codec.encode([asked[2]])) + 3] ^= 0xFF
        journal_of(path).write_bytes(damaged)

        with pytest.raises(LogError, match="damaged at byte"):
            read_log(path)
        assert "damaged at byte" in check_log(path)[0]
        with pytest.warns(UserWarning, match="2 events after the damage were taken, 1 could not be"):
            log, _, events = open_log(path, workload.HEADER)
        assert list(events[:-1]) == [asked[0], asked[1], settled[0], settled[1]]
        assert isinstance(events[-1], Note)
        log.close()
        (kept,) = path.parent.glob("*.damaged-*")
        assert kept.read_bytes() == damaged
        assert read_log(path)[1] == events
        assert check_log(path) == []

    def test_a_cut_that_a_power_failure_undid_is_no_damage(self, path: Path) -> None:
        """Old frames, all of them in the file, behind the first new one."""
        with killed(path, EVENTS, checkpointed=6):
            journal = journal_of(path).read_bytes()
            journal_of(path).write_bytes(journal + b"xx" + frame.encode(frame.EVENTS, 5, 2, codec.encode(EVENTS[4:6])))
        assert list(read_log(path)[1]) == EVENTS
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            open_log(path, workload.HEADER)[0].close()

    def test_any_byte_of_the_study_file_is_no_traceback(self, path: Path) -> None:
        """HDF5 has no checksums: damage there may go unseen, but ends in a LogError or in events, never otherwise."""
        write(path, EVENTS)
        whole = path.read_bytes()
        for at in range(0, 26_000, 997):  # the structure; rows come after it
            path.chmod(0o644)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            child = os.fork()
            if not child:
                signal.alarm(5)  # HDF5 may loop on it
                try:
                    read_log(path)
                except LogError:
                    pass
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) or status == 0, at

    def test_check_finds_a_history_that_does_not_fold(self, path: Path) -> None:
        write(path, [Note("first"), Settled(4, ())])
        assert check_log(path) == ["event 2: trial 4 was never asked; the study has 0 trials"]

    def test_check_of_a_sound_study(self, path: Path) -> None:
        write(path, EVENTS)
        assert check_log(path) == []
        with killed(path, [Note("x")]):
            assert check_log(path) == []
        assert check_log(path.with_name("none.h5"))


# -- checkpoints and cost -----------------------------------------------------------------------------------------


class TestCheckpoints:
    def test_come_by_themselves(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hyppo.log.file.CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr("hyppo.log.file.CHECKPOINT_SHARE", 0.0)
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:3])
        log.append(EVENTS[3:4])
        with h5py.File(path) as file:
            assert file.attrs["seq"] == 3
        log.close()

    @pytest.mark.parametrize("where", ["hyppo.log.hdf5.append", "hyppo.log.disk.sync_data", "hyppo.log.disk.write"])
    def test_an_interrupt_leaves_the_log_usable(self, where: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*args: object, **named: object) -> None:
            raise KeyboardInterrupt

        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:3])
        with monkeypatch.context() as patched:
            patched.setattr("hyppo.log.file.CHECKPOINT_SECONDS", 0.0)
            patched.setattr("hyppo.log.file.CHECKPOINT_SHARE", 0.0)
            if where != "hyppo.log.hdf5.append":
                log.checkpoint()
            patched.setattr(where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                log.append([Note("did not happen")])
        assert list(read_log(path)[1]) == EVENTS[:3]
        log.append(EVENTS[3:])
        log.close()
        assert list(read_log(path)[1]) == EVENTS

    def test_an_interrupt_right_after_the_rename_loses_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = os.replace

        def interrupt(source: Path, target: Path) -> None:
            replace(source, target)
            raise KeyboardInterrupt

        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[:3])
        with monkeypatch.context() as patched:
            patched.setattr("hyppo.log.file.os.replace", interrupt)
            with pytest.raises(KeyboardInterrupt):
                log.checkpoint()
        log.append(EVENTS[3:])
        assert list(read_log(path)[1]) == EVENTS
        with pytest.warns(UserWarning, match="safe in"):
            log.close()
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS
        log.close()

    def test_come_when_the_journal_is_long(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hyppo.log.file.CHECKPOINT_BYTES", 20_000)
        log, _, _ = open_log(path, workload.HEADER, durability="process")
        longest = 0
        for event in EVENTS * 3:
            if isinstance(event, Asked):
                event = Note("x" * 10_000)
            log.append([event])
            longest = max(longest, journal_of(path).stat().st_size)
        log.close()
        assert longest < 600_000

    def test_that_finds_the_file_changed_keeps_the_journal(self, path: Path) -> None:
        write(path, EVENTS[:4])
        stranger = path.read_bytes()
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[4:6])
        log.checkpoint()
        path.unlink()
        path.write_bytes(stranger)
        log.append(EVENTS[6:])
        with pytest.warns(UserWarning, match="changed by another program"):
            log.close()
        assert path.read_bytes() == stranger
        assert len(frame.scan(journal_of(path).read_bytes()).frames) == 2


def test_append_is_cheap(path: Path) -> None:
    """Under 0.2 ms beside the sync, also with 10^5 replicas in the file."""
    curve = tuple((i, 1.0 / (i + 1)) for i in range(50))
    log, _, _ = open_log(path, workload.HEADER, durability="process")
    bulk = [Asked(0, {}, ())]
    bulk += [Settled(0, tuple(ReplicaRecord(i, i, State.DONE, 0.5, curve=curve) for i in range(1000)))] * 100
    log.append(bulk)
    log.checkpoint()
    seconds = []
    for i in range(300):
        event = Settled(0, (ReplicaRecord(i, i, State.DONE, 0.5, 1.0, 2.0, None, curve, "node1"),))
        start = time.perf_counter()
        log.append([event])
        seconds.append(time.perf_counter() - start)
    log.close()
    assert np.median(seconds) < 2e-4


def test_reading_ten_thousand_trials(path: Path) -> None:
    curve = tuple((i, 1.0 / (i + 1)) for i in range(50))
    logged: list[Event] = []
    for n in range(10_000):
        logged.append(Asked(n, {"width": 8, "lr": 0.01, "act": "relu"}, ((0, 1), (1, 2), (2, 3)), {"by": "gp"}))
        logged.append(Settled(n, tuple(ReplicaRecord(r, r + 1, State.DONE, 0.5, curve=curve) for r in range(3))))
    write(path, logged)
    start = time.perf_counter()
    _, found = read_log(path)
    seconds = time.perf_counter() - start
    assert list(found) == logged
    assert seconds < 3  # 0.4 s on a quiet machine


class TestDisk:
    @pytest.mark.parametrize("answer", [OSError(errno.EXDEV, "Invalid cross-device link"), 0, 3])
    def test_copy_without_the_kernel(
        self, answer: OSError | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_kernel = os.copy_file_range
        calls = 0

        def copy_file_range(source: int, target: int, count: int, at: int, to: int) -> int:
            nonlocal calls
            calls += 1
            if isinstance(answer, OSError):
                raise answer
            return in_kernel(source, target, answer, at, to) if answer and calls == 1 else 0

        monkeypatch.setattr(os, "copy_file_range", copy_file_range)
        content = bytes(range(256)) * 40
        (tmp_path / "from").write_bytes(content)
        with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
            disk.copy(source.fileno(), target.fileno(), len(content) - 7)
        assert (tmp_path / "to").read_bytes() == content[:-7]

    def test_copy_on_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def copy_file_range(*args: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "copy_file_range", copy_file_range)
        (tmp_path / "from").write_bytes(b"x" * 100)
        with (
            (tmp_path / "from").open("rb") as source,
            (tmp_path / "to").open("wb") as target,
            pytest.raises(OSError, match="No space left"),
        ):
            disk.copy(source.fileno(), target.fileno(), 100)

    def test_file_systems(self) -> None:
        assert disk.filesystem(Path("/proc/self")) == "proc"
        assert disk.is_shared(Path("/proc"))


def test_importing_the_log_loads_no_hdf5() -> None:
    script = "import sys, hyppo.log; print('h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"
