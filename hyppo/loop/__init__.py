"""The one loop: asks when a slot is free, submits, settles what ends.

A `Session` is the study as the loop sees it; workers and view are protocols.

    queue      replicas that are pending and not submitted; those that the log had come first
    running    future -> (task, slot)
    busy       share of its time that the loop would search, were each point searched when its slot is free

A point is asked only when a slot is free for it, so that every ask knows all losses there are: as many points in one
search as slots are free. Only where the loop would be busy, since trainings are short or slots are many, points are
asked ahead, several in a search, and slots do not wait for it. Each is then older than its training by as many losses
as there are points ahead of it, and those that come in meanwhile. Losses that wait together are settled in one append
to the log.
"""

from hyppo.loop.interrupt import Interrupt
from hyppo.loop.loop import Loop
from hyppo.loop.options import OVERRIDES, Options
from hyppo.loop.protocols import (
    PROCESS_FAILURES,
    Evaluator,
    Progressed,
    Running,
    Status,
    Stopped,
    View,
    Workers,
)
from hyppo.loop.session import Session

__all__ = [
    "OVERRIDES",
    "PROCESS_FAILURES",
    "Evaluator",
    "Interrupt",
    "Loop",
    "Options",
    "Progressed",
    "Running",
    "Session",
    "Status",
    "Stopped",
    "View",
    "Workers",
]
