"""The history of a study: its events, folded into trials, and logged before they count.

Reading takes no lock; the first event to be recorded opens the log, whose one writer this process then is.
"""

import atexit
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hyppo.log import Header, MemoryLog, StudyLog, open_log, read_log
from hyppo.trial import Event, Trial, apply


class History:
    """The events of one study, in their order.

    Parameters
    ----------
    path : pathlib.Path or None
        The study file; without one the history lives in memory.
    header : callable
        header() describes the study: what a new file begins with, and an existing one must agree with.

    Examples
    --------
    >>> from hyppo.space import Real, Space
    >>> from hyppo.trial import Asked
    >>> history = History(None, lambda: Header.new(Space(x=Real(0, 1)), seed=0))
    >>> history.record(Asked(0, {"x": 0.5}, ((0, 17),)))
    >>> history.trials[0].seeds
    (17,)
    """

    def __init__(self, path: Path | None, header: Callable[[], Header]) -> None:
        self.trials: list[Trial] = []
        self._path = path
        self._header = header
        self._position = 0  # events so far
        self._read = False
        self._writer: StudyLog | None = None
        self._closing: weakref.finalize[Any, Any] | None = None

    def read(self) -> bool:
        """Read the log, without locking it, where it was not read yet; whether the trials are others now.

        Raises
        ------
        LogError
            It cannot be read, or is another study's.
        """
        if self._read or self._writer is not None or self._path is None or not self._path.exists():
            return False
        header, events = read_log(self._path)
        header.refuse(self._header(), self._path)
        self.replay(events)
        return True

    def open(self) -> bool:
        """Open the log for writing, and bring the trials up to what it holds; whether they are others now.

        Raises
        ------
        LogError
            It cannot be opened or written, or is another study's.
        """
        if self._writer is not None:
            return False
        if self._path is None:
            self._writer = MemoryLog()
            return False
        # `hyppo run --steal` says that the writer before is gone where a shared file system cannot
        steal = bool(os.environ.get("HYPPO_STEAL"))
        self._writer, _, events = open_log(self._path, self._header(), steal=steal)
        try:
            self.replay(events)
            self._closing = weakref.finalize(self, self._writer.close)
            # at exit, too: weakref's own exit hook is as old as the first finalizer of the process, often torch's,
            # and would close the log after h5py has shut down
            atexit.register(self._closing)
        except BaseException:
            self.close()
            raise
        return True

    def replay(self, events: Sequence[Event]) -> None:
        """Begin anew with the trials that `events` make."""
        trials: list[Trial] = []
        for position, event in enumerate(events):
            apply(trials, event, position)
        self.trials, self._position, self._read = trials, len(events), True

    def record(self, *events: Event) -> None:
        """Log events, then apply them: what the log refuses did not happen."""
        self.open()
        assert self._writer is not None
        try:
            self._writer.append(events)
            for event in events:
                apply(self.trials, event, self._position)
                self._position += 1
        except KeyboardInterrupt:
            self.close()  # it may have come between log and trials: the next use reads the log again
            raise

    def close(self) -> None:
        """Close the log; the next event opens it again."""
        writer, self._writer = self._writer, None
        if self._closing is not None:
            self._closing.detach()
            self._closing = None
        if writer is not None:
            writer.close()
