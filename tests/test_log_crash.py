"""The study file after a crash at any point: killed, power cut, disk full.

Random kills do not tell a safe protocol from an unsafe one; replaying every prefix of the recorded writes does.
"""

import errno
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest

from hyppo.errors import LogError
from hyppo.log import check_log, open_log, read_log
from hyppo.trial import Event, Note
from tests.crash import workload
from tests.crash.replay import Record, State, lay_out, records, walk

# A log that is dropped without a close stands for a killed process.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

HERE = Path(__file__).parent / "crash"
MUTANTS_OF_POWER = ("no-sync-of-copy", "no-sync-of-folder", "no-sync-of-append", "cut-before-rename", "in-place")
MUTANTS_OF_KILL = ("cut-before-rename", "in-place")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "recorder.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


@pytest.fixture(scope="module")
def record(recorder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Record]]:
    """Run the workload, whole or as a mutant, and return what it did to its folder."""
    known: dict[tuple[int, str], list[Record]] = {}

    def run(count: int, mutant: str = "") -> list[Record]:
        if (count, mutant) not in known:
            base = tmp_path_factory.mktemp("recorded")
            folder = base / "study"
            folder.mkdir()
            env = os.environ | {
                "LD_PRELOAD": str(recorder),
                "RECORD_DIR": str(folder),
                "RECORD_LOG": str(base / "log"),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, "-m", "tests.crash.workload", str(folder / "study.h5"), str(count)]
            if mutant:
                command.append(mutant)
            done = subprocess.run(
                command, env=env, cwd=HERE.parent.parent, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            known[count, mutant] = records((base / "log").read_bytes())
        return known[count, mutant]

    return run


class Judge:
    """Says what is wrong with a state; remembers, since most writes go to a temporary that no reader looks at."""

    def __init__(self, place: Path, count: int) -> None:
        self.place = place
        self.groups = workload.groups(count)
        self.events: list[Event] = [e for group in self.groups for e in group]
        self.read: dict[tuple[bytes | None, bytes | None], int | str] = {}
        self.resumed: set[tuple[bytes | None, bytes | None]] = set()
        self.patience = 0  # seconds after which a state that is still being read ends this process

    def visible(self, state: State) -> tuple[bytes | None, bytes | None]:
        return state.get("study.h5"), state.get("study.h5.journal")

    def problem(self, state: State, acknowledged: int) -> str:
        """Empty where all that was acknowledged is read, in order, and nothing that was not logged."""
        key = self.visible(state)
        if key not in self.read:
            self.read[key] = self._read(state)
        found = self.read[key]
        needed = sum(len(group) for group in self.groups[:acknowledged])
        if isinstance(found, str):
            # Before the first acknowledgement there may be no study yet.
            return found if acknowledged or key[0] else ""
        return "" if found >= needed else f"{needed} events acknowledged, {found} read"

    def _read(self, state: State) -> int | str:
        lay_out(state, self.place)
        path = self.place / "study.h5"
        signal.alarm(self.patience)
        try:
            _, events = read_log(path)
            with h5py.File(path) as file:
                file["replicas/loss"][:]
        except (LogError, OSError, KeyError) as error:
            return f"cannot be read: {error}"
        if list(events) != self.events[: len(events)]:
            return "events read that were not logged"
        return len(events)

    def problem_going_on(self, state: State, acknowledged: int, every: int) -> str:
        """Go on from each `every`-th different state."""
        key = self.visible(state)
        if not every or key in self.resumed:
            return ""
        self.resumed.add(key)
        return "" if len(self.resumed) % every else self._go_on(state, acknowledged)

    def _go_on(self, state: State, acknowledged: int) -> str:
        """Go on from a state twice, and finish the study."""
        lay_out(state, self.place)
        path = self.place / "study.h5"
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                log, _, events = open_log(path, workload.HEADER)
            if list(events) != self.events[: len(events)]:
                return "going on changes the events"
            if len(events) < sum(len(group) for group in self.groups[:acknowledged]):
                return "going on loses events"
            log.append(self.events[len(events) : len(events) + 3])
            del log  # no close: as killed
        log, _, events = open_log(path, workload.HEADER)
        log.append(self.events[len(events) :])
        log.close()
        if sorted(p.name for p in self.place.iterdir()) != ["study.h5"]:
            return f"left behind: {sorted(p.name for p in self.place.iterdir())}"
        return "" if list(read_log(path)[1]) == self.events else "the finished study is not what was logged"


@pytest.fixture
def fast_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes while these tests look, so looking again is of no use."""
    from hyppo.log import reader

    monkeypatch.setattr(reader, "TRIES", 1)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of states are laid out."""
    base = Path("/dev/shm")
    place = (base if os.access(base, os.W_OK) else Path("/tmp")) / f"hyppo-crash-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def every_kill(history: list[Record], judge: Judge, resume_every: int) -> Iterator[str]:
    """Judge the state before each record and in the middle of it; go on from each `resume_every`-th different one."""
    for i, folder, next_record in walk(history):
        states = [folder.killed()]
        half = folder.half(next_record) if next_record else None
        if half is not None:
            states.append(half)
        for state in states:
            problem = judge.problem(state, folder.acknowledged)
            problem = problem or judge.problem_going_on(state, folder.acknowledged, resume_every)
            if problem:
                yield f"at record {i}: {problem}"


def every_power_cut(history: list[Record], judge: Judge, seeds: int, resume_every: int) -> Iterator[str]:
    """Judge some outcomes of a power cut before each record."""
    for i, folder, _ in walk(history):
        for seed in range(seeds):
            state = folder.after_power_cut(random.Random(1000 * i + seed))
            problem = judge.problem(state, folder.acknowledged)
            problem = problem or judge.problem_going_on(state, folder.acknowledged, resume_every)
            if problem:
                yield f"at record {i}, seed {seed}: {problem}"


def finds(problems: Iterator[str], judge: Judge) -> bool:
    """Whether there is any problem: in a child, since HDF5 may read a torn file for ever, which is one."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            judge.patience = 3
            status = 3 if any(problems) else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 3, "the judge itself failed"
    return status != 0


@pytest.mark.usefixtures("fast_reader")
class TestEveryPoint:
    def test_kill(self, record: Callable[..., list[Record]], memory: Path) -> None:
        history = record(15)
        assert sum(r.kind == "R" for r in history) >= 4
        judge = Judge(memory, 15)
        assert list(every_kill(history, judge, resume_every=3)) == []
        assert len(judge.read) > 40

    @pytest.mark.slow
    def test_kill_in_a_long_run(self, record: Callable[..., list[Record]], memory: Path) -> None:
        assert list(every_kill(record(45), Judge(memory, 45), resume_every=1)) == []

    def test_power_cut(self, record: Callable[..., list[Record]], memory: Path) -> None:
        assert list(every_power_cut(record(15), Judge(memory, 15), seeds=3, resume_every=5)) == []

    @pytest.mark.slow
    def test_power_cut_in_a_long_run(self, record: Callable[..., list[Record]], memory: Path) -> None:
        assert list(every_power_cut(record(45), Judge(memory, 45), seeds=4, resume_every=3)) == []

    @pytest.mark.parametrize("mutant", MUTANTS_OF_KILL)
    def test_kill_finds(self, mutant: str, record: Callable[..., list[Record]], memory: Path) -> None:
        judge = Judge(memory, 15)
        assert finds(every_kill(record(15, mutant), judge, resume_every=0), judge)

    @pytest.mark.parametrize("mutant", MUTANTS_OF_POWER)
    def test_power_cut_finds(self, mutant: str, record: Callable[..., list[Record]], memory: Path) -> None:
        judge = Judge(memory, 15)
        assert finds(every_power_cut(record(15, mutant), judge, seeds=3, resume_every=0), judge)


# -- kill -9 ------------------------------------------------------------------------------------------------------

Shared = mmap.mmap


def in_child(work: Callable[[], None]) -> int:
    """Process id of a child that does `work` and exits 0, or 1 with the traceback on stderr."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return child


def write_until_killed(path: Path, events: list[Event], count: Shared) -> None:
    log, _, there = open_log(path, workload.HEADER)
    count[:8] = struct.pack("<Q", len(there))
    for i in range(len(there), len(events)):
        log.append(events[i : i + 1])
        count[:8] = struct.pack("<Q", i + 1)
        if i % 10 == 9:
            log.checkpoint()
    log.close()


def read_until_killed(path: Path, events: list[Event], count: Shared) -> None:
    last = 0
    while True:
        (acknowledged,) = struct.unpack("<Q", count[:8])
        if acknowledged:
            found = list(read_log(path)[1])
            assert found == events[: len(found)]
            assert len(found) >= max(acknowledged, last), (len(found), acknowledged, last)
            last = len(found)
            count[8:] = struct.pack("<Q", struct.unpack("<Q", count[8:])[0] + 1)


def kill_chain(path: Path, kills: int) -> tuple[int, int]:
    """Kill the writer of one study again and again while another process reads; events written, reads done."""
    events = [e for group in workload.groups(1000) for e in group]
    rng = random.Random(1)
    count = mmap.mmap(-1, 16)
    reader = in_child(lambda: read_until_killed(path, events, count))
    try:
        for i in range(kills):
            before = bytes(count[:8])
            writer = in_child(lambda: write_until_killed(path, events, count))
            if i % 2:  # while it opens the file, or while it writes
                deadline = time.monotonic() + 10
                while count[:8] == before and time.monotonic() < deadline:
                    time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(writer, signal.SIGKILL)
            _, status = os.waitpid(writer, 0)
            assert os.WIFSIGNALED(status), "the writer failed"
            (acknowledged,) = struct.unpack("<Q", count[:8])
            if acknowledged:
                assert len(read_log(path)[1]) >= acknowledged
        assert os.waitpid(reader, os.WNOHANG) == (0, 0), "the reader failed"
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    assert check_log(path) == []
    return struct.unpack("<QQ", count[:])


def test_kill_chain_with_a_parallel_reader(tmp_path: Path) -> None:
    written, reads = kill_chain(tmp_path / "study.h5", 10)
    assert written >= 5
    assert reads >= 5


@pytest.mark.slow
def test_long_kill_chain(tmp_path: Path) -> None:
    written, _ = kill_chain(tmp_path / "study.h5", 40)
    assert written >= 20


# -- full disk ----------------------------------------------------------------------------------------------------


def fill(path: Path, grow: Callable[[], None]) -> None:
    """Log until the disk is full, make room, go on: nothing that was acknowledged is lost."""
    events: list[Event] = [e for group in workload.groups(60) for e in group]
    events += [Note(f"{i} " * 2000) for i in range(1000)]
    log, _, _ = open_log(path, workload.HEADER, durability="process")
    acknowledged = 0
    refusal = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while not refusal:
            try:
                log.append(events[acknowledged : acknowledged + 10])
            except LogError as error:
                refusal = str(error)
            else:
                acknowledged += 10
                if acknowledged % 100 == 0:
                    log.checkpoint()
        assert acknowledged < len(events)
        assert "free some space" in refusal
        assert list(read_log(path)[1]) == events[:acknowledged]
        with pytest.raises(LogError, match="free some space"):
            log.append(events[acknowledged:])  # refused as a whole
        log.close()
    assert any("safe in study.h5.journal" in str(w.message) for w in caught)
    with h5py.File(path) as file:
        assert 0 < file.attrs["seq"] < acknowledged
    assert list(read_log(path)[1]) == events[:acknowledged]
    grow()
    log, _, there = open_log(path, workload.HEADER)
    assert list(there) == events[:acknowledged]
    log.append(events[acknowledged:])
    log.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["study.h5"]
    assert list(read_log(path)[1]) == events


def test_file_size_limit(tmp_path: Path) -> None:
    def work() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
        fill(tmp_path / "study.h5", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))

    _, status = os.waitpid(in_child(work), 0)
    assert status == 0


def test_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, timeout=10, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system needs root")

    def grow() -> None:
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True, timeout=10)

    try:
        fill(disk / "study.h5", grow)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=10)


def test_an_append_that_fails_halfway_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyppo.log import disk

    path = tmp_path / "study.h5"
    log, _, _ = open_log(path, workload.HEADER)
    log.append([Note("first")])
    size = path.with_name("study.h5.journal").stat().st_size

    def half(fd: int, data: bytes, offset: int) -> None:
        os.pwrite(fd, data[: len(data) // 2], offset)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", half)
        with pytest.raises(LogError, match="everything logged before is safe"):
            log.append([Note("second")])
    assert path.with_name("study.h5.journal").stat().st_size == size
    log.append([Note("third")])
    log.close()
    assert [e.text for e in read_log(path)[1] if isinstance(e, Note)] == ["first", "third"]


def test_a_sync_that_fails_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyppo.log import disk

    path = tmp_path / "study.h5"
    log, _, _ = open_log(path, workload.HEADER)
    log.append([Note("first")])

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", fails)
        with pytest.raises(LogError, match="sync failed"):
            log.append([Note("second")])
    with pytest.raises(LogError, match="sync failed"):
        log.append([Note("second")])
    log.close()
    assert list(read_log(path)[1]) == [Note("first")]
