"""Examines a study file and its journal, and writes everything readable to a new file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hyppo.errors import LogError, StudyError
from hyppo.log import codec, frame, hdf5, salvage
from hyppo.log.checked import check
from hyppo.log.file import FileLog
from hyppo.log.header import Header
from hyppo.log.journal import beyond, header_of, journal_of, read_journal
from hyppo.space import Space
from hyppo.trial import Event, Trial, apply


@dataclass(frozen=True)
class Examination:
    """The result of examining a study file.

    Attributes
    ----------
    path : pathlib.Path
    header : Header
    events : tuple of Event
        All that can be read and that makes a history, in order.
    in_file : int
        Events that the study file claims to hold; the others are in the journal.
    frames : int
        Whole frames of the journal, its first one included.
    writer : dict or None
        Who writes the journal, or did: host, pid, since.
    closed : bool
        There is no journal, and none is missing.
    alone : bool
        The journal is missing: the file was not closed.
    lost : tuple of str
        A line for everything that cannot be read or contradicts earlier events.
    """

    path: Path
    header: Header
    events: tuple[Event, ...]
    in_file: int
    frames: int
    writer: dict[str, str] | None
    closed: bool
    alone: bool
    lost: tuple[str, ...]


def examine(path: str | Path) -> Examination:
    """Look at all of a study file and its journal; nothing is locked or written.

    Raises
    ------
    LogError
        There is no such file, or neither it nor its journal says whose study it is.
    """
    real = Path(os.path.realpath(path))
    lost: list[str] = []
    left, scan = None, frame.scan(b"")
    try:
        scan = frame.scan(read_journal(real))
        left = header_of(scan)
    except LogError as error:
        lost.append(f"the journal: {error}")
    header, found, in_file = _of_image(real, left[0] if left else None, lost)
    if left and left[0].uuid != header.uuid:
        lost.append(f"the journal: {journal_of(real).name} belongs to another study")
    elif scan.unreadable:
        lost.append(f"the journal: nothing of {journal_of(real).name} can be read")
    else:
        header = left[0] if left else header
        found += _of_journal(in_file, scan, lost)
    events = tuple(_folded(found, lost))
    without = not os.path.lexists(journal_of(real))
    alone = without and not lost and not hdf5.read(real)[3]
    if alone:
        lost.append(
            f"maybe the last events: the study was not closed, and {journal_of(real).name} is not beside it; copy or "
            "move a study with its journal, or after its run has ended"
        )
    return Examination(
        real,
        header,
        events,
        in_file,
        len(scan.frames) + len(scan.stray),
        left[1] if left else None,
        without and not alone,
        alone,
        tuple(lost),
    )


def _of_image(path: Path, left: Header | None, lost: list[str]) -> tuple[Header, list[Event], int]:
    """Header and events of the study file; of the journal's header alone if the file does not say whose it is."""
    try:
        header, events, in_file, missing = salvage.salvage(path)
    except (LogError, FileNotFoundError) as error:
        if left is None:
            raise LogError(str(error) if isinstance(error, LogError) else f"{path} does not exist") from error
        lost.append(f"the study file: {error}")
        return left, [], 0
    lost += missing
    try:
        hdf5.read(path)
    except LogError as error:
        if not missing:
            lost.append(f"the study file: {error}")
    try:
        Space.from_json(header.space)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if left is None:
            raise LogError(f"{path} is damaged: its space cannot be read ({error})") from error
        lost.append(f"the study file: its space cannot be read ({error}); the journal has it")
        return left, events, in_file
    return header, events, in_file


def _of_journal(in_file: int, scan: frame.Scan, lost: list[str]) -> list[Event]:
    """Events of the journal that the study file does not hold."""
    events: list[Event] = []
    following = in_file + 1
    if beyond(in_file, scan.stray):
        lost.append(f"the journal is damaged at byte {scan.end}")
    for f in beyond(in_file, (*scan.frames, *scan.stray)):
        if f.sequence > following:
            lost.append(f"events {following} to {f.sequence - 1}: neither in the file nor in the journal")
        try:
            decoded = codec.decode(f.payload)
        except LogError as error:
            lost.append(f"events {f.sequence} to {f.sequence + f.count - 1}: {error}")
        else:
            events += decoded[max(0, following - f.sequence) :]
        following = max(following, f.sequence + f.count)
    return events


def _folded(events: Iterable[Event], lost: list[str]) -> list[Event]:
    """The events with allowed values that do not contradict earlier ones."""
    trials: list[Trial] = []
    kept: list[Event] = []
    for position, event in enumerate(events):
        try:
            check(event)
            apply(trials, event, position)
        except StudyError as error:
            lost.append(f"event {position + 1}: {error}")
        else:
            kept.append(event)
    return kept


def repair(found: Examination) -> Path:
    """Write a new study file of all that was found beside the old one, which stays as it is.

    Raises
    ------
    LogError
        It cannot be written.
    """
    path = found.path
    names = (f"{path.stem}.repaired{n}{path.suffix}" for n in ("", *(f"-{i}" for i in range(1, 1000))))
    target = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    log, _, _ = FileLog.open(target, found.header)
    try:
        log.append(found.events)
    finally:
        log.close()
    return target
