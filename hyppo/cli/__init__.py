"""The command line: `hyppo run`, `hyppo confirm`, `hyppo show`, `hyppo watch`, `hyppo report` and others."""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hyppo._version import __version__
from hyppo.cli.check import check
from hyppo.cli.confirm import confirm
from hyppo.cli.export import export
from hyppo.cli.report import report
from hyppo.cli.run import run
from hyppo.cli.script_command import ScriptCommand
from hyppo.cli.show import show
from hyppo.cli.slurm import SlurmCommand, slurm
from hyppo.cli.watch import watch
from hyppo.errors import HyppoError
from hyppo.text import encodable, printable

commands = typer.Typer(
    name="hyppo",
    help="Hyperparameter optimisation of deep learning models: results that hold when someone trains again.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hyppo {__version__}")
        raise typer.Exit


@commands.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hyperparameter optimisation of deep learning models: results that hold when someone trains again."""


def _add(command: Callable[..., None], **settings: Any) -> None:
    """Add a command; its help is its docstring, of which every paragraph is wrapped to the terminal's width.

    Typer keeps the line breaks of all paragraphs after the first, which makes short lines in a narrow terminal.
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    text = "\n\n".join(p if "\n  " in p else p.replace("\n", " ") for p in paragraphs)  # indented: an example
    commands.command(help=text, **settings)(command)


_add(run, cls=ScriptCommand, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
_add(confirm, cls=ScriptCommand, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
_add(show)
_add(watch)
_add(report)
_add(export)
_add(check)
_add(slurm, cls=SlurmCommand, context_settings={"allow_extra_args": True})


def app() -> None:
    """Entry point: errors that `hyppo` raises on purpose are a line on stderr, not a traceback."""
    try:
        commands()
    except HyppoError as error:
        typer.secho(encodable(f"hyppo: {printable(error, lines=True)}", sys.stderr.encoding), fg="red", err=True)
        sys.exit(2)
