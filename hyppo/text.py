"""Text for a terminal: made safe to print, counted, and written without an error."""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

# A replacement for each character that our own lines use and that a terminal may lack.
ASCII = {"±": "+/-", "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "×": "x", "≤": "<=", "≥": ">=", "→": "->"}
ASCII |= dict(zip("▁▂▃▄▅▆▇█", "_..--==#", strict=True))
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # and bold text: Keras writes its errors so


def printable(text: object, lines: bool = False) -> str:
    r"""Remove colours from `text`, and escape every other character that a terminal would obey or cannot show.

    A study file may come from anybody: its names, values and failures must not move the cursor or change a colour.

    Parameters
    ----------
    text : object
        Its `str` is taken.
    lines : bool
        Keep newlines and tabs, for a traceback.

    Examples
    --------
    >>> printable("[bold] \x1b[2J ± \ud800 \x1b[1;31mred\x1b[0m")
    '[bold] \\x1b[2J ± \\ud800 red'
    """
    string = str(text)
    if string.isprintable():
        return string
    kept = "\n\t" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in COLOUR.sub("", string)
    )


def encodable(text: str, encoding: str | None) -> str:
    """`text` with every character that `encoding` lacks replaced.

    >>> encodable("0.1 ± 0.02 µm", "ascii")
    '0.1 +/- 0.02 \\\\xb5m'
    """
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        pass
    else:
        return text
    for character, replacement in ASCII.items():
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace(character, replacement)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def counted(count: int, noun: str) -> str:
    """The count with its noun.

    >>> counted(1, "training"), counted(2, "training"), counted(0, "replica")
    ('1 training', '2 trainings', '0 replicas')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ranged(values: Sequence[int], noun: str) -> str:
    """The least and the greatest of some counts, with their noun.

    >>> ranged([2, 2], "report"), ranged([1], "report"), ranged([1, 4, 3], "report")
    ('2 reports', '1 report', '1 to 4 reports')
    """
    low, high = min(values), max(values)
    return counted(high, noun) if low == high else f"{low} to {high} {noun}s"


def number(value: float | None, digits: int = 4, width: float | None = None) -> str:
    """A number as shown to people: `digits` significant digits, "-" if unknown.

    There are more digits if they are needed to show a difference of `width`, such as the width of an interval, with
    two digits.

    >>> number(0.000123456), number(3), number(None), number(-76026.7651, width=0.25)
    ('0.0001235', '3', '-', '-76026.77')
    """
    if value is None:
        return "-"
    if width is not None:
        digits = max(digits, _needed(value, width))
    return f"{value:.{digits}g}"


def _needed(value: float, width: float) -> int:
    """Significant digits of `value` that show a difference of `width` with two digits; 0 if that is unknown."""
    if not value or not width or not math.isfinite(value) or not math.isfinite(width):
        return 0
    return min(math.floor(math.log10(abs(value))) - math.floor(math.log10(abs(width))) + 2, 15)


def digits_of(values: Iterable[float], fewest: int) -> int:
    """Significant digits for a column of losses, which show how the better half of them differ.

    >>> digits_of([0.25, 0.5, 4.0], 6), digits_of([-76026.81, -76026.8, -76026.75, 0.0], 6)
    (6, 9)
    """
    ordered = sorted(values)
    return max(fewest, _needed(ordered[0], (ordered[len(ordered) // 2] - ordered[0]) / 10)) if ordered else fewest


def between(low: float, high: float, digits: int = 4) -> str:
    """The two ends of an interval, with the digits that its width needs.

    >>> between(0.25, 0.5), between(1000000.1, 1000000.2)
    ('0.25 to 0.5', '1000000.1 to 1000000.2')
    """
    return f"{number(low, digits, high - low)} to {number(high, digits, high - low)}"


def interval(low: float, high: float, digits: int = 4) -> str:
    """A 90 % interval in words.

    >>> interval(0.25, 0.5), interval(-math.inf, math.inf), interval(1000000.1, 1000000.2)
    ('90 % interval 0.25 to 0.5', 'interval unknown', '90 % interval 1000000.1 to 1000000.2')
    """
    return f"90 % interval {between(low, high, digits)}" if math.isfinite(high - low) else "interval unknown"


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters, which keeps its start and its end.

    >>> shortened("learning_rate_of_the_encoder", 16)
    'learning…encoder'
    """
    if len(text) <= most:
        return text
    return f"{text[: most - most // 2]}…{text[len(text) - most // 2 + 1 :]}"


def one_line(text: str, most: int = 500) -> str:
    """A text on one line of at most `most` characters, which keeps its start and its end.

    >>> one_line("\\nno such\\n\\nlayer")
    'no such layer'
    """
    return shortened(" ".join(text.split()), most)


def error_line(error: BaseException) -> str:
    """Type and message of an exception on one line.

    >>> error_line(ValueError("\\nno such\\n\\nlayer"))
    'ValueError: no such layer'
    """
    return f"{type(error).__name__}: {one_line(str(error))}"


def metric(name: str, value: float | None) -> str:
    """A metric of a trial as shown to people, those that `hyppo` measures with their units.

    >>> metric("memory", 5.673e8), metric("seconds", 11.386), metric("parameters", 16740.0), metric("auc", 0.91234)
    ('567.3 MB', '11.39 s', '16740', '0.9123')
    """
    if value is None:
        return "-"
    if name in ("memory", "gpu_memory"):
        return f"{number(value / 1e9)} GB" if value >= 1e9 else f"{number(value / 1e6)} MB"
    if name == "seconds":
        return f"{number(value)} s"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e12 else number(value)


def shown(value: Any) -> str:
    r"""A value of a parameter as shown to people, on one line.

    >>> shown(0.123456789), shown("[conv,pool]"), shown(True)
    ('0.1235', '[conv,pool]', 'True')
    """
    return number(value) if isinstance(value, float) else printable(value)


def duration(seconds: float) -> str:
    """Seconds as people write them.

    >>> duration(7.31), duration(75), duration(3 * 3600 + 125)
    ('7 s', '1:15', '3:02:05')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def open_closed_streams() -> None:
    """Open the null device for stdin, stdout and stderr if they are closed, as by `python tune.py <&-` in a daemon.

    Otherwise the next file to be opened, such as the study file, gets the number 0, 1 or 2, and a training process
    reads from it or prints into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


class Stream:
    """A text stream whose writes never raise, for progress and notices.

    A character that the encoding lacks is replaced, and once the reader has closed the pipe (`| head`) nothing more is
    written: neither may end a study.

    Parameters
    ----------
    stream : text stream
        Such as `sys.stderr`; None, as in a program without one, writes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.closed_by_reader = stream is None

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return not self.closed_by_reader and self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("no stream")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None and not self.closed_by_reader:
            try:
                self._stream.write(encodable(text, self.encoding))
            except (OSError, ValueError) as error:  # ValueError: written to after it was closed
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and not self.closed_by_reader:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Write nothing more; the interpreter's own flush at its end must not fail either."""
        self.closed_by_reader = True
        with contextlib.suppress(OSError, ValueError):
            number = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
