"""The training process: `python -m hyppo.launch.child <fd to read> <fd to write>`.

Each slot has one, which trains one request after another. It has the `sys.path`, `sys.argv` and working directory of
the process that started it. If the objective is defined in the user's script, it runs that script once, under another
name; if the script calls `study.run` unguarded, the process serves requests from inside that call.

If this process crashes, the waiting process reads an end of file, and nothing else ends. It imports neither numba nor
h5py nor mpi4py.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import importlib.util
import os
import select
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from hyppo.errors import HyppoWarning
from hyppo.forks import at_fork
from hyppo.launch.objective import MAIN, find
from hyppo.launch.spawned_main import SCRIPT
from hyppo.launch.wire import (
    STOP_SIGNALS,
    Began,
    ByName,
    Done,
    End,
    Notice,
    Ready,
    Reply,
    Report,
    Script,
    Setup,
    Stop,
    Train,
    Unready,
    readable,
    receive,
    reply,
    resident_memory,
)
from hyppo.seeds import script_seed_for
from hyppo.training.call import free, train_and_free
from hyppo.training.replica import Failure, Outcome, Replica
from hyppo.training.seeding import drawn, imports_without_draws, seed_everything

MESSAGE_LIMIT = 10_000  # characters of an exception's message; four times as many of its traceback
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends; exit now if it has already ended.

    Without this a busy training outlives its rank, and mpiexec does not return.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class StopSignals:
    """Record the signals by which batch systems and terminals ask for a stop, without stopping.

    Batch systems signal every process of a job at once, and a terminal sends Ctrl-C to all of them. The process that
    runs the study decides what that means for a training. A framework may set its own handlers (Lightning does), so
    the signals are recorded below Python's handlers. A process that the training forked (a pool, a data loader) ends
    on SIGTERM, by which pools end their workers. It lives on after the other signals: the training would lose the
    loader's workers before it has saved its state.

    Slurm's warning, SIGUSR1, is ignored, not recorded. It goes to every process of a job step, also to programs that
    the training executes. An ignored signal, other than one with a handler, stays ignored in these.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        for fd in (self._read, write):
            os.set_blocking(fd, False)

        def ignore(number: int, frame: types.FrameType | None) -> None:
            pass

        def end_by_sigterm() -> None:
            signal.set_wakeup_fd(-1)
            if signal.getsignal(signal.SIGTERM) is ignore:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGUSR1 else ignore)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        at_fork(end_by_sigterm, STOP_SIGNALS)

    def came(self) -> bool:
        """Whether a signal has arrived since the last call."""
        numbers = b""
        with contextlib.suppress(OSError):  # BlockingIOError: none is left
            while piece := os.read(self._read, 4096):
                numbers += piece
        return any(number in STOP_SIGNALS for number in numbers)


def pass_on_notices() -> None:
    """Send warnings of `hyppo` and its integrations to the process that runs the study, which prints them.

    The output of a training may go to a file that nobody reads.
    """
    show = warnings.showwarning

    def pass_on(message: Any, category: type[Warning], *place: Any, **others: Any) -> None:
        if issubclass(category, HyppoWarning) and server is not None and server.training:
            server.notice(str(message))
        else:
            show(message, category, *place, **others)

    warnings.showwarning = pass_on


def start_watchdog(requests: int) -> int:
    """Start a process that kills this process group once the other end of `requests` is closed. Return its number.

    The other end is closed if the process that runs the study was killed; processes that a training started must not
    outlive it. The watchdog is forked before anything large is imported, and is not a child of this process.
    """
    if sys.platform != "linux":
        return 0
    read, write = os.pipe()
    if os.fork() == 0:
        pid = os.fork()
        if pid == 0:
            _watch(requests)
        os.write(write, str(pid).encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="ascii") as file:
        pid = int(file.read())
    with contextlib.suppress(ChildProcessError):
        os.wait()
    return pid


def _watch(requests: int) -> NoReturn:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, requests)
    os.closerange(requests + 1, 4096)
    poll = select.poll()
    poll.register(requests, 0)
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        pass
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def run_script(script: Script) -> None:
    """Run the user's script as a module registered as `MAIN` and as `__main__`.

    Pickles refer to either name, and a spawned data loader looks for the file of `__main__`. Processes that do not run
    the script, such as joblib's, get its functions by value, as they do from `__main__`.
    """
    import cloudpickle  # 20 ms, which no process without a script needs

    module = types.ModuleType(MAIN)
    module.__file__ = script.path
    if script.name is None:
        with open(script.path, "rb") as file:
            code = compile(file.read(), script.path, "exec")
        # multiprocessing reads this to find the main module of the processes that it spawns.
        module.__spec__ = importlib.util.find_spec("hyppo.launch.spawned_main")
        module.__package__ = ""
        os.environ[SCRIPT] = script.path
    else:
        spec = importlib.util.find_spec(script.name)
        if spec is None or spec.loader is None:
            raise ImportError(f"module {script.name} is not found in the training process; sys.path is {sys.path}")
        code = spec.loader.get_code(script.name)  # type: ignore[attr-defined]
        module.__spec__ = spec
        module.__package__ = spec.parent
    sys.modules["__main__"] = sys.modules[MAIN] = module
    cloudpickle.register_pickle_by_value(module)
    with contextlib.suppress(SystemExit):  # a script may end itself early
        exec(code, module.__dict__)


def shorten(failure: Failure) -> Failure:
    """The same failure with its texts shortened."""

    def cut(text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        return f"{text[: limit // 2]}\n... {len(text) - limit} characters left out ...\n{text[-limit // 2 :]}"

    return Failure(failure.type, cut(failure.message, MESSAGE_LIMIT), cut(failure.traceback, 4 * MESSAGE_LIMIT))


class Server:
    """Serves the requests of one pair of pipes; holds the state of the training process."""

    def __init__(self, requests: int, replies: int, setup: Setup, signals: StopSignals) -> None:
        self.training = False
        self._signals = signals
        self._script_seed = script_seed_for(setup.root)
        self._lock = threading.Lock()  # a training may report from several threads
        self._requests = requests
        self._replies = replies
        self._script = setup.script
        self._directory = setup.directory
        self._script_ran = self._script_checked = False
        self._script_scope = contextlib.ExitStack()
        self._current: Train | None = None
        self._key: int | None = None  # of the latest objective; only that one is kept
        self._objective: Callable[..., Any] | None = None
        self._stopped = False
        self._saw_stop = False
        self._pid = os.getpid()

    def serve(self) -> NoReturn:
        """Train until told to exit. `study.run` calls it again if the script reaches it."""
        self._script_scope.close()
        while True:
            if self._current is None:
                try:
                    message = receive(self._requests)
                except (EOFError, OSError):
                    leave()
                if isinstance(message, End):
                    leave()
                if not isinstance(message, Train):  # a Stop that arrived after its training ended
                    continue
                self._current = message
            request = self._current
            try:
                objective = self._find(request)
            except BaseException as error:
                self._current = None
                self._reply(Unready(shorten(Failure.of(error))))
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
                raise ImportError(f"{reference.qualname} is defined in __main__, and __main__ is not a script")
            self._script_ran = True
            # A split drawn at the top level is the same in every training process.
            seed_everything(self._script_seed)
            with self._script_scope:
                self._script_scope.enter_context(imports_without_draws())
                if self._script.directory is not None:  # if the script leaves it, it does so again
                    os.chdir(self._script.directory)
                run_script(self._script)
        if self._script_ran and not self._script_checked:  # also if the script serves here, in its `study.run`
            self._script_checked = True
            if names := drawn(self._script_seed):
                self.notice(
                    f"the script draws random numbers at its top level ({', '.join(names)}). They are the same in all "
                    "training processes, but other numbers in the process that runs the study. If that process uses "
                    "them too, as a test set for example, draw them from a seeded generator, such as "
                    "numpy.random.default_rng(0)"
                )
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
        self._signals.came()
        self._reply(Began(start))
        self.training = True
        try:
            os.chdir(self._directory)
            outcome, usable = train_and_free(objective, replica)
        except BaseException as error:  # for example an interrupt that the training sent itself, or a deleted directory
            outcome, usable = Outcome(None, Failure.of(error), start, time.time(), tuple(replica.curve)), free()
        self.training = False
        if os.getpid() != self._pid:  # a fork made by the user's function, which returned from it too
            os._exit(0)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if outcome.failure is not None:
            outcome = replace(outcome, loss=None, failure=shorten(outcome.failure), losses=None, criterion=None)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the user's function may have closed or replaced it
                stream.flush()
        del replica
        # A framework turns a stop into its own exception; the training did not fail.
        cut = self._signals.came() and outcome.failure is not None and not outcome.diverged
        self._reply(Done(outcome, self._saw_stop or cut, resident_memory(self._pid), usable))

    def _reply(self, message: Reply) -> None:
        with self._lock:
            reply(self._replies, message)

    def notice(self, text: str) -> None:
        """Show a line to the person who runs the study."""
        if os.getpid() == self._pid:
            self._reply(Notice(text))

    def _report(self, step: int, loss: float) -> None:
        if os.getpid() == self._pid:
            self._reply(Report(step, loss))

    def _stop_asked(self) -> bool:
        if os.getpid() == self._pid:
            while readable([self._requests], 0.0):
                try:
                    message = receive(self._requests)
                except EOFError:
                    leave()  # the process that waited for this training has ended
                self._stopped = self._stopped or isinstance(message, Stop)
        self._saw_stop = self._saw_stop or self._stopped
        return self._stopped


def leave() -> NoReturn:
    """End this process without returning to the user's script, from which `serve` may have been called.

    The work at exit is done in the order of the interpreter: first the pools of `concurrent.futures` and joblib finish
    and end their workers, then come the functions of `atexit`.
    """
    for finish in (*reversed(threading._threading_atexits), atexit._run_exitfuncs):  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            finish()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


server: Server | None = None


def main(requests: int, replies: int, parent: int) -> NoReturn:
    """Set up this process as `Setup` says, and serve."""
    global server
    die_with(parent)
    signals = StopSignals()
    watchdog = start_watchdog(requests)
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
    server = Server(requests, replies, setup, signals)
    pass_on_notices()
    reply(replies, Ready(watchdog))
    server.serve()


if __name__ == "__main__":
    # Imported under its real name, so that imports of the script find the same module state.
    from hyppo.launch import child

    child.main(*(int(argument) for argument in sys.argv[1:4]))
