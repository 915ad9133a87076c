"""The console of the commands, and the study file that they take."""

import sys
from pathlib import Path
from typing import IO, Annotated, cast

import typer
from rich.console import Console

from hyppo.text import Stream

StudyFile = Annotated[Path, typer.Argument(help="The study file, e.g. study.h5; it may be in use.", show_default=False)]


def console() -> Console:
    """A console on standard output that prints text as it is: no markup, no emoji codes, no colours by guess."""
    return Console(file=cast(IO[str], Stream(sys.stdout)), markup=False, emoji=False, highlight=False)
