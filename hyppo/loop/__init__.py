"""The one loop: asks when a slot is free, submits, settles trainings that end.

A `Session` is the study as the loop sees it; workers and view are protocols.

    queue      replicas that are pending and not submitted; those from the log come first
    running    future -> (task, slot)
    busy       fraction of its time the loop would spend searching if it asked only when a slot becomes free

A point is asked only when a slot is free for it, so that every ask knows all losses so far: as many points in one
search as slots are free. If the loop would be busy, because trainings are short or slots are many, points are asked
ahead, several in a search, and slots do not wait. Such a point does not know the losses that arrive between its ask and
its training. Losses that wait together are settled in one append
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
