"""`hyppo check`: contents and integrity of a study file, and a new file from the readable part of a damaged one."""

import time
from collections import Counter
from typing import Annotated

import typer

from hyppo.cli.console import StudyFile, console
from hyppo.log.journal import journal_of
from hyppo.log.repair import Examination, examine, repair
from hyppo.text import counted, printable
from hyppo.trial import Asked, Note, Settled


def check(
    study_file: StudyFile,
    mend: Annotated[
        bool, typer.Option("--repair", help="Write all that can be read to a new file beside the old one.")
    ] = False,
) -> None:
    """Check a study file and its journal: contents, damage, and the part that can still be read.

    This locks and changes nothing. The exit code is 0 if everything can be read, otherwise 1.

    Examples: hyppo check study.h5; hyppo check study.h5 --repair
    """
    found = examine(study_file)
    out = console()

    def say(line: str, style: str | None = None) -> None:
        out.print(printable(line), style=style, soft_wrap=True)

    for line in _contents(found):
        say(line)
    for line in found.lost:
        say(f"lost: {line}", "red")
    if not found.lost:
        say("sound: all of it can be read")
    if mend:
        target = repair(found)
        lost = "the lost part is listed above" if found.lost else "nothing is lost"
        say(f"{target}: {counted(len(found.events), 'event')}; {lost}")
        say(
            f"to continue this study, move {found.path.name} and its journal away and give the new file that name: "
            f"predictions and networks are in {found.path.name}.d"
        )
    if found.lost:
        raise typer.Exit(1)


def _contents(found: Examination) -> list[str]:
    """The contents of the file and its journal, one line each."""
    header, settled = found.header, [r for e in found.events if isinstance(e, Settled) for r in e.records]
    trials = {e.number for e in found.events if isinstance(e, Asked)}
    states = ", ".join(f"{n} {state}" for state, n in Counter(r.state.value for r in settled).items())
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.created))
    journal = journal_of(found.path)
    lines = [
        f"{found.path}: study {header.uuid}, created {created} by hyppo {header.version}, seed {header.seed}",
        f"events   {len(found.events)} that can be read: {counted(len(trials), 'trial')}, "
        f"{counted(len(settled), 'replica')} that ended ({states or 'none'}), "
        f"{counted(sum(isinstance(e, Note) for e in found.events), 'note')}, "
        f"{counted(sum(len(r.curve) for r in settled), 'report')}",
        f"file     {counted(found.in_file, 'event')}",
    ]
    if found.closed:
        return [*lines, "journal  none: the study was closed"]
    if found.alone:
        return [*lines, "journal  none, but the study was not closed"]
    writer = found.writer
    who = f", written by process {writer['pid']} on {writer['host']} since {writer['since']}" if writer else ""
    return [*lines, f"journal  {journal.name}: {counted(found.frames, 'whole frame')}{who}"]
