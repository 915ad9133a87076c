"""The training process: `python -m hyppo.launch.child <fd to read> <fd to write>`.

One is kept warm per slot. It looks like the process that started it (`sys.path`, `sys.argv`, working directory), runs
the user's script once under another name where the objective lives in it, and trains what it is told to, one
training at a time. An unguarded `study.run` in that script is where it starts to serve.

A crash here is an end of file for whoever waits; nothing else dies with it. It imports neither numba nor h5py nor
mpi4py.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib.util
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn

from hyppo.launch.objective import MAIN, find
from hyppo.launch.wire import (
    Began,
    ByName,
    Done,
    End,
    Ready,
    Report,
    Script,
    Setup,
    Stop,
    Train,
    Unready,
    readable,
    receive,
    resident_memory,
    send,
)
from hyppo.training.call import train
from hyppo.training.frameworks import clear
from hyppo.training.replica import Failure, Outcome, Replica

MESSAGE_LIMIT = 10_000  # characters of an exception's message; its traceback gets four times as many
PR_SET_PDEATHSIG = 1
COLLECT_EVERY = 20  # trainings; a collection takes 0.1 s with torch loaded, too much after each very short one


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; leave where it ended already.

    Without this a busy training outlives its rank, and mpiexec does not return.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def survive_signals() -> None:
    """Leave it to the process that asks what a Ctrl-C or a batch system's warning means for a training.

    Batch systems signal every process of a job at once. A copy of this process that a training forked (a pool, a
    data loader) keeps the default behaviour: those are ended by SIGTERM.
    """
    own = os.getpid()

    def ignore(number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, ignore)


def run_script(script: Script) -> None:
    """Run the user's script, as `MAIN` and registered under that name and as `__main__`.

    Pickles name either, and a spawned data loader looks for the file of `__main__`.
    """
    module = types.ModuleType(MAIN)
    module.__file__ = script.path
    if script.name is None:
        with open(script.path, "rb") as file:
            code = compile(file.read(), script.path, "exec")
    else:
        spec = importlib.util.find_spec(script.name)
        if spec is None or spec.loader is None:
            raise ImportError(f"module {script.name} is not found in the training process; sys.path is {sys.path}")
        code = spec.loader.get_code(script.name)  # type: ignore[attr-defined]
        module.__spec__ = spec
        module.__package__ = spec.parent
    sys.modules["__main__"] = sys.modules[MAIN] = module
    with contextlib.suppress(SystemExit):  # a script may end itself early
        exec(code, module.__dict__)


def shorten(failure: Failure) -> Failure:
    """The same failure with its text cut to what is worth keeping."""

    def cut(text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        return f"{text[: limit // 2]}\n... {len(text) - limit} characters left out ...\n{text[-limit // 2 :]}"

    return Failure(failure.type, cut(failure.message, MESSAGE_LIMIT), cut(failure.traceback, 4 * MESSAGE_LIMIT))


class Server:
    """Serves one end of a pair of pipes: the state of a training process."""

    def __init__(self, requests: int, replies: int, script: Script | None) -> None:
        self.training = False
        self._requests = requests
        self._replies = replies
        self._script = script
        self._script_ran = False
        self._current: Train | None = None
        self._key: int | None = None  # of the latest objective, the only one that is kept
        self._objective: Callable[..., Any] | None = None
        self._stopped = False
        self._saw_stop = False
        self._pid = os.getpid()
        self._count = 0

    def serve(self) -> NoReturn:
        """Train until told to leave. Entered again from inside the script, where that reaches `study.run`."""
        while True:
            if self._current is None:
                try:
                    message = receive(self._requests)
                except (EOFError, OSError):
                    leave()
                if isinstance(message, End):
                    leave()
                if not isinstance(message, Train):  # a Stop that came after its training ended
                    continue
                self._current = message
            request = self._current
            try:
                objective = self._find(request)
            except BaseException as error:
                self._current = None
                send(self._replies, Unready(shorten(Failure.of(error))))
                continue
            self._current = None
            self._train(request, objective)

    def _find(self, request: Train) -> Callable[..., Any]:
        reference = request.objective
        if reference is None:
            assert request.key == self._key
            assert self._objective is not None
            return self._objective
        if isinstance(reference, ByName) and reference.module == "__main__" and not self._script_ran:
            if self._script is None:
                raise ImportError(f"{reference.qualname} lives in __main__, and __main__ is no script")
            self._script_ran = True
            run_script(self._script)
        self._objective = find(reference)
        self._key = request.key
        return self._objective

    def _train(self, request: Train, objective: Callable[..., Any]) -> None:
        place = request.place
        before = dict(os.environ)
        os.environ.update(place.environ)
        self._stopped = self._saw_stop = False
        replica = Replica(
            request.task,
            devices=place.devices,
            rank=place.rank,
            world_size=place.world_size,
            on_report=self._report,
            stop_asked=self._stop_asked,
        )
        start = time.time()
        send(self._replies, Began(start))
        self.training = True
        try:
            outcome = train(objective, replica)
        except BaseException as error:  # an interrupt that the training sent itself, a directory that is gone
            outcome = Outcome(None, Failure.of(error), start, time.time(), tuple(replica.curve))
        self.training = False
        if os.getpid() != self._pid:  # a copy forked by the user's function, which came back from it as well
            os._exit(0)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if outcome.failure is not None:
            failure = shorten(outcome.failure)
            outcome = Outcome(None, failure, outcome.start, outcome.end, outcome.curve, outcome.host)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the user's function may have closed or replaced it
                stream.flush()
        del replica
        self._count += 1
        if place.world_size > 1 or outcome.end - outcome.start > 1.0 or self._count % COLLECT_EVERY == 0:
            with contextlib.suppress(Exception):  # a framework that cannot be cleared has trained all the same
                clear()
            gc.collect()
        send(self._replies, Done(outcome, self._saw_stop, resident_memory(self._pid)))

    def _report(self, step: int, loss: float) -> None:
        if os.getpid() == self._pid:
            send(self._replies, Report(step, loss))

    def _stop_asked(self) -> bool:
        if os.getpid() == self._pid:
            while readable([self._requests], 0.0):
                try:
                    message = receive(self._requests)
                except EOFError:
                    leave()  # the rank is gone: nobody waits for this training
                self._stopped = self._stopped or isinstance(message, Stop)
        self._saw_stop = self._saw_stop or self._stopped
        return self._stopped


def leave() -> NoReturn:
    """End this process without going through the user's script, in which it may be serving."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


server: Server | None = None


def main(requests: int, replies: int, parent: int) -> NoReturn:
    """Set this process up as it is told, and serve."""
    global server
    die_with(parent)
    survive_signals()
    faulthandler.enable()
    for fd in (requests, replies):
        os.set_inheritable(fd, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    setup = receive(requests)
    assert isinstance(setup, Setup)
    sys.path[:] = setup.path
    sys.argv[:] = setup.argv
    os.chdir(setup.directory)
    os.environ.pop("PYTHONPATH", None)
    if setup.pythonpath is not None:
        os.environ["PYTHONPATH"] = setup.pythonpath
    server = Server(requests, replies, setup.script)
    send(replies, Ready())
    server.serve()


if __name__ == "__main__":
    # By its real name: what the script imports must find this module's state.
    from hyppo.launch import child

    child.main(*(int(argument) for argument in sys.argv[1:4]))
