"""`hyppo run tune.py`: run a script like `python tune.py`, and override the arguments of its `study.run`."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from hyppo.cli.program import Program, Script
from hyppo.loop.options import FAULTS, OVERRIDES

Steal = Annotated[
    bool,
    typer.Option(
        "--steal",
        help="Take the study over from a process on another host that has died.",
        rich_help_panel=FAULTS,
    ),
]


def run(
    context: typer.Context,
    script: Script,
    steal: Steal = False,
    **overrides: Any,
) -> None:
    """Run a script or a module, with or without mpirun, and override arguments of its study.run.

    Unknown options, and everything after a --, go to the script.
    """
    program, arguments = Program.of(script, context.args)
    override(overrides, steal)
    program.run(arguments)


def override(overrides: Mapping[str, Any], steal: bool) -> None:
    """Put arguments for the script's `study.run` into the environment."""
    for name, value in overrides.items():
        if value is not None:
            os.environ[f"HYPPO_{name.upper()}"] = str(value)
    if steal:
        os.environ["HYPPO_STEAL"] = "1"


def take_overrides(command: Callable[..., None], without: tuple[str, ...] = ()) -> None:
    """Replace the `**overrides` of `command` by an option for each argument of `study.run`."""
    *own, last, _ = inspect.signature(command).parameters.values()
    options = []
    for name, about in OVERRIDES.items():
        if name not in without:
            option = typer.Option(min=about["least"], help=about["help"], rich_help_panel=about["panel"])
            kind: Any = about["kind"] | None
            options.append(inspect.Parameter(name, last.kind, default=None, annotation=Annotated[kind, option]))
    command.__annotations__ |= {option.name: option.annotation for option in options}
    command.__signature__ = inspect.Signature([*own, *options, last])  # type: ignore[attr-defined]


take_overrides(run)
