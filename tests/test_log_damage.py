"""The study file, damaged."""

import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from hyppo.errors import LogError
from hyppo.log import check_log, codec, frame, open_log, read_log
from hyppo.log.journal import journal_of
from hyppo.trial import Asked, Note, ReplicaRecord, Settled, State
from tests.crash import workload
from tests.logs import EVENTS, killed, write


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
