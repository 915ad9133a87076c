"""`hyppo run tune.py`: the script as `python tune.py` runs it, with the arguments of its `study.run` overridden."""

import os
import sys
import types
from pathlib import Path
from typing import Annotated

import typer

from hyppo import launch
from hyppo.errors import HyppoError
from hyppo.launch.mpi.world import launched_by_mpi
from hyppo.loop import OVERRIDES

BUDGET = "Budget"
RANKS = "MPI ranks"
FAULTS = "Faults"


def run(
    context: typer.Context,
    script: Annotated[
        Path, typer.Argument(help="Python script that makes a study and runs it.", exists=True, dir_okay=False)
    ],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, those in the log counted.", rich_help_panel=BUDGET)
    ] = None,
    trainings: Annotated[
        int | None, typer.Option(min=1, help="Trainings in all, those in the log counted.", rich_help_panel=BUDGET)
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which nothing new is started.", rich_help_panel=BUDGET)
    ] = None,
    trial_groups: Annotated[int | None, typer.Option(min=1, help="Trials at a time.", rich_help_panel=RANKS)] = None,
    replica_groups: Annotated[
        int | None, typer.Option(min=1, help="Replicas of a trial at a time.", rich_help_panel=RANKS)
    ] = None,
    data_parallel: Annotated[
        int | None, typer.Option(min=1, help="Ranks that train one replica together.", rich_help_panel=RANKS)
    ] = None,
    manager: Annotated[
        str | None,
        typer.Option(
            help="Whether rank 0 only asks ('dedicated') or trains as well ('shared'): by default the latter where a "
            "GPU would idle otherwise.",
            rich_help_panel=RANKS,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Training processes, without MPI.", rich_help_panel=RANKS)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Compute threads of a training process.", rich_help_panel=RANKS)
    ] = None,
    replica_timeout: Annotated[
        float | None, typer.Option(help="Seconds after which a training is killed.", rich_help_panel=FAULTS)
    ] = None,
    stall_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds without a report after which a training is killed.", rich_help_panel=FAULTS),
    ] = None,
    memory_limit: Annotated[
        float | None, typer.Option(help="GB above which a training is killed.", rich_help_panel=FAULTS)
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(min=0, help="Further tries where a training's process died or hung.", rich_help_panel=FAULTS),
    ] = None,
    grace: Annotated[
        float | None, typer.Option(help="Seconds that trainings get to end by themselves.", rich_help_panel=FAULTS)
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="What trainings print: 'relay' to stdout, or 'file' in their directory.")
    ] = None,
    progress: Annotated[bool | None, typer.Option(help="Show how it goes.")] = None,
    steal: Annotated[
        bool,
        typer.Option(
            "--steal",
            help="Take the study over from a process on another host that is gone.",
            rich_help_panel=FAULTS,
        ),
    ] = False,
) -> None:
    """Run a script, alone or under mpirun, with arguments of its study.run overridden.

    Options that hyppo does not know go to the script, and so does everything after a --.
    """
    for name in OVERRIDES:
        value = context.params.get(name)
        if value is not None:
            os.environ[f"HYPPO_{name.upper()}"] = str(value)
    if steal:
        os.environ["HYPPO_STEAL"] = "1"
    launch.guard()
    path = script.resolve()
    sys.argv[:] = [str(script), *context.args]
    if not sys.flags.safe_path:
        sys.path[0] = str(path.parent)
    main = types.ModuleType("__main__")
    main.__file__ = str(path)
    sys.modules["__main__"] = main
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), main.__dict__)
    except HyppoError:
        if launched_by_mpi():
            _report(path)
        raise
    except SystemExit:
        raise
    except BaseException:
        # Not left to the command line's own handling, which takes an EOFError for an abort by the user.
        _report(path)


def _report(path: Path) -> None:
    """Print the error that is being handled from the script's first line on, as Python would, and exit."""
    kind, error, trace = sys.exc_info()
    assert kind is not None
    assert error is not None
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    sys.excepthook(kind, error.with_traceback(trace), trace)
    raise SystemExit(130 if issubclass(kind, KeyboardInterrupt) else 1)
