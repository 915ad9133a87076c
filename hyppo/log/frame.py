"""Frames of the journal: they tell where each ends and whether it is whole.

    magic 4 B | version u16 | kind u16 | length u32 | crc u32 | sequence u64 | count u32 | payload   (little-endian)

`length` is the payload's; `crc` (crc32) covers all of the frame but magic and itself. One append is one frame, whatever
the number of its events, so that a group of events is in the journal as a whole or not at all. `sequence` is the number
of the frame's first event, counted from 1 over the whole study; the journal's first frame, of kind HEADER, has 0.
"""

import struct
import zlib
from dataclasses import dataclass

from hyppo.errors import LogError

MAGIC = b"\x89hyJ"
VERSION = 1
HEADER, EVENTS = 1, 2
EFFORT = 8  # bytes looked at a byte of a damaged journal: heads that claim all that follows cost the square otherwise

_HEAD = struct.Struct("<4sHHIIQI")
_COVERED = struct.Struct("<HHIQI")


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    sequence: int
    count: int
    payload: bytes


@dataclass(frozen=True)
class Scan:
    """The frames found in the bytes of a journal.

    `frames` are the complete frames up to offset `end`; `stray` are complete frames after the first damaged one. An
    interrupted write leaves no stray frames: if there are any, the journal is damaged.
    """

    frames: tuple[Frame, ...]
    end: int
    stray: tuple[Frame, ...]
    unreadable: bool = False
    """There are bytes but no complete frame, and they are not the start of a frame. An incomplete first frame loses
    nothing: an event counts as logged only once its frame is complete."""


def _crc(kind: int, sequence: int, count: int, payload: bytes, version: int = VERSION) -> int:
    return zlib.crc32(payload, zlib.crc32(_COVERED.pack(version, kind, len(payload), sequence, count)))


def encode(kind: int, sequence: int, count: int, payload: bytes) -> bytes:
    """Bytes of one frame.

    >>> scan(encode(EVENTS, 7, 1, b"loss") + b"torn").frames[0].payload
    b'loss'
    """
    try:
        head = _HEAD.pack(MAGIC, VERSION, kind, len(payload), _crc(kind, sequence, count, payload), sequence, count)
    except struct.error as error:
        raise LogError(f"{count} events of {len(payload)} bytes do not fit a frame ({error})") from None
    return head + payload


def _frame_at(data: bytes, offset: int) -> Frame | None:
    if len(data) - offset < _HEAD.size:
        return None
    magic, version, kind, length, crc, sequence, count = _HEAD.unpack_from(data, offset)
    start = offset + _HEAD.size
    if magic != MAGIC or len(data) - start < length:
        return None
    payload = data[start : start + length]
    if crc != _crc(kind, sequence, count, payload, version):
        return None
    if version != VERSION:
        raise LogError(f"the journal is of version {version}, this hyppo reads {VERSION}; use the hyppo that wrote it")
    return Frame(kind, sequence, count, payload)


def scan(data: bytes) -> Scan:
    """All whole frames of a journal, in order."""
    frames: list[Frame] = []
    end = 0
    while (frame := _frame_at(data, end)) is not None:
        frames.append(frame)
        end += _HEAD.size + len(frame.payload)
    stray: list[Frame] = []
    offset = data.find(MAGIC, end)
    effort = 0
    while offset >= 0 and effort <= EFFORT * len(data):
        frame = _frame_at(data, offset)
        claimed = _claimed(data, offset)
        effort += claimed if offset + claimed < len(data) else 1
        if frame is None:
            offset = data.find(MAGIC, offset + 1)
        else:
            stray.append(frame)
            offset = data.find(MAGIC, offset + _HEAD.size + len(frame.payload))
    first = _HEAD.unpack_from(data) if len(data) >= _HEAD.size else (data[:4], 0, HEADER)
    cut_short = first[0] == MAGIC[: len(data)] and first[2] == HEADER and len(data) < _HEAD.size + _claimed(data, 0)
    return Scan(tuple(frames), end, tuple(stray), bool(data) and not frames and not stray and not cut_short)


def _claimed(data: bytes, offset: int) -> int:
    """Length of the payload that a head claims, 1 without a whole head."""
    return _HEAD.unpack_from(data, offset)[3] if len(data) - offset >= _HEAD.size else 1
