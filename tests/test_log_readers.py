"""The study file, read by other programs and while it grows."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from hyppo.errors import LogError
from hyppo.log import open_log, open_reader, read_log
from hyppo.log.journal import journal_of
from hyppo.space import Space
from hyppo.training.replica import Failure
from hyppo.trial import Asked, Note, ReplicaRecord, Settled, State
from tests.crash import workload
from tests.logs import EVENTS, HEADER, SPACE, killed, write


def other_file(path: Path, events: int, kinds: int) -> bytes:
    """The bytes of another study, with so many events of several kinds."""
    path.unlink(missing_ok=True)
    more = [Note("x")]
    for k in range(events):
        more += [Asked(k, {"width": 7, "lr": 0.01, "act": None, "batch": 32, "größe": "m"}, ((0, 1), (1, 2)), {}, 1.0)]
        failure = Failure(f"E{k}", "", "")
        more += [Settled(k, (ReplicaRecord(0, 1, State.FAILED, None, failure=failure, host=f"h{k % kinds}"),))]
        more += [Note("y")] * (k % kinds)
    write(path, more, replace(HEADER, uuid=f"{events}-{kinds}"))
    return path.read_bytes()


def test_a_file_that_another_replaces_is_read_from_its_start(path: Path) -> None:
    """As `hyppo watch` sees it if a script deletes its study and begins again."""
    files = [other_file(path, events, kinds) for events in (1, 4, 9) for kinds in (1, 3)]
    new = path.with_name("new.h5")
    for first in files:
        for second in files:
            path.write_bytes(first)
            reader = open_reader(path)
            reader.read()
            new.write_bytes(second)
            new.replace(path)
            assert reader.read() == read_log(path)
    path.write_bytes(first)
    reader = open_reader(path)
    reader.read()
    new.write_bytes(second[: len(second) // 2])
    new.replace(path)
    with pytest.raises(LogError, match=r"study\.h5"):
        reader.read()


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
