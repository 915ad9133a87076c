"""The history of a study: its events, folded into trials, and logged before they count.

Reading takes no lock; the first event to be recorded opens the log, whose one writer this process then is.
"""

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hyppo.errors import LogError, StudyError
from hyppo.log import Header, MemoryLog, StudyLog, open_log, read_log
from hyppo.log.checked import check
from hyppo.log.journal import journal_of
from hyppo.trial import Began, Draft, Event, Planned, Trial, apply


class History:
    """The events of one study, in their order.

    Parameters
    ----------
    path : pathlib.Path or None
        The study file; without one the history lives in memory.
    header : callable
        header() describes the study. A new file starts with it, and the header of an existing file must agree.
    extend : bool
        Whether ranges and values of the parameters may differ from those in the file, and then replace them.

    Attributes
    ----------
    trials : list of Trial
    sessions : list of Began
        Each session that opened the file to write.
    runs : list of Began
        The session of each run.

    Examples
    --------
    >>> from hyppo.space import Real, Space
    >>> from hyppo.trial import Asked
    >>> history = History(None, lambda: Header.new(Space(x=Real(0, 1)), seed=0))
    >>> history.record(Asked(0, {"x": 0.5}, ((0, 17),)))
    >>> history.trials[0].seeds
    (17,)
    """

    def __init__(self, path: Path | None, header: Callable[[], Header], extend: bool = False) -> None:
        self.trials: list[Trial] = []
        self.sessions: list[Began] = []
        self.runs: list[Began] = []
        self._path = path
        self._header = header
        self._extend = extend
        self._position = 0  # events so far
        self._read = False
        self._writer: StudyLog | None = None
        self._closing: weakref.finalize[Any, Any] | None = None

    def read(self) -> bool:
        """Read the log, without locking it, unless it was read before; return whether the trials have changed.

        Raises
        ------
        LogError
            It cannot be read, or is another study's.
        """
        if self._read or self._writer is not None or self._path is None or not self._path.exists():
            return False
        header, events = read_log(self._path)
        header.refuse(self._header(), self._path, extend=self._extend)
        self.replay(events)
        return True

    def open(self) -> bool:
        """Open the log for writing and add its new events to the trials; return whether the trials have changed.

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
        steal = os.environ.get("HYPPO_STEAL", "").lower() not in ("", "0", "false", "no")
        self._writer, _, events = open_log(self._path, self._header(), steal=steal, extend=self._extend)
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

    def merge(self) -> None:
        """Move events from the journal of a killed run to the study file; does nothing if the study is in use."""
        if self._writer is not None or self._path is None or not journal_of(self._path).exists():
            return
        try:
            self.open()
        except LogError:
            return  # another process writes it, or this process may not
        self.close()

    def replay(self, events: Sequence[Event]) -> None:
        """Start again with the trials that `events` make; an event that does not follow is skipped with a notice.

        Raises
        ------
        LogError
            An event holds a value that no study can hold.
        """
        trials: list[Trial] = []
        skipped = []
        for position, event in enumerate(events):
            try:
                check(event)
            except StudyError as error:
                raise LogError(
                    f"{self._path} is damaged: event {position + 1}: {error}; `hyppo check` says what can be read"
                ) from None
            try:
                apply(trials, event, position)
            except StudyError as error:
                skipped.append(f"event {position + 1}: {error}")
        self.trials, self._position, self._read = trials, len(events), True
        self.sessions, self.runs = [], []
        self._add_sessions(events)
        if skipped:
            more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
            warnings.warn(
                f"{self._path}: skipped events that contradict earlier ones ({skipped[0]}{more}); "
                "`hyppo check` lists all",
                stacklevel=2,
            )

    def follow(self, events: Sequence[Event]) -> None:
        """Apply the new events of the same log, read again. The cost depends on the new events only.

        Raises
        ------
        LogError
            An event holds a value that no study can hold.
        """
        try:
            for event in events[self._position :]:
                check(event)
                apply(self.trials, event, self._position)
                self._position += 1
        except StudyError:
            self.replay(events)  # names the wrong event, or skips events that contradict earlier ones

    def record(self, *events: Event) -> None:
        """Check events, log them, then apply them: a refused event did not happen, nor did those recorded with it.

        Raises
        ------
        StudyError
            An event has a value that is not allowed, or contradicts earlier events.
        LogError
            The log cannot be opened or written.
        """
        for event in events:
            check(event)
        self.open()
        assert self._writer is not None
        draft, following = Draft(self.trials), self._position + len(events)
        for position, event in enumerate(events, start=self._position):
            apply(draft, event, position)
        logged = False
        try:
            self._writer.append(events)
            self._add_sessions(events)
            logged = True
            draft.commit()
            self._position = following
        except KeyboardInterrupt:
            if not isinstance(self._writer, MemoryLog):
                self.close()  # it may have come between log and trials: the next use reads the log again
            elif logged:
                draft.commit()
                self._position = following
            raise

    def _add_sessions(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Began):
                self.sessions.append(event)
            elif isinstance(event, Planned) and self.sessions:
                self.runs.append(self.sessions[-1])

    def close(self) -> None:
        """Close the log; the next event opens it again."""
        writer, self._writer = self._writer, None
        if self._closing is not None:
            self._closing.detach()
            self._closing = None
        if writer is not None:
            writer.close()
