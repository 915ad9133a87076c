"""The progress of a run: a live panel on a terminal, an updated cell in a notebook, otherwise a line now and then."""

import sys
import time
from html import escape
from importlib import import_module
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from hyppo.config import ENSEMBLE_LOSS, named
from hyppo.errors import StudyError
from hyppo.loop import Options, Status
from hyppo.results import LOSS
from hyppo.study import Study
from hyppo.text import Stream, counted, duration, number, printable, shown
from hyppo.training.replica import Outcome, Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.panel import Panel

LINE_EVERY = 10.0  # s between two lines without a terminal
PANEL_EVERY = 0.5  # s
INCUMBENT_AFTER = 2.0  # s before a surrogate is first fitted only to show the incumbent
INCUMBENT_SHARE = 0.05  # maximal share of the run's time for this
RUNNING_SHOWN = 12


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is never imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Progress:
    """Shows a run; see `hyppo.loop.View`.

    Notices and the first failure are shown even without `progress`: those are not progress.
    """

    def __init__(self, study: Study, options: Options, confirms: bool = False) -> None:
        self._study = study
        self._options = options
        self._confirms = confirms
        self._stream = Stream(sys.stderr)
        self._live: Live | None = None
        self._console: Console | None = None
        self._shown = 0.0
        self._line = ""  # shown last
        self._lines_from = time.monotonic()
        self._best: Any = None
        self._best_at = -1  # number of settled trainings at the last computation of the incumbent
        self._best_seconds = 0.0
        self._failures = 0
        self._notebook = options.progress and _in_notebook()
        self._cell: Any = None  # the output in a notebook, from the first `show` on

    def __enter__(self) -> "Progress":
        if self._options.progress and not self._notebook and self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=cast(IO[str], self._stream), markup=False, emoji=False, highlight=False)
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        line = f"hyppo: {printable(text, lines=True)}"
        if self._live is not None and self._console is not None:
            self._console.print(line, soft_wrap=True)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def failed(self, task: Task, outcome: Outcome) -> None:
        """Show a failure: the first with its traceback, the others in a line."""
        self._failures += 1
        failure = outcome.failure
        if failure is None or (self._failures > 1 and not self._options.progress):
            return
        text = f"{named(task.trial, task.index)} failed: "
        if self._failures > 1 or failure.message in failure.traceback:
            text += failure.line
        else:
            text += str(failure)
        if self._failures == 1 and failure.traceback:
            text += f"\n{failure.traceback.rstrip()}"
        self.say(text)

    def show(self, status: Status, force: bool = False) -> None:
        if not self._options.progress:
            return
        now = time.monotonic()
        changed = self._work_out_incumbent(status, force)
        if self._live is not None:
            if force or changed or now - self._shown >= PANEL_EVERY:
                self._live.update(self._panel(status), refresh=True)
                self._shown = now
        elif self._notebook:
            if force or changed or now - self._shown >= PANEL_EVERY:
                self._show_cell(self._bundle(status))
                self._shown = now
        elif force or changed or now - max(self._shown, self._lines_from) >= LINE_EVERY:
            line = "; ".join(filter(None, [self._counts(status), self._incumbent()]))
            if line != self._line:  # at the end of a run it may have been shown already
                self.say(line)
            self._line, self._shown = line, now

    def _show_cell(self, bundle: dict[str, str]) -> None:
        if self._cell is None:
            self._cell = import_module("IPython.display").display(bundle, raw=True, display_id=True)
        else:
            self._cell.update(bundle, raw=True)

    def _bundle(self, status: Status) -> dict[str, str]:
        """The output of a notebook's cell, replaced at each update."""
        lines = [self._counts(status), *self._incumbent_lines(status)]
        markup = "".join(f"<div>{escape(line)}</div>" for line in lines)
        return {
            "text/plain": "\n".join(lines),
            "text/html": f'<div style="font-variant-numeric: tabular-nums">{markup}</div>',
        }

    def _work_out_incumbent(self, status: Status, force: bool) -> bool:
        """Update the incumbent if the fit takes a small share of the time; True if the incumbent has changed."""
        if status.trainings == self._best_at or status.elapsed < INCUMBENT_AFTER:
            return False
        if not force and self._best_seconds > INCUMBENT_SHARE * status.elapsed:
            return False
        start = time.monotonic()
        number = None if self._best is None else self._best.number
        self._best_at = status.trainings
        try:
            self._best = self._study.best
        except StudyError:  # no training has succeeded yet
            self._best = None
        self._best_seconds += time.monotonic() - start
        return self._best is not None and self._best.number != number

    def _counts(self, status: Status) -> str:
        goals = []
        if self._options.trials is not None:
            goals.append(f"{status.trials_settled} of {self._options.trials} trials")
        elif not self._confirms:
            goals.append(counted(status.trials_settled, "trial"))
        if self._options.trainings is not None:
            unit = "confirmations" if self._confirms else "trainings"
            goals.append(f"{status.trainings} of {self._options.trainings} {unit}")
        else:
            goals.append(counted(status.trainings, "training"))
        text = ", ".join(goals)
        if status.failed:
            text += f" ({status.failed} failed)"
        text += f" in {duration(status.elapsed)}"
        if self._options.time_limit is not None:
            text += f" of {duration(self._options.time_limit)}"
        return f"{text}, {len(status.running)} running" if status.running else text

    def _incumbent_lines(self, status: Status) -> list[str]:
        """One line, or none if trainings have succeeded but no surrogate was fitted yet."""
        if line := self._incumbent():
            return [line]
        return [] if status.trainings > status.failed else ["no incumbent yet"]

    def _incumbent(self) -> str:
        if self._best is None:
            return ""
        best = self._best
        around = " ±" if best.observed is None else ", spread"  # which is not that of another score
        spread = "" if best.spread is None else f"{around} {best.spread:.2g}"
        shown_name = "" if best.goal == LOSS else f"{printable(best.goal.metric)} "
        if self._study.target == ENSEMBLE_LOSS:
            value = f"ensemble loss {number(best.ensemble_loss)} (mean {best.mean:.4g}{spread})"
        else:
            value = f"{shown_name}{number(best.goal.shown(best.estimate), 4, best.width)}{spread}"
        params = ", ".join(f"{printable(k)}={shown(v)}" for k, v in best.params.items())
        return f"incumbent: trial {best.number}, {value} ({params})"

    def _panel(self, status: Status) -> "Panel":
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        running = Table.grid(padding=(0, 2))
        now, goal = time.monotonic(), LOSS
        if self._best is not None and self._study.target != ENSEMBLE_LOSS:
            goal = self._study.trials[self._best.number].goal or LOSS
        for one in status.running[:RUNNING_SHOWN]:
            last = "" if one.loss is None else f"step {one.step}, {printable(goal.metric)} {goal.shown(one.loss):.4g}"
            running.add_row(named(one.task.trial, one.task.index), duration(now - one.since), last)
        if len(status.running) > RUNNING_SHOWN:
            running.add_row(f"and {len(status.running) - RUNNING_SHOWN} more", "", "")
        incumbent = [Text(line, style="bold") for line in self._incumbent_lines(status)]
        body = Group(Text(self._counts(status)), *incumbent, running)
        # Room at the right for the "^C" that a terminal shows: at a line's end it would push the panel down.
        width = None if self._console is None else max(self._console.width - 8, 20)
        return Panel(body, title="hyppo", title_align="left", border_style="dim", width=width)
