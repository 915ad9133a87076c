"""Study files from elsewhere: damaged, planted with links, held by other programs, moved while a study runs."""

import gzip
import json
import os
import random
import signal
import stat
import struct
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py._hl import files

import hyppo
from hyppo.errors import LogError
from hyppo.log import Header, check_log, frame, open_log, read_log
from hyppo.log.journal import journal_of
from hyppo.log.repair import examine
from hyppo.trial import Note
from tests.crash import workload
from tests.logs import EVENTS, killed, write

DATA = Path(__file__).parent / "data"
CONFIG = {"replicas": [2, 2], "required": 1, "risk": 0.0, "surrogate": "random", "target": "mean_loss"}


def edited(path: Path, edit) -> None:
    write(path, EVENTS)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        edit(file)


# -- older files --------------------------------------------------------------------------------------------------


def test_a_file_and_a_journal_of_format_1(path):
    """Written before curves were arrays."""
    path.write_bytes(gzip.decompress((DATA / "format-1-killed.h5.gz").read_bytes()))
    journal_of(path).write_bytes(gzip.decompress((DATA / "format-1-killed.h5.journal.gz").read_bytes()))
    assert list(read_log(path)[1]) == EVENTS
    log, _, events = open_log(path, workload.HEADER)
    assert list(events) == EVENTS
    log.append([Note("on")])
    log.close()
    assert list(read_log(path)[1]) == [*EVENTS, Note("on")]


# -- other programs -----------------------------------------------------------------------------------------------


def test_a_file_that_this_process_holds_open_through_h5py(path):
    write(path, EVENTS[:4])
    with h5py.File(path) as handle:
        assert list(read_log(path)[1]) == EVENTS[:4]
        log, _, _ = open_log(path, workload.HEADER)
        log.append(EVENTS[4:])
        log.close()
        assert handle["events/kind"].shape == (4,)
    assert list(read_log(path)[1]) == EVENTS


def test_an_hdf5_without_locks(path, monkeypatch):
    monkeypatch.setattr(files, "hdf5_version", (1, 10, 5))
    write(path, EVENTS)
    assert list(read_log(path)[1]) == EVENTS


# -- files of strangers -------------------------------------------------------------------------------------------


def external_link(file):
    with h5py.File(file.filename + ".other", "w") as other:
        other["loss"] = [0.5] * len(file["replicas/loss"])
    del file["replicas/loss"]
    file["replicas/loss"] = h5py.ExternalLink(file.filename + ".other", "loss")


def soft_link(file):
    file.move("hosts", "mine")
    file["hosts"] = h5py.SoftLink("/mine")


def external_storage(file):
    rows = len(file["replicas/loss"])
    del file["replicas/loss"]
    file.create_dataset("replicas/loss", (rows,), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file):
    rows = len(file["replicas/loss"])
    layout = h5py.VirtualLayout((rows,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (rows,))
    del file["replicas/loss"]
    file.create_virtual_dataset("replicas/loss", layout)


def claims(file):
    rows = 1 << 40
    for name in ("kind", "trial", "time", "closed", "count"):
        file[f"events/{name}"].resize(rows, axis=0)
    file.attrs["seq"] = rows


def replaced(name, values):
    def edit(file):
        data = values(file)
        del file[name]
        file.create_dataset(name, data=data)

    return edit


def at(name, row, value):
    def edit(file):
        file[name][row] = value

    return edit


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (external_link, "is a link, which is not followed"),
        (soft_link, "is a link, which is not followed"),
        (external_storage, "stored in another file"),
        (virtual, "stored in another file"),
        (claims, "claims 1099511627776 rows"),
        (lambda f: f["replicas/loss"].resize(2, axis=0), "has the shape"),
        (lambda f: f["trials/params"].resize(2, axis=0), "has the shape"),
        (lambda f: f.__delitem__("asks"), "/asks/trial is missing"),
        (replaced("replicas/loss", lambda f: np.zeros(len(f["replicas/replica"]), "i4")), "of type int32"),
        (replaced("hosts", lambda f: np.zeros(len(f["hosts"]))), "of type float64"),
        (at("replicas/host", 0, -1), "/replicas/host is out of range"),
        (at("replicas/host", 0, 99), "/replicas/host is out of range"),
        (at("replicas/failure", 0, -2), "/replicas/failure is out of range"),
        (at("replicas/status", 0, 9), "/replicas/status is out of range"),
        (at("replicas/epochs", 0, 2**31 - 1), "epochs or /replicas/curve_at is out of range"),
        (at("replicas/curve_at", 0, -7), "epochs or /replicas/curve_at is out of range"),
        (at("replicas/trial", 0, 3), "/replicas/trial does not agree with /events"),
        (at("events/count", 1, 1), "/replicas/trial does not agree with /events"),
        (at("events/count", 1, -1), "/events/count is out of range"),
        (at("events/kind", 0, 9), "events of kind 9, which this hyppo does not know; use the version that wrote it"),
        (at("trials/params_json", 0, "1,2"), "no JSON value"),
        (at("trials/origin", 0, "{"), "is damaged"),
        (at("trials/origin", 0, "[" * 100_000), "is damaged"),
        (attribute("seq", "many"), "is damaged"),
        (attribute("format", np.zeros(3)), "is damaged"),
        (attribute("config_json", "{"), "is damaged"),
        (attribute("created", "yesterday"), "is damaged"),
    ],
)
def test_what_no_study_file_looks_like_is_one_message(edit, message, path):
    edited(path, edit)
    before = path.read_bytes()
    for call in (lambda: read_log(path), lambda: hyppo.load(path), lambda: open_log(path, workload.HEADER)):
        with pytest.raises(LogError) as caught:
            call()
        assert message in str(caught.value)
        assert str(path) in str(caught.value) or "the study file" in str(caught.value)
    assert path.read_bytes() == before
    assert not journal_of(path).exists()


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("events/time", 0, np.inf, "Asked.time: expected a finite number, got inf"),
        ("replicas/loss", 0, -np.inf, "ReplicaRecord.loss: expected a finite number"),
        ("replicas/status", 0, 0, "ReplicaRecord.state"),
        ("replicas/attempts", 0, -3, "ReplicaRecord.attempts"),
        ("asks/replica", 0, -3, "pairs of replica and seed"),
        ("trials/params_json", 0, "[1]", "Asked.params"),
    ],
)
def test_values_out_of_range_are_refused(name, row, value, message, path):
    write(path, EVENTS, Header.new(workload.SPACE, 7, CONFIG))
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        file[name][row] = value
    with pytest.raises(LogError) as caught:
        hyppo.load(path)
    assert message in str(caught.value)
    assert message in check_log(path)[0]


def test_random_damage_is_an_error_or_events_in_bounded_time(path):
    """Bytes of the structure flipped, blocks of it overwritten: one LogError, or a study; never a hang."""
    write(path, EVENTS, Header.new(workload.SPACE, 7, CONFIG))
    whole = path.read_bytes()
    rng = random.Random(1)
    for seed in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 20))):
            start = rng.randrange(28_000)
            damaged[start : start + rng.choice((1, 8, 64))] = rng.randbytes(1)
        path.chmod(0o644)
        path.write_bytes(damaged)
        child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    hyppo.load(path)
            except LogError:
                pass
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, seed


# -- journals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"notes of mine", bytes(5000), frame.MAGIC + bytes(100), np.random.default_rng(0).bytes(3000)],
    ids=["text", "zeros", "cut", "random"],
)
def test_a_journal_that_cannot_be_read_is_kept(content, path):
    write(path, EVENTS)
    journal_of(path).write_bytes(content)
    with pytest.raises(LogError, match="damaged at byte 0"):
        read_log(path)
    assert check_log(path)
    with pytest.warns(UserWarning, match="held nothing that can be read; it is kept as"):
        log, _, events = open_log(path, workload.HEADER)
    assert list(events[:-1]) == EVENTS
    log.close()
    (kept,) = path.parent.glob("*.damaged-*")
    assert kept.read_bytes() == content
    assert "held nothing" in read_log(path)[1][-1].text


def test_a_first_frame_that_was_cut_short_is_no_damage(path):
    write(path, EVENTS)
    with killed(path, []):
        first = journal_of(path).read_bytes()
    for cut in (0, 1, 10, len(first) - 1):
        journal_of(path).write_bytes(first[:cut])
        assert list(read_log(path)[1]) == EVENTS
        open_log(path, workload.HEADER)[0].close()
    assert [p.name for p in path.parent.iterdir()] == ["study.h5"]


def test_frames_that_are_whole_and_mean_nothing(path):
    payloads = [b"", b"{", b"[]", b'{"header": 3, "writer": {}}', b'{"header": "{}", "writer": {"host": 1}}', b"\xff"]
    events = [
        b"\x00" * 40,
        struct.pack("<IBqdBI", 2**31, 1, 0, 0.0, 0, 2**31),
        struct.pack("<IBqdBI", 0, 9, 0, 0, 0, 0),
    ]
    write(path, EVENTS)
    for payload in payloads:
        journal_of(path).write_bytes(frame.encode(frame.HEADER, 0, 0, payload))
        with pytest.raises(LogError, match="does not say whose"):
            read_log(path)
        with pytest.raises(LogError, match="does not say whose"):
            open_log(path, workload.HEADER)
        journal_of(path).unlink()
    with killed(path, []):
        head = journal_of(path).read_bytes()
    for payload in events:
        journal_of(path).write_bytes(head + frame.encode(frame.EVENTS, len(EVENTS) + 1, 1, payload))
        with pytest.raises(LogError, match=r"no event|of kind [09], which this hyppo does not know"):
            read_log(path)


def test_many_heads_that_claim_all_that_follows(path):
    write(path, EVENTS)
    head = frame.encode(frame.EVENTS, 1, 1, b"")
    count = 40_000
    heads = b"".join(head[:8] + struct.pack("<I", len(head) * (count - i - 1)) + head[12:] for i in range(count))
    journal_of(path).write_bytes(heads)
    start = time.monotonic()
    with pytest.raises(LogError):
        read_log(path)
    assert time.monotonic() - start < 20  # 2 s on a quiet machine; the square of it takes minutes


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "zero"])
def test_a_journal_that_is_no_file(kind, path):
    write(path, EVENTS)
    victim = path.with_name("victim")
    victim.write_text("mine")
    match kind:
        case "fifo":
            os.mkfifo(journal_of(path))
        case "link":
            journal_of(path).symlink_to(victim)
        case "zero":
            journal_of(path).symlink_to("/dev/zero")
        case "folder":
            journal_of(path).mkdir()
    for call in (lambda: read_log(path), lambda: open_log(path, workload.HEADER)):
        with pytest.raises(LogError, match=r"is no regular file|is a symbolic link|Is a directory"):
            call()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_a_study_file_that_is_no_file(kind, path):
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(LogError, match="no regular file"):
        read_log(path)
    with pytest.raises(LogError, match="no regular file"):
        open_log(path, workload.HEADER)


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(path):
    victim = path.with_name("victim")
    victim.write_text("mine")
    log, _, _ = open_log(path, workload.HEADER)
    log.append(EVENTS)
    path.with_name("study.h5.tmp").symlink_to(victim)
    log.close()
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert list(read_log(path)[1]) == EVENTS


# -- owners, permissions, copies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_permissions_of_a_study_are_those_of_its_journal(mode, path):
    write(path, EVENTS[:4])
    path.chmod(mode)
    with killed(path, EVENTS[4:], checkpointed=2):
        assert stat.S_IMODE(journal_of(path).stat().st_mode) == mode
        assert stat.S_IMODE(path.stat().st_mode) == mode & ~0o222
    open_log(path, workload.HEADER)[0].close()
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")
def test_the_owner_of_a_study_stays(path):
    write(path, EVENTS[:4])
    os.chown(path, 12345, 54321)
    log, _, _ = open_log(path, workload.HEADER)
    log.append(EVENTS[4:])
    assert (journal_of(path).stat().st_uid, journal_of(path).stat().st_gid) == (12345, 54321)
    log.close()
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_copy_without_its_journal_is_noticed(path):
    with killed(path, EVENTS, checkpointed=4):
        copy = path.with_name("copy.h5")
        copy.write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match="was not closed, and copy.h5.journal is not beside it"):
        assert list(read_log(copy)[1]) == EVENTS[:4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_log(path)
        open_log(path, workload.HEADER)[0].close()
        read_log(path)


def test_a_check_misses_the_journal_of_a_copy(path):
    with killed(path, EVENTS, checkpointed=4):
        copy = path.with_name("copy.h5")
        copy.write_bytes(path.read_bytes())
    found = examine(copy)
    assert list(found.events) == EVENTS[:4]
    assert (found.closed, found.alone) == (False, True)
    assert "copy.h5.journal is not beside it" in found.lost[0]
    open_log(path, workload.HEADER)[0].close()
    found = examine(path)
    assert (found.closed, found.alone, found.lost) == (True, False, ())


def test_a_copy_without_its_journal_is_read_however_slow_the_machine(path, monkeypatch):
    monkeypatch.setattr("hyppo.log.reader.PATIENCE", 0.0)  # as if each look took seconds
    with killed(path, EVENTS, checkpointed=4):
        copy = path.with_name("copy.h5")
        copy.write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match="was not closed"):
        assert list(read_log(copy)[1]) == EVENTS[:4]


def test_an_idle_study_is_carried_over_by_a_timer(path, monkeypatch):
    monkeypatch.setattr("hyppo.log.file.CHECKPOINT_SECONDS", 0.2)
    monkeypatch.setattr("hyppo.log.file.CHECKPOINT_SHARE", 0.0)
    log, _, _ = open_log(path, workload.HEADER)
    log.append(EVENTS)
    deadline = time.monotonic() + 20
    seen = 0
    while seen < len(EVENTS) and time.monotonic() < deadline:
        time.sleep(0.05)
        with h5py.File(path) as file:
            seen = int(file.attrs["seq"])
    assert seen == len(EVENTS)
    log.append([Note("on")])
    log.close()
    assert list(read_log(path)[1]) == [*EVENTS, Note("on")]


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
def test_a_folder_that_goes_away_while_a_study_is_open(what, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "study.h5"
    log, _, _ = open_log(path, workload.HEADER)
    log.append(EVENTS[:4])
    if what == "deleted":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    else:
        folder.rename(tmp_path / "elsewhere")
    if what == "replaced":
        folder.mkdir()
    expected = "was deleted or replaced" if what == "replaced" else "is gone"
    for _ in range(2):
        with pytest.raises(LogError, match=expected):
            log.append(EVENTS[4:])
    with pytest.warns(UserWarning, match=expected):
        log.close()
    if what == "moved":
        assert list(read_log(tmp_path / "elsewhere" / "study.h5")[1]) == EVENTS[:4]


def test_the_header_is_json_alone(path):
    write(path, EVENTS)
    with h5py.File(path) as file:
        assert json.loads(file.attrs["config_json"]) == workload.HEADER.config
