"""Processes that this one forks: pools, data loaders. They must not keep this process's handlers of signals."""

import os
import signal
import threading
from collections.abc import Callable, Collection


def at_fork(restore: Callable[[], None], signals: Collection[signal.Signals]) -> None:
    """Call `restore` in each process that is forked from now on, before a signal of `signals` reaches it.

    A pool may end its workers as soon as they start. A handler would be too late: Python calls it between two
    instructions, and a worker that has begun to wait for a lock executes none.
    """
    held = threading.local()

    def hold() -> None:
        held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

    def begin() -> None:
        restore()
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=begin)
