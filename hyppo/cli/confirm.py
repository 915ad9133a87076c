"""`hyppo confirm tune.py`: the script's study confirms its recommendation instead of searching."""

import json
import os
from typing import Annotated, Any

import typer

from hyppo.arguments import quoted
from hyppo.cli.program import Program, Script
from hyppo.cli.run import Steal, override, take_overrides
from hyppo.errors import StudyError
from hyppo.loop.options import CONFIRM


def confirm(
    context: typer.Context,
    script: Script,
    replicas: Annotated[
        str, typer.Option(help="Trainings with new seeds: a number, or FEWEST,MOST to stop when the result is clear.")
    ] = "10",
    against: Annotated[
        str | None, typer.Option(help="Name or number of a trial to compare with, which gets as many trainings.")
    ] = None,
    steal: Steal = False,
    **overrides: Any,
) -> None:
    """Train the recommendation of a script's study again, and check whether its estimate holds.

    This runs the script, with or without mpirun, up to its study.run, which confirms instead of searching. The same
    command continues an interrupted confirmation. Unknown options, and everything after a --, go to the script.

    Example: hyppo confirm tune.py --replicas 10 --against baseline
    """
    try:
        several = [int(number) for number in replicas.split(",")]
    except ValueError:
        raise StudyError(f"--replicas: expected a number, or two with a comma, got {quoted(replicas)}") from None
    which = int(against) if against is not None and against.isdecimal() else against
    os.environ[CONFIRM] = json.dumps({"replicas": several[0] if len(several) == 1 else several, "against": which})
    program, arguments = Program.of(script, context.args)
    override(overrides, steal)
    program.run(arguments)


take_overrides(confirm, without=("trials", "trainings", "time_limit"))
