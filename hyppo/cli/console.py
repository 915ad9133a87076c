"""The console of the commands, and the study file that they take."""

import sys
from pathlib import Path
from typing import IO, Annotated, cast

import typer
from rich.console import Console

from hyppo.errors import LogError
from hyppo.text import Stream

StudyFile = Annotated[Path, typer.Argument(help="The study file, e.g. study.h5; it may be in use.", show_default=False)]


class Output(Stream):
    """Standard output of a command: a full disk is an error, a reader that has seen enough (`| head`) is not."""

    def _give_up(self, error: Exception) -> None:
        super()._give_up(error)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise LogError(f"standard output cannot be written: {error.strerror or error}") from error


def console() -> Console:
    """A console on standard output that prints text as it is: no markup, no emoji codes, no colours by guess."""
    return Console(file=cast(IO[str], Output(sys.stdout)), markup=False, emoji=False, highlight=False)
