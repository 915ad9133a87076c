"""A study's life with the log, for the crash tests: events, an acknowledgement after each group, checkpoints, restarts.

As a script: `workload.py PATH GROUPS [MUTANT]`. Acknowledgements go to the file `ack` beside PATH, one write each. A
mutant is the log with one step of its protocol left out: the tests must find each of them.
"""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyppo.log import Header, open_log
from hyppo.space import Choice, Integer, Real, Space
from hyppo.training.replica import Failure
from hyppo.trial import Asked, Event, Note, ReplicaRecord, Settled, State

SPACE = Space(width=Integer(8, 64, log=True), lr=Real(1e-4, 1e-1, log=True), act=Choice(["relu", "gelu", None]))
HEADER = Header("5d1c6a0e-2f43-4c1e-8f0e-0c8e3f1b9a77", SPACE.to_json(), 7, {"replicas": 2}, 1.7e9)
CHECKPOINT_EVERY = 5  # groups


def groups(count: int) -> list[list[Event]]:
    """Groups of one to four events that fold: the same for the same arguments."""
    rng = random.Random(0)
    out: list[list[Event]] = []
    trial = 0
    for i in range(count):
        group: list[Event] = []
        for _ in range(rng.randint(1, 2)):
            seeds = tuple((r, rng.randrange(2**31)) for r in range(2))
            params = {"width": rng.randint(8, 64), "lr": 0.01, "act": rng.choice(["relu", "gelu", None])}
            group.append(Asked(trial, params, seeds, {"by": "test"}, 1.7e9 + i))
            records = tuple(_record(rng, index, seed) for index, seed in seeds)
            group.append(Settled(trial, records, rng.random() < 0.1, 1.7e9 + i + 0.5))
            trial += 1
        if rng.random() < 0.2:
            group.append(Note(f"note {i}: größer", 1.7e9 + i))
        out.append(group)
    return out


def _record(rng: random.Random, index: int, seed: int) -> ReplicaRecord:
    if rng.random() < 0.2:
        failure = Failure("ValueError", f"no {rng.randrange(5)}", "Traceback ...\n" * rng.randrange(40))
        return ReplicaRecord(index, seed, State.FAILED, None, 1.0, 2.0, failure, (), "node1")
    curve = tuple((step, rng.random()) for step in range(rng.randrange(40)))
    if rng.random() < 0.3:
        curve = tuple((10 * step + 1, loss) for step, loss in curve)
    return ReplicaRecord(index, seed, State.DONE, rng.random(), 1.0, 2.0, None, curve, "node2")


def mutate(mutant: str) -> None:
    """Leave one step of the protocol out, in this process."""
    from hyppo.log import disk, hdf5, rows
    from hyppo.log.file import FileLog

    publish = FileLog._publish

    def nothing(_: Any) -> None:
        pass

    def cut_first(self: FileLog, *, closed: bool) -> None:
        self._journal.cut()
        publish(self, closed=closed)

    def in_place(self: FileLog, *, closed: bool) -> None:
        added = rows.batch(self._extent, self._space, self._pending)
        os.chmod(self.path, 0o644)
        hdf5.append(self.path, self._extent, added, self._header, closed=closed)
        fd = os.open(self.path, os.O_RDWR)
        disk.sync(fd)
        os.close(fd)
        self._extent, self._pending = added.extent, []
        self._journal.cut()

    targets: dict[str, tuple[Any, str, Callable[..., None]]] = {
        "no-sync-of-copy": (disk, "sync", nothing),
        "no-sync-of-folder": (disk, "sync_directory", nothing),
        "no-sync-of-append": (disk, "sync_data", nothing),
        "cut-before-rename": (FileLog, "_publish", cut_first),
        "in-place": (FileLog, "_publish", in_place),
    }
    setattr(*targets[mutant])


def main(path: Path, count: int) -> None:
    ack = os.open(path.with_name("ack"), os.O_WRONLY | os.O_CREAT, 0o644)
    log, _, _ = open_log(path, HEADER)
    for i, group in enumerate(groups(count)):
        if i == count // 2:  # killed, and started again with events in the journal
            del log
            log, _, _ = open_log(path, HEADER)
        if i == count - count // 4:  # ended, and gone on with
            log.close()
            log, _, _ = open_log(path, HEADER)
        log.append(group)
        os.write(ack, b"+")
        if i % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
            log.checkpoint()
    log.close()


if __name__ == "__main__":
    for name in sys.argv[3:]:
        mutate(name)
    main(Path(sys.argv[1]), int(sys.argv[2]))
