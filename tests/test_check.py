"""`hyppo check`: what it reports of sound and damaged studies, and the new file that --repair writes."""

import subprocess
import sys

import h5py
import pytest

import hyppo
from hyppo.log import Header, check_log, codec, frame, read_log
from hyppo.log.journal import journal_of
from hyppo.trial import Note
from tests.crash import workload
from tests.logs import EVENTS, killed, write

CONFIG = {"replicas": [2, 2], "required": 1, "risk": 0.0, "surrogate": "random", "target": "mean_loss"}
HEADER = Header(workload.HEADER.uuid, workload.HEADER.space, 7, CONFIG, 1.7e9)


def check(*arguments, code=0):
    run = subprocess.run(
        [sys.executable, "-m", "hyppo", "check", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == code, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return " ".join(run.stdout.split())


def test_a_sound_study(path):
    write(path, EVENTS, HEADER)
    before = path.read_bytes()
    text = check(path)
    assert workload.HEADER.uuid in text
    trials = {event.number for event in EVENTS if not isinstance(event, Note)}
    assert f"events {len(EVENTS)} that can be read: {len(trials)} trials, {2 * len(trials)} replicas that ended" in text
    assert "journal none: the study was closed" in text
    assert "sound: all of it can be read" in text
    assert [p.name for p in path.parent.iterdir()] == ["study.h5"]
    assert f"study.repaired.h5: {len(EVENTS)} events; nothing is lost" in check(path, "--repair")
    assert path.read_bytes() == before


def test_a_study_in_use(path):
    with killed(path, EVENTS, checkpointed=4):
        text = check(path)
    assert "file 4 events" in text
    assert f"events {len(EVENTS)} that can be read" in text
    assert "study.h5.journal: 2 whole frames, written by process" in text
    assert "sound" in text


def repaired(path, expected):
    """The new file, which holds `expected`; the old one stays as it is."""
    before = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    text = check(path, "--repair", code=1)
    target = path.with_name("study.repaired.h5")
    assert f"{target}: " in text
    assert {p: p.read_bytes() for p in before} == before
    assert list(read_log(target)[1]) == expected
    assert check_log(target) == []
    return text


def test_events_that_do_not_follow_are_left_out(path):
    write(path, [*EVENTS[:2], EVENTS[1], *EVENTS[2:]], HEADER)
    text = repaired(path, EVENTS)
    assert "lost: event 3: trial 0 replica 0 is settled already" in text
    assert len(hyppo.load(path.with_name("study.repaired.h5")).trials) > 5
    check(path, "--repair", code=1)
    assert path.with_name("study.repaired-1.h5").exists()


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [("replicas/status", 2, 200), ("replicas/host", 2, 77), ("replicas/curve_at", 2, -9), ("replicas/trial", 2, 9)],
)
def test_one_damaged_replica_costs_its_event_alone(name, row, value, path):
    """Replica 2 is in the event that settles trial 1, the fourth."""
    write(path, EVENTS, HEADER)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        file[name][row] = value
    text = repaired(path, [*EVENTS[:3], *EVENTS[4:]])
    assert "lost: event 4: " in text


def test_a_table_that_is_gone(path):
    write(path, EVENTS, HEADER)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        del file["failures/message"]
    text = check(path, "--repair", code=1)
    assert "/failures/message is missing" in text
    kept = list(read_log(path.with_name("study.repaired.h5"))[1])
    assert len(kept) == len(EVENTS)
    assert "Failure(type='ValueError', message='lost, row 0', traceback='Traceback" in repr(kept)


def test_a_damaged_journal(path):
    write(path, EVENTS[:2], HEADER)
    with killed(path, []):
        head = journal_of(path).read_bytes()
    frames = [frame.encode(frame.EVENTS, 3 + i, 1, codec.encode([event])) for i, event in enumerate(EVENTS[2:8])]
    broken = bytearray(frames[3])
    broken[-1] ^= 0xFF
    journal_of(path).write_bytes(head + b"".join([*frames[:3], bytes(broken), *frames[4:]]))
    text = check(path, code=1)
    assert "lost: events 6 to 6: neither in the file nor in the journal" in text


def test_what_is_no_study_is_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("mine")
    for name in ("none.h5", "text.h5"):
        run = subprocess.run(
            [sys.executable, "-m", "hyppo", "check", str(tmp_path / name)], capture_output=True, text=True
        )
        assert run.returncode == 2
        assert run.stderr.startswith("hyppo: ")
        assert len(run.stderr.splitlines()) == 1


def test_a_lost_study_file_with_its_journal(path):
    with killed(path, EVENTS):
        path.unlink()
    assert "lost: the study file" in repaired(path, EVENTS)
