"""`hyppo run tune.py`: run a script like `python tune.py`, and override the arguments of its `study.run`."""

import inspect
import os
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hyppo import launch
from hyppo.errors import HyppoError
from hyppo.launch.mpi.world import launched_by_mpi
from hyppo.loop.options import FAULTS, OVERRIDES

Script = Annotated[
    Path, typer.Argument(help="Python script that makes a study and runs it.", exists=True, dir_okay=False)
]
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
    """Run a script, with or without mpirun, and override arguments of its study.run.

    Unknown options, and everything after a --, go to the script.
    """
    override(overrides, steal)
    execute(script, context.args)


def override(overrides: Mapping[str, Any], steal: bool) -> None:
    """Put arguments for the script's `study.run` into the environment."""
    for name, value in overrides.items():
        if value is not None:
            os.environ[f"HYPPO_{name.upper()}"] = str(value)
    if steal:
        os.environ["HYPPO_STEAL"] = "1"


def execute(script: Path, arguments: list[str]) -> None:
    """Run a script with `arguments` as `python script` does."""
    launch.guard()
    path = script.resolve()
    sys.argv[:] = [str(script), *arguments]
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
        # Typer would take an EOFError for an abort by the user, so handle the error here.
        _report(path)


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


def _report(path: Path) -> None:
    """Print the current error with its traceback from the script's first line on, as Python does, and exit."""
    kind, error, trace = sys.exc_info()
    assert kind is not None
    assert error is not None
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    sys.excepthook(kind, error.with_traceback(trace), trace)
    raise SystemExit(130 if issubclass(kind, KeyboardInterrupt) else 1)


take_overrides(run)
