"""A study file to test with: its events, and a writer that was killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyppo.log import Header, open_log
from hyppo.space import Choice, Integer, Ordinal, Real, Space
from hyppo.trial import Event
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
