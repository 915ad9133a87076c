"""The study file: one writer at a time, and whose file it is."""

import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import pytest

from hyppo.errors import LogError
from hyppo.log import Header, check_log, frame, open_log, read_log
from hyppo.log import journal as journal_module
from hyppo.log.journal import journal_of
from hyppo.space import Integer, Space
from hyppo.trial import Note
from tests.crash import workload
from tests.logs import EVENTS, HEADER, killed, write

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
        assert "give this study another file" in done.stdout
        assert "let this one process run(workers=n), or start the script once as ranks of MPI" in done.stdout
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
            elsewhere.setattr("hyppo.log.claim.socket.gethostname", lambda: "node9")
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
        with pytest.raises(LogError, match="close the other study"):
            open_log(path, workload.HEADER)
        log.close()
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]


def no_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(journal_module.fcntl, "flock", refuse)


@pytest.mark.filterwarnings("ignore:.*no locks")
class TestNoLocks:
    """A file that one process alone can create stands for the lock."""

    def test_processes_that_start_at_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        no_locks(monkeypatch)
        for _ in range(5):
            ready, go = os.pipe()
            children = []
            for i in range(3):
                child = os.fork()
                if not child:
                    os.close(go)
                    os.read(ready, 1)
                    status = 1
                    try:
                        log, _, _ = open_log(path, workload.HEADER)
                        log.append([Note(str(i))])
                        time.sleep(0.3)
                        log.close()
                        status = 0
                    except LogError:
                        status = 2
                    finally:
                        os._exit(status)
                children.append(child)
            before = len(read_log(path)[1]) if path.exists() else 0
            os.close(ready)
            os.close(go)
            statuses = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
            assert set(statuses) <= {0, 2}
            assert len(read_log(path)[1]) == before + statuses.count(0)
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]

    def test_a_killed_writer_is_followed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        no_locks(monkeypatch)
        with killed(path, EVENTS, checkpointed=3):
            assert path.with_name("study.h5.lock").exists()
        log, _, events = open_log(path, workload.HEADER)
        assert list(events) == EVENTS
        log.close()
        assert [p.name for p in path.parent.iterdir()] == ["study.h5"]

    def test_a_writer_of_another_container_is_not_looked_for_by_its_number(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_locks(monkeypatch)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("hyppo.log.claim._namespace", lambda: "pid:[7]")
            with killed(path, EVENTS):
                pass
        with pytest.raises(LogError, match=r"written by process \d+ .* last seen \d+ s ago.*steal=True.*or delete"):
            open_log(path, workload.HEADER)
        log, _, events = open_log(path, workload.HEADER, steal=True)
        assert list(events) == EVENTS
        log.close()

    def test_a_writer_that_was_taken_over_from_stops(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        no_locks(monkeypatch)
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

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE])
    def test_a_lock_that_fails(self, number: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        no_locks(monkeypatch, number)
        with pytest.raises(LogError, match=r"cannot be locked|locked by another process"):
            open_log(path, workload.HEADER)
        assert not path.exists()


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
