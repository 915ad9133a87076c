"""`hyppo watch`: how a study goes, from its file alone, in a terminal that is redrawn or in lines."""

import math
import os
import socket
import time
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hyppo.cli.console import StudyFile, console
from hyppo.config import ENSEMBLE_LOSS, MEAN_LOSS, named, word_of
from hyppo.errors import LogError, StudyError
from hyppo.log import open_reader
from hyppo.results import LOSS, Best, goal_of, observed
from hyppo.study import Study, study_of
from hyppo.text import between, counted, duration, number, printable, shown
from hyppo.trial import Asked, Event, Note, Planned, ReplicaRecord, State, Trial, records_of

BARS = "▁▂▃▄▅▆▇█"
RECENT = 30  # trainings that the rate is taken from
FAILURES = 3  # shown
BEST_SHARE = 0.2  # of the time, at most, that goes into the recommendation
LONGEST = 64  # bars of a sparkline


def watch(
    study_file: StudyFile,
    interval: Annotated[float, typer.Option(help="Seconds between two reads of the file.", min=0.1)] = 2.0,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Show the time left until this many trials are done; by default those of the last run.",
            min=1,
            show_default=False,
        ),
    ] = None,
    trainings: Annotated[int | None, typer.Option(help="The same with trainings.", min=1, show_default=False)] = None,
) -> None:
    """Watch a study while it runs: progress, rate, running trainings, recommendation, failures; Ctrl-C ends it.

    This reads only the study file, so it works on any machine that shares the disk. Without a terminal it prints a line
    at each change and ends with the run, also if the run is killed.

    Example: hyppo watch study.h5
    """
    screen = console()
    view = Watched(study_file, trials, trainings)
    view.look()
    if view.trouble and os.path.lexists(study_file):  # it waits for a file that does not exist yet, for no other
        raise LogError(view.trouble)
    try:
        if screen.is_terminal:
            _redraw(screen, view, interval)
        else:
            _lines(screen, view, interval)
    except KeyboardInterrupt:
        pass  # the way to end it
    if screen.is_terminal:
        screen.print(Text(view.line()), soft_wrap=True)


def _redraw(screen: Console, view: "Watched", interval: float) -> None:
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            view.look()
            live.update(_Whole(view), refresh=True)
            time.sleep(interval)


def _lines(screen: Console, view: "Watched", interval: float) -> None:
    said = ""
    while True:
        view.look()
        line = view.line()
        if line != said:
            screen.print(Text(line), soft_wrap=True)
            said = line
        if view.ended:
            return
        time.sleep(interval)


class _Whole:
    """The view, in the current size of the terminal."""

    def __init__(self, view: "Watched") -> None:
        self._view = view

    def __rich_console__(self, screen: Console, options: Any) -> Any:
        width, height = options.size
        lines = self._view.lines(width, height)
        for i, line in enumerate(lines[:height]):
            line.truncate(width, overflow="ellipsis")
            yield Text.assemble(line, "" if i == min(len(lines), height) - 1 else "\n", end="")


class Watched:
    """A study file that is read repeatedly."""

    def __init__(self, path: Path, trials: int | None = None, trainings: int | None = None) -> None:
        self.path = path
        self._given = {"trials": trials, "trainings": trainings}
        self._budget: Planned | None = None
        self._reader = open_reader(path)
        self._identity = ("", "")
        self._study: Study | None = None
        self._events = 0
        self._asked: dict[tuple[int, int], float] = {}  # when each replica was asked
        self._plan = ""
        self._best: Best | None = None
        self._why_not = ""
        self._best_of = -1
        self._best_until = 0.0  # earliest time of the next recommendation
        self.trouble = ""

    @property
    def ended(self) -> bool:
        """Whether no process had the study open when it was read last, so that all of its run is shown."""
        closed = not self._reader.written or bool(self._reader.left_by)
        return self._study is not None and not self.trouble and closed

    def look(self) -> None:
        """Read the new events of the file."""
        try:
            header, events = self._reader.read()
            identity = header.uuid, header.space
            if self._study is None or identity != self._identity or len(events) < self._events:
                self._study, self._identity, self._events = study_of(self.path, header, events), identity, 0
                self._asked, self._best, self._best_of, self._budget = {}, None, -1, None
            else:
                self._study._history.follow(events)
        except LogError as error:
            self.trouble = printable(error)
            self._reader = open_reader(self.path)  # another study may have taken the place of this one
            return
        self.trouble = ""
        for event in events[self._events :]:
            self._take(event)
        self._events = len(events)
        self._work_out_best()

    def _take(self, event: Event) -> None:
        if isinstance(event, Asked):
            self._asked |= {(event.number, index): event.time for index, _ in event.replicas}
        elif isinstance(event, Note):
            self._plan = event.text
        elif isinstance(event, Planned):
            self._budget = event

    def _work_out_best(self) -> None:
        ended = self._losses()
        now = time.monotonic()
        if self._study is None or ended == self._best_of or (now < self._best_until and not self.ended):
            return
        try:
            self._best, self._best_of = self._study.best, ended
        except StudyError as error:
            self._best, self._best_of, self._why_not = None, ended, str(error)
        spent = time.monotonic() - now
        self._best_until = now + spent + spent / BEST_SHARE

    # -- display ------------------------------------------------------------------------------------------------------

    def _trials(self) -> tuple[Trial, ...]:
        return () if self._study is None else self._study.trials

    def _replicas(self) -> list[ReplicaRecord]:
        return [r for t in self._trials() for r in t.replicas]

    def _losses(self) -> int:
        return sum(r.loss is not None for r in self._replicas())

    def _goal(self, name: str) -> int | None:
        """The number of `trials`, `trainings` or `confirmations` to reach: the one given, or that of the last run."""
        if any(self._given.values()):
            return self._given.get(name)
        found = None if self._budget is None else self._budget.budget.get(name)
        return found if isinstance(found, int) else None

    def _progress(self) -> str:
        trials, replicas = self._trials(), self._replicas()
        done = sum(t.state is not State.PENDING for t in trials)
        ended = [r for r in replicas if r.state is not State.PENDING]
        failed = sum(r.state is State.FAILED for r in ended)
        goal, aim = self._goal("trials"), self._goal("trainings")
        text = f"{done} of {goal} trials" if goal else counted(done, "trial")
        text += f", {len(ended)} of {aim} trainings" if aim else f", {counted(len(ended), 'training')}"
        text += f" ({failed} failed), {len(replicas) - len(ended)} pending"
        again = [r for t in trials for r in t.confirmations]
        wanted = self._goal("confirmations")
        if again or wanted:
            confirmed = sum(r.state is not State.PENDING for r in again)
            text += f", {confirmed} of {wanted or len(again)} confirmations"
        return text

    def _rate(self) -> str:
        records = [r for t in self._trials() for r in records_of(t)]
        ends = sorted(r.end for r in records if r.end is not None and r.state is not State.PENDING)[-RECENT:]
        if len(ends) < 2 or not ends[-1] > ends[0]:
            return "rate not known yet"
        rate = (len(ends) - 1) / (ends[-1] - ends[0])
        slow = rate * 60.0 < 1.0
        text = f"{number(rate * (3600.0 if slow else 60.0), 3)} trainings {'an hour' if slow else 'a minute'}"
        if seconds := self._seconds_left(rate):
            text += f", about {duration(seconds)} left"
        return f"{text}, the last ended {duration(max(time.time() - ends[-1], 0.0))} ago"

    def _seconds_left(self, rate: float) -> float:
        """Seconds until the goal or the time limit of the run, whichever is first; 0 without either."""
        found = [left / rate] if (left := self._left()) else []
        limit = None if self._budget is None or any(self._given.values()) else self._budget.budget.get("time_limit")
        if self._budget is not None and isinstance(limit, int | float) and not self.ended:
            found.append(max(self._budget.time + limit - time.time(), 0.0))
        return min(found, default=0.0)

    def _left(self) -> float:
        """Trainings until the first goal, if trials take as many trainings as until now; 0 without a goal."""
        trials, replicas = self._trials(), self._replicas()
        if wanted := self._goal("confirmations"):
            return float(max(wanted - sum(r.state is not State.PENDING for t in trials for r in t.confirmations), 0))
        ended = sum(r.state is not State.PENDING for r in replicas)
        done = sum(t.state is not State.PENDING for t in trials)
        left = []
        if aim := self._goal("trainings"):
            left.append(float(max(aim - ended, 0)))
        if (goal := self._goal("trials")) and done and (done < goal or not aim):  # later contenders are trained again
            left.append(max(goal - done, 0) * ended / done)
        return min(left, default=0.0)

    def _headline(self) -> str:
        if self._best is None:
            return f"no recommendation: {printable(self._why_not)}" if self._why_not else "no recommendation yet"
        best = self._best
        low, high = best.goal.interval(*best.interval)
        ensemble = self._study is not None and self._study.target == ENSEMBLE_LOSS
        named = "" if ensemble or best.goal == LOSS else f"{printable(best.goal.metric)} "
        value = f"estimate {named}{number(best.goal.shown(best.estimate), 5, best.width)}"
        if ensemble:
            value = f"ensemble loss {number(best.ensemble_loss, 5)}, {value}"
        spread = "" if best.spread is None else f" ± {number(best.spread, 2)}"
        ends = f" ({between(low, high)})" if math.isfinite(best.width) else ""
        since = "" if self._best_of == self._losses() else f" after {counted(self._best_of, 'training')}"
        text = f"recommended{since}: trial {best.number}, {value}{ends}"
        return f"{text}, observed {observed(best, 5)}{spread} over {counted(best.replicas, 'replica')}"

    def _pending(self, now: float) -> list[str]:
        rows = []
        for trial in self._trials():
            for r in records_of(trial):
                if r.state is not State.PENDING:
                    continue
                since = self._asked.get((trial.number, r.index))
                waited = "" if not since else f"  {duration(max(now - since, 0.0))}"
                rows.append(f"{named(trial.number, r.index)}{waited}")
        return rows

    def _sparkline(self, width: int) -> str:
        """The best mean, or other score, after each trial, in the sign of the metric, the latest at the right."""
        if self._study is None:
            return ""
        goal, score = goal_of(self._study), self._study.config.score
        known = [stats.mean for t in self._trials() if (stats := t.observed(MEAN_LOSS, score)) is not None]
        if len(known) < 2:
            return ""
        best = list(accumulate(known, min))
        best = [best[i * (len(best) - 1) // (width - 1)] for i in range(width)] if len(best) > width else best
        values = [goal.shown(loss) for loss in best]
        low = min(values)
        step = (max(values) - low) / (len(BARS) - 1) or 1.0
        return (
            "".join(BARS[round((value - low) / step)] for value in values)
            + f"  best {word_of(score)} {number(values[-1])}"
        )

    @property
    def _hindrance(self) -> str:
        """Why the file cannot be read now, or that its run was cut short; empty if neither holds."""
        if self.trouble or not (writer := self._reader.left_by):
            return self.trouble
        return f"cut short: its process ({writer['pid']} on {printable(writer['host'])}) is gone"

    def line(self) -> str:
        """Everything in one line, which changes only if the study does."""
        if self._study is None:
            return f"{printable(self.path)}: {self.trouble or 'nothing read yet'}"
        return "; ".join(
            filter(None, [f"{printable(self.path)}: {self._progress()}", self._headline(), self._hindrance])
        )

    def lines(self, width: int, height: int) -> list[Text]:
        """The view, in at most `height` lines."""
        now = time.time()
        state = self._hindrance or ("no process has it open" if self.ended else "running")
        title = Text.assemble((printable(self.path.name), "bold"), f"  {state}")
        title.append(f"  {time.strftime('%H:%M:%S')} on {printable(socket.gethostname())}", "dim")
        if self._study is None:
            return [title]
        lines = [title]
        if self._plan:
            lines.append(Text(printable(self._plan), "dim"))
        lines += [Text(self._progress()), Text(self._rate()), Text("")]
        lines += _wrapped(self._headline(), width, 2, "bold")
        if self._best is not None:
            text = ", ".join(f"{printable(k)}={shown(v)}" for k, v in self._best.params.items())
            lines += _wrapped(text, width, 2 if height < 40 else 6, "")
        if spark := self._sparkline(min(LONGEST, width - 24)):
            lines.append(Text(spark, "cyan"))
        failed = [(t.number, r, r.failure) for t in self._trials() for r in records_of(t) if r.failure]
        failed.sort(key=lambda one: one[1].end or 0.0)
        bottom = [
            Text(printable(f"failed: {named(at, r.index)}: {failure.line}"), "red")
            for at, r, failure in failed[-FAILURES:]
        ]
        room = height - len(lines) - len(bottom) - (3 if bottom else 2)
        pending = self._pending(now)
        if pending and room > 0:
            lines += [Text(""), Text(f"trains or waits ({len(pending)})", "dim"), *_columns(pending, width, room)]
        return [*lines, *([Text(""), *bottom] if bottom else [])][:height]


def _wrapped(text: str, width: int, most: int, style: str) -> list[Text]:
    """`text` on at most `most` lines; a longer text is cut and ends in dots."""
    lines = list(Text(text, style).wrap(Console(width=width), width))
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] = Text(set_cell_size(lines[-1].plain, max(width - 4, 1)).rstrip() + " …", style)
    return lines


def _columns(items: list[str], width: int, room: int) -> list[Text]:
    """Items in columns on at most `room` lines; if some do not fit, the last item gives their number."""
    cell = max(map(len, items)) + 3
    columns = max(width // cell, 1)
    rows = max(min(room, -(-len(items) // columns)), 1)
    if len(items) > rows * columns:
        items = [*items[: rows * columns - 1], f"and {len(items) - rows * columns + 1} more"]
    return [Text("".join(item.ljust(cell) for item in items[i::rows])) for i in range(rows)]
