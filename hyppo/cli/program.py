"""The user's program: a script, or a module after -m; run as `python` runs it."""

import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Annotated

import typer

from hyppo import launch
from hyppo.errors import HyppoError, LaunchError
from hyppo.launch.mpi.world import launched_by_mpi
from hyppo.text import printable

ABOUT = "Python script that makes a study and runs it; or -m and the name of a module, as python takes it."
Script = Annotated[str, typer.Argument(metavar="SCRIPT | -m MODULE", help=ABOUT, show_default=False)]


@dataclass(frozen=True)
class Program:
    """A file to run, or a module.

    Attributes
    ----------
    name : str
        Path of the file, or name of the module.
    is_module : bool
    """

    name: str
    is_module: bool = False

    @classmethod
    def of(cls, script: str, arguments: Sequence[str]) -> tuple["Program", list[str]]:
        """The program that the words of a command name, and the arguments that are left for it.

        >>> Program.of("tune.py", ["-m", "large"])
        (Program(name='tune.py', is_module=False), ['-m', 'large'])
        >>> Program.of("-m", ["project.tune", "-m", "large"])
        (Program(name='project.tune', is_module=True), ['-m', 'large'])

        Raises
        ------
        LaunchError
            They name none.
        """
        if script == "-m" and arguments:
            return cls(arguments[0], True), list(arguments[1:])
        if script.startswith("-") and not os.path.exists(script):
            raise LaunchError(
                f"{printable(script)}: expected a script (tune.py) or a module (-m project.tune) first; options of the "
                "script go after it"
            )
        return cls(script), list(arguments)

    @property
    def words(self) -> list[str]:
        """The words that name it in a command."""
        return ["-m", self.name] if self.is_module else [self.name]

    @property
    def stem(self) -> str:
        """Its short name."""
        return self.name.rpartition(".")[2] if self.is_module else Path(self.name).stem

    def load(self) -> tuple[types.CodeType, types.ModuleType]:
        """Its code, and the empty `__main__` to run it in; puts its folder on `sys.path`, as `python` does.

        Raises
        ------
        LaunchError
            There is no such file or module, or it is no Python program.
        """
        main = types.ModuleType("__main__")
        if self.is_module:
            _search(os.getcwd())
            spec = _spec_of(self.name)
            code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
            if code is None:
                raise LaunchError(f"-m {printable(self.name)}: this module is not written in Python")
            main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
            main.__file__ = spec.origin
        else:
            path = _file(self.name)
            _search(str(path.parent))
            code = compile(_source(path, self.name), str(path), "exec")
            main.__file__ = str(path)
        return code, main

    def run(self, arguments: Sequence[str]) -> None:
        """Run it with `arguments`."""
        launch.guard()
        try:
            code, main = self.load()
            sys.argv[:] = [str(main.__file__) if self.is_module else self.name, *arguments]
            sys.modules["__main__"] = main
            exec(code, main.__dict__)
        except HyppoError:
            if launched_by_mpi():
                _report()
            raise
        except SystemExit:
            raise
        except BaseException:
            # Typer would take an EOFError for an abort by the user, so handle the error here.
            _report()


def _search(folder: str) -> None:
    """Look for modules in `folder` first, unless Python was told not to."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _spec_of(name: str) -> ModuleSpec:
    """The module, or the module `__main__` of a package; imports the packages that it is in."""
    shown = printable(name)
    if not name or name.startswith((".", "-")) or name.endswith(".py") or os.sep in name:
        raise LaunchError(f"-m {shown}: expected a module's name (project.tune); a script's path goes without the -m")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # one that its package imports
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        return _spec_of(f"{name}.__main__")
    if spec is None or spec.loader is None:
        package, _, last = name.rpartition(".")
        if last == "__main__":
            raise LaunchError(f"-m {printable(package)}: a package without __main__.py; name a module in it")
        raise LaunchError(
            f"-m {shown}: there is no such module in {os.getcwd()} or among the installed ones; start this in the "
            "folder above the package, or install it"
        )
    return spec


def _file(name: str) -> Path:
    path, shown = Path(name).resolve(), printable(name)
    if path.is_dir():
        raise LaunchError(f"{shown} is a folder: name the script in it; a package goes after -m")
    if os.path.exists(name) and not path.is_file():
        raise LaunchError(
            f"{shown} is no file that training processes could read again: write the script to a file and name that"
        )
    if not path.exists():
        raise LaunchError(f"{shown} does not exist: expected a Python script that makes a study and runs it")
    if path.suffix == ".ipynb":
        raise LaunchError(
            f"{shown} is a notebook: call study.run in it, or make it a script (jupyter nbconvert --to script {shown})"
        )
    return path


def _source(path: Path, name: str) -> bytes:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise LaunchError(f"{printable(name)} cannot be read: {error.strerror}") from error
    if b"\0" in source:
        raise LaunchError(f"{printable(name)} is not text: name the Python script that makes the study and runs it")
    return source


def _report() -> None:
    """Print the current error with its traceback from the program's first line on, as Python does, and exit."""
    kind, error, trace = sys.exc_info()
    assert kind is not None
    assert error is not None
    ours = (__file__, importlib.util.__file__)
    while trace is not None and ((name := trace.tb_frame.f_code.co_filename) in ours or name.startswith("<frozen ")):
        trace = trace.tb_next
    sys.excepthook(kind, error.with_traceback(trace), trace)
    raise SystemExit(130 if issubclass(kind, KeyboardInterrupt) else 1)
