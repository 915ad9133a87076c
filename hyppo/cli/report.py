"""`hyppo report`: one page with the recommendation and every figure."""

from pathlib import Path
from typing import Annotated

import typer

from hyppo.cli.console import StudyFile
from hyppo.study import load
from hyppo.text import printable


def report(
    study_file: StudyFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [default: beside the study, STUDY.html]")
    ] = None,
) -> None:
    """Write one page with the recommendation and every figure, which opens in a browser without a network.

    Nothing else is locked or written, so this works while the study runs.

    Example: hyppo report study.h5 -o report.html
    """
    written = load(study_file).report(output or study_file.with_suffix(".html"))
    typer.echo(printable(written))
