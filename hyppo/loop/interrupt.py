"""Signals that ask a run to stop: Ctrl-C, and the warning of a batch system before the time limit."""

import signal
import threading
from types import FrameType
from typing import Any

from hyppo.forks import at_fork

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Interrupt:
    """While entered, SIGINT, SIGTERM, SIGUSR1 and SIGHUP ask for a stop instead of ending this process.

    A SIGHUP that is ignored, as under nohup, stays ignored. A process that is forked meanwhile (by a pool, a data
    loader) inherits the handlers, except that of SIGTERM: a pool ends its workers so and waits for them. A terminal and
    Slurm send the other signals to all processes, and a training that lost its workers could not save its state.

    `asked` holds the signal. A Ctrl-C after the first signal raises `KeyboardInterrupt` at once.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {
                number: signal.signal(number, self._note)
                for number in SIGNALS
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
            }
            _entered.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._before:
            self.restore(number)
        if self._before:
            _entered.remove(self)

    def restore(self, number: int) -> None:
        handler = self._before[number]
        # None: it was not set from Python, and only the default can be set again.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number)


_entered: list[Interrupt] = []  # the outermost first


def _end_by_sigterm() -> None:
    if _entered:
        _entered[0].restore(signal.SIGTERM)


at_fork(_end_by_sigterm, {signal.SIGTERM})
