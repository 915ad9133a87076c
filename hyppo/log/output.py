"""Files that are written for people: a report, a table. Each is whole or absent, and none replaces a study."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hyppo.errors import StudyError
from hyppo.log import is_study_or_journal
from hyppo.text import printable


@contextmanager
def replaced(output: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is complete: on a full disk the old file stays.

    Raises
    ------
    StudyError
        The file cannot be written, or `output` is a study file or a journal.
    """
    refuse_study(output)
    part = output
    direct = True
    try:
        output = Path(os.path.realpath(output))
        direct = output.exists() and not output.is_file()  # a pipe, /dev/null
        if not direct:
            part = output.with_name(f".{output.name}.{os.getpid()}.part")
        with part.open("wb") as stream:
            yield stream
        if not direct:
            part.replace(output)
    except (OSError, ValueError) as error:  # ValueError: characters that no file name has
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{printable(output)} cannot be written: {reason}") from error
    finally:
        if not direct:
            with suppress(OSError):  # none is there if it could not be opened
                part.unlink()


def refuse_study(output: Path) -> None:
    """Refuse an output that is a study file or its journal.

    Raises
    ------
    StudyError
        It is one.
    """
    if is_study_or_journal(output):
        raise StudyError(
            f"{printable(output)} is a study file or its journal, which is not overwritten; give the output another "
            "name"
        )
