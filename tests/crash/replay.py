"""What recorder.c wrote, and the states that a crash can leave of it.

A kill leaves a prefix of the writes, the last of them perhaps cut in half. A power cut leaves less: of each file what
was synced and any of the writes after that, whole or cut in half; of the folder what was synced and a prefix of the
changes after that. The second is a model, stricter than ext4 is: a rename may outrun the data of its file.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One recorded call; see recorder.c for the kinds."""

    kind: str
    inode: int = 0
    offset: int = 0  # of W; size of T and A
    data: bytes = b""
    names: tuple[str, ...] = ()
    created: bool = False
    truncated: bool = False


def records(log: bytes) -> list[Record]:
    out: list[Record] = []
    at = 0
    while at < len(log):
        end = log.index(b"\n", at)
        kind, *rest = log[at:end].decode().split(" ")
        at = end + 1
        match kind:
            case "O":
                out.append(
                    Record("O", int(rest[0]), created=rest[1] == "1", truncated=rest[2] == "1", names=(rest[3],))
                )
            case "W":
                length = int(rest[2])
                out.append(Record("W", int(rest[0]), int(rest[1]), log[at : at + length]))
                at += length
            case "T" | "A":
                out.append(Record(kind, int(rest[0]), int(rest[1])))
            case "R" | "U":
                out.append(Record(kind, names=tuple(rest)))
            case "S":
                out.append(Record("S", int(rest[0])))
            case "D":
                out.append(Record("D"))
            case _:
                raise ValueError(f"not a record: {kind} {rest}")
    return out


def _change(content: bytearray, record: Record) -> None:
    """Apply one change of a file's content or size."""
    match record.kind:
        case "W":
            content.extend(bytes(max(0, record.offset - len(content))))
            content[record.offset : record.offset + len(record.data)] = record.data
        case "T":
            content.extend(bytes(max(0, record.offset - len(content))))
            del content[record.offset :]
        case "A":
            content.extend(bytes(max(0, record.offset - len(content))))
        case "O":
            content.clear()


@dataclass
class File:
    """A file's content now, what of it is surely on the disk, and the changes since."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    since: list[Record] = field(default_factory=list)

    def after_power_cut(self, rng: random.Random) -> bytes:
        content = bytearray(self.durable)
        for record in self.since:
            kept = rng.random()
            if kept < 0.1 and record.kind == "W":
                half = record.data[: len(record.data) // 2]
                _change(content, Record("W", record.inode, record.offset, half))
            elif kept < 0.5:
                _change(content, record)
        return bytes(content)


State = dict[str, bytes]


class Folder:
    """A folder as the recorded process left it so far."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.durable_names: dict[str, int] = {}
        self.changes: list[Record] = []  # of names, since the last sync of the folder
        self.files: dict[int, File] = {}
        self.acknowledged = 0

    def apply(self, record: Record) -> None:
        match record.kind:
            case "O" if record.created:
                self.files[record.inode] = File()  # inode numbers come back
                self._rename(record)
            case "W" if self.names.get("ack") == record.inode:
                self.acknowledged += 1
            case "O" | "W" | "T" | "A":
                file = self.files[record.inode]
                _change(file.content, record)
                file.since.append(record)
            case "S":
                file = self.files[record.inode]
                file.durable, file.since = bytes(file.content), []
            case "R" | "U":
                self._rename(record)
            case "D":
                self.durable_names, self.changes = dict(self.names), []

    def _rename(self, record: Record) -> None:
        _change_names(self.names, record)
        self.changes.append(record)

    def killed(self) -> State:
        """What a reader finds where the process was killed now."""
        return {name: bytes(self.files[inode].content) for name, inode in self.names.items() if name != "ack"}

    def half(self, record: Record) -> State | None:
        """The same, in the middle of the next call; None where that is no write that can be cut."""
        if record.kind != "W" or len(record.data) < 2 or self.names.get("ack") == record.inode:
            return None
        content = bytearray(self.files[record.inode].content)
        _change(content, Record("W", record.inode, record.offset, record.data[: len(record.data) // 2]))
        state = self.killed()
        state.update({name: bytes(content) for name, inode in self.names.items() if inode == record.inode})
        return state

    def after_power_cut(self, rng: random.Random) -> State:
        names = dict(self.durable_names)
        for record in self.changes[: rng.randint(0, len(self.changes))]:
            _change_names(names, record)
        return {n: self.files[i].after_power_cut(rng) for n, i in names.items() if n != "ack"}


def _change_names(names: dict[str, int], record: Record) -> None:
    match record.kind:
        case "O":
            names[record.names[0]] = record.inode
        case "R":
            names[record.names[1]] = names.pop(record.names[0])
        case "U":
            del names[record.names[0]]


def walk(history: list[Record]) -> Iterator[tuple[int, Folder, Record | None]]:
    """The folder before each record, and that record; at the end, the folder after the last and None."""
    folder = Folder()
    for i, record in enumerate(history):
        yield i, folder, record
        folder.apply(record)
    yield len(history), folder, None


def lay_out(state: State, place: Path) -> None:
    """Make `place` hold this state and nothing else."""
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for name, content in state.items():
        (place / name).write_bytes(content)
