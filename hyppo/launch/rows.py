"""Printed output by row, as a terminal shows it: progress bars are reduced to their last state."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

DEPTH = 6  # rows that a nested bar may go up again
LONGEST = 1 << 20  # bytes of a row
# What starts a row below, or moves to a row above: tqdm draws a bar below another one, and goes back up.
STEP = re.compile(rb"\n|\x1b\[(\d*)A")
# The other sequences that a terminal obeys, except colours: they hide the cursor, erase a row, set a title.
CONTROL = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[7-9=>DEHM])")
UNFINISHED = re.compile(rb"\x1b(\[[0-?]*)?\Z")


@dataclass(slots=True)
class Row:
    text: bytes = b""
    drawn: bool = False  # written over, as a progress bar is

    def write(self, text: bytes) -> None:
        """Add text. After a carriage return it replaces the text before."""
        self.text += text
        if (start := self.text.rfind(b"\r", 0, len(self.text.rstrip(b"\r")))) >= 0:
            self.text, self.drawn = self.text[start + 1 :], True

    @property
    def shown(self) -> bytes | None:
        """The visible text; None if a bar has erased itself."""
        text = CONTROL.sub(b"", self.text).rstrip(b"\r")
        return None if self.drawn and not text.strip() else text


class Rows:
    r"""Splits output into rows.

    >>> rows = Rows()
    >>> [*rows.feed(b"start\n10 %\r20 %\r30 %\nend")], [*rows.rest()]
    ([b'start', b'30 %'], [b'end'])

    A nested bar is drawn below another one, again and again. Both are rows once the output goes on below them:

    >>> [*rows.feed(b"epoch 1\n\rbatch 1\x1b[A\n\rbatch 2\x1b[A\repoch 2")], [*rows.rest()]
    ([b'epoch 1'], [b'epoch 2', b'batch 2'])
    """

    def __init__(self) -> None:
        self._rows = [Row()]
        self._at = 0
        self._nested = False  # whether a bar has moved up: before that, no row is held back
        self._unfinished = b""  # an escape sequence, of which more is to come

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The rows that further output completes."""
        data = self._unfinished + data
        unfinished = UNFINISHED.search(data)
        self._unfinished = unfinished[0] if unfinished else b""
        data = data.removesuffix(self._unfinished)
        start = 0
        for step in STEP.finditer(data):
            yield from self._write(data[start : step.start()])
            if step[0] == b"\n":
                yield from self._down()
            else:
                self._up(int(step[1] or 1))
            start = step.end()
        yield from self._write(data[start:])

    def rest(self) -> Iterator[bytes]:
        """The rows that are left when the output ends."""
        if not self._rows[-1].text:
            self._rows.pop()
        yield from self._release(len(self._rows))
        self._rows, self._at, self._nested, self._unfinished = [Row()], 0, False, b""

    def _write(self, text: bytes) -> Iterator[bytes]:
        row = self._rows[self._at]
        row.write(text)
        if len(row.text) > LONGEST:
            yield from self._down()

    def _down(self) -> Iterator[bytes]:
        left = self._rows[self._at]
        self._at += 1
        if self._at < len(self._rows):
            if self._rows[self._at].shown is None:
                self._rows[self._at] = Row()
            else:
                self._rows[self._at].write(b"\r")  # the next text replaces this one
            return
        self._rows.append(Row())
        if not left.text and self._at > 1 and self._rows[self._at - 2].drawn:
            left.drawn = True  # the place of a bar between two others
        if not (self._nested and left.drawn):
            yield from self._release(self._at)
        elif self._at > DEPTH:
            yield from self._release(1)

    def _up(self, count: int) -> None:
        self._nested = True
        self._rows[self._at].drawn = True
        self._at = max(self._at - count, 0)
        self._rows[self._at].write(b"\r")

    def _release(self, count: int) -> Iterator[bytes]:
        released, self._rows = self._rows[:count], self._rows[count:]
        self._at -= count
        yield from (row.shown for row in released if row.shown is not None)
