"""Studies on executors that are not ours: process pools, dask's, mpi4py's."""

import concurrent.futures
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import hyppo
from hyppo.errors import LaunchError, StudyError
from hyppo.launch.executor import OnExecutor
from hyppo.launch.surroundings import LAUNCHER
from hyppo.loop import Stopped

from .workers_contract import perform, task, train, until

pytestmark = pytest.mark.timeout(90)

ENVIRON = {k: v for k, v in os.environ.items() if not LAUNCHER.match(k)}
ENVIRON |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ENVIRON |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
# A worker of dask's whose heartbeat meets a scheduler that has closed would print a traceback of its own.
ENVIRON |= {"DASK_LOGGING__DISTRIBUTED": "critical"}
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

# A user's script: the function lives in it, and each executor has its own way to the function.
SCRIPT = """
import os, sys, time
import numpy as np
import hyppo

def train(replica):
    (replica.directory / "pid").write_text(str(os.getpid()))
    while len({path.read_text() for path in replica.directory.parent.parent.glob("*/*/pid")}) < PROCESSES:
        time.sleep(0.01)  # the second one may start late
    if replica.trial == 1 and replica.index == 0:
        raise ArithmeticError("diverged")
    return replica.params["x"] ** 2 + 0.01 * np.random.default_rng(replica.seed).normal()

study = hyppo.Study(hyppo.Space(x=hyppo.Real(-1, 1)), train, log=sys.argv[1], replicas=2, seed=3, surrogate="rbf")
if __name__ == "__main__":
"""
RUN = "study.run(trials=6, executor=executor, workers=2, progress=False)\nprint(len(study.trials), 'trials')"
RUNS = {
    "alone": "study.run(trials=6, progress=False)\nprint(len(study.trials), 'trials')",
    "pool": f"""
import concurrent.futures
with concurrent.futures.ProcessPoolExecutor(2) as executor:
{textwrap.indent(RUN, "    ")}
""",
    "spawned pool": f"""
import concurrent.futures, multiprocessing
with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
{textwrap.indent(RUN, "    ")}
""",
    "dask": f"""
from dask.distributed import Client
with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
    executor = client.get_executor()
{textwrap.indent(RUN, "    ")}
""",
    "mpi4py": f"""
from mpi4py.futures import MPIPoolExecutor
with MPIPoolExecutor() as executor:
{textwrap.indent(RUN, "    ")}
""",
    "mpi4py, on a communicator": f"""
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor
with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
    if executor is not None:
{textwrap.indent(RUN, "        ")}
""",
}


def study_on(kind, folder, *command):
    """Trials of the script on an executor, and the processes that trained."""
    script, log = folder / "script.py", folder / "s.h5"
    source = SCRIPT.replace("PROCESSES", "1" if kind == "alone" else "2")
    script.write_text(source + textwrap.indent(RUNS[kind], "    "))
    run = subprocess.run(
        [*command, str(script), str(log)], env=ENVIRON, cwd=folder, capture_output=True, text=True, timeout=80
    )
    assert (run.returncode, run.stdout) == (0, "6 trials\n"), run.stderr
    assert run.stderr.count("Traceback") == 1, run.stderr  # that of the training that fails
    return hyppo.load(log).trials, {path.read_text() for path in folder.glob("s.h5.d/*/*/pid")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return study_on("alone", tmp_path_factory.mktemp("alone"), sys.executable)[0]


def losses(trials):
    return [(t.number, [(r.index, r.seed, r.state, r.loss) for r in t.replicas]) for t in trials]


@pytest.mark.parametrize(
    "kind",
    [
        "pool",
        "spawned pool",
        "dask",
        pytest.param("mpi4py", marks=pytest.mark.mpi),
        pytest.param("mpi4py, on a communicator", marks=pytest.mark.mpi),
    ],
)
def test_a_study_on_an_executor(tmp_path, alone, kind):
    command = [sys.executable]
    if kind == "dask":
        pytest.importorskip("distributed")
    elif kind.startswith("mpi4py"):
        if MPIEXEC is None:
            pytest.skip("there is no mpiexec")
        command = [MPIEXEC, "-n", "3", sys.executable]
        if kind == "mpi4py":
            command += ["-m", "mpi4py.futures"]
    trials, workers = study_on(kind, tmp_path, *command)
    assert [t.number for t in trials] == list(range(6))
    assert len(workers) == 2
    assert trials[1].replicas[0].failure.type == "ArithmeticError"
    assert "in train" in trials[1].replicas[0].failure.traceback
    # Two at a time as against one: the points of the design are the same, later ones were asked knowing less.
    assert losses(trials)[:2] == losses(alone)[:2]
    assert [[r.seed for r in t.replicas] for t in trials] == [[r.seed for r in t.replicas] for t in alone]


def test_an_executor_must_say_how_many_it_trains():
    class Mute(concurrent.futures.Executor):
        pass

    with pytest.raises(StudyError, match="workers=n"):
        OnExecutor(perform, Mute())


@pytest.mark.parametrize("given", [4, "process", concurrent.futures.ProcessPoolExecutor])
def test_what_is_no_executor_is_refused_before_a_training(given):
    with pytest.raises(StudyError, match=r"expected a concurrent\.futures\.Executor"):
        OnExecutor(perform, given, 2)


class OtherFutures:
    """Like dask's client: its `submit` returns a future of another library."""

    def submit(self, function, *arguments):
        return object()


def test_other_futures_are_an_error_that_names_them():
    workers = OnExecutor(perform, OtherFutures(), 2)
    with pytest.raises(StudyError, match=r"OtherFutures.*submit returns a builtins\.object"):
        train(workers, task("square"))


class Cancels(concurrent.futures.Executor):
    """As a cluster that is restarted: it cancels a training that nobody asked it to cancel."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_training_that_an_executor_cancels_or_refuses_is_a_launch_error():
    with pytest.raises(LaunchError, match="cancelled"):
        train(OnExecutor(perform, Cancels(), 1), task("square"))
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        pass
    with pytest.raises(LaunchError, match=r"refused trial 0 replica 0: RuntimeError.*after shutdown"):
        train(OnExecutor(perform, executor), task("square"))


class Summarises(concurrent.futures.Executor):
    """An adapter that looks into the result, and forgets to return it."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(print(function(*arguments).loss))
        return future


def test_an_executor_that_returns_something_else_is_a_launch_error():
    with pytest.raises(LaunchError, match="not None"):
        train(OnExecutor(perform, Summarises(), 1), task("square"))


def test_losses_are_kept_when_an_executor_refuses_the_next_training(tmp_path):
    class Twice(concurrent.futures.ThreadPoolExecutor):
        left = 2

        def submit(self, function, /, *arguments):
            self.left -= 1
            if self.left < 0:
                raise OSError("no more jobs today")
            return super().submit(function, *arguments)

    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: 1.0, log=tmp_path / "s.h5", replicas=2)
    with Twice(1) as executor, pytest.raises(LaunchError, match="no more jobs today"):
        study.run(trials=3, executor=executor, progress=False)
    assert [replica.loss for trial in study.trials for replica in trial.replicas][:2] == [1.0, 1.0]
    study.run(trials=3, progress=False)
    assert [trial.mean for trial in study.trials] == [1.0, 1.0, 1.0]


SLEEPS = """
import concurrent.futures, multiprocessing, sys, time
import hyppo

def train(replica):
    replica.directory
    time.sleep(60 if replica.trial else 0)
    return 1.0

study = hyppo.Study(hyppo.Space(x=hyppo.Real(-1, 1)), train, log="s.h5", replicas=1)
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as executor:
        study.run(trials=6, executor=executor)
"""


@pytest.mark.parametrize(
    ("method", "number"), [("spawn", signal.SIGINT), ("spawn", signal.SIGTERM), ("fork", signal.SIGTERM)]
)
def test_a_signal_to_a_run_and_the_workers_of_its_executor_stops_the_run(tmp_path, method, number):
    """A terminal and a batch system signal both."""
    (tmp_path / "script.py").write_text(SLEEPS)
    command = [sys.executable, "script.py", method]
    running = subprocess.Popen(
        command, env=ENVIRON, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(list(tmp_path.glob("s.h5.d/*/*"))) < 3 and running.poll() is None:
        time.sleep(0.05)
    os.killpg(running.pid, number)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == (130 if number == signal.SIGINT else 0), errors
    assert f"stopped by {number.name}" in errors
    assert "trainings stay pending" in errors
    assert "LaunchError" not in errors
    first, *others = (str(trial.state) for trial in hyppo.load(tmp_path / "s.h5").trials)
    assert (first, set(others)) == ("done", {"pending"})


class OnThreads(concurrent.futures.Executor):
    """As those of dask and Ray: its futures are pending until they are done."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        threading.Thread(target=lambda: future.set_result(function(*arguments))).start()
        return future


def test_a_stop_waits_for_trainings_that_run_and_cancels_those_that_wait():
    workers = OnExecutor(perform, OnThreads(), 1)
    future = workers.submit(task("sleep", x=0.3), 0)
    workers.request_stop()
    until(workers, future.done)
    assert future.result().loss == 0.0
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        workers = OnExecutor(perform, executor, 2)
        runs, waits = (workers.submit(task("sleep", x=0.3), slot) for slot in (0, 1))
        workers.request_stop()
        until(workers, lambda: runs.done() and waits.done())
    assert runs.result().loss == 0.0
    with pytest.raises(Stopped):
        waits.result()


def test_an_executor_that_breaks_is_a_launch_error():
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        workers = OnExecutor(perform, executor)
        future = workers.submit(task("kill"), 0)
        until(workers, future.done)
        with pytest.raises(LaunchError, match="lost trial 0 replica 0: BrokenProcessPool"):
            future.result()


def test_two_trainings_at_a_time_in_one_process_are_a_launch_error():
    """They share the random generators: which numbers each draws would depend on their timing."""

    def linger(replica):
        time.sleep(0.5)
        return 0.0

    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), linger, replicas=1)
    with (
        concurrent.futures.ThreadPoolExecutor(2) as executor,
        pytest.raises(LaunchError, match="two trainings run at a time in one process"),
    ):
        study.run(trials=2, executor=executor, progress=False)
    assert not [replica for trial in study.trials for replica in trial.replicas if replica.failure]
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        study.run(trials=2, executor=executor, progress=False)
    assert [trial.mean for trial in study.trials] == [0.0, 0.0]


def test_what_a_worker_does_not_find_by_name_goes_by_value():
    """As to dask's workers, which know nothing of the script."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        workers = OnExecutor(perform, executor)
        name, workers._transport.reference = workers._transport.reference, hyppo.launch.wire.ByName("gone", "perform")
        assert train(workers, task("square", x=3.0)).loss == 9.0
        assert workers._transport.reference != name


ANOTHER_PROGRAM = """
import concurrent.futures, multiprocessing, sys, types
import hyppo

def main(replica):
    return 3.0

def become_another_program():
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].main = lambda replica: 4.0

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, become_another_program) as executor:
        study = hyppo.Study(hyppo.Space(x=hyppo.Real(-1, 1)), main, replicas=1)
        study.run(trials=2, executor=executor, progress=False)
        print([trial.mean for trial in study.trials])
"""


def test_a_function_of_the_same_name_in_the_program_of_a_worker_is_not_trained(tmp_path):
    """As `main` of dask's workers."""
    (tmp_path / "script.py").write_text(ANOTHER_PROGRAM)
    command = [sys.executable, "script.py"]
    run = subprocess.run(command, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[3.0, 3.0]\n", run.stderr


def test_what_no_worker_can_load_is_a_launch_error():
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        workers = OnExecutor(Unloadable(), executor)
        with pytest.raises(LaunchError, match="define it at the top level"):
            train(workers, task("square"))


class Unloadable:
    """An objective that travels, and does not arrive."""

    def __reduce__(self):
        return (int, ("no number",))

    def __call__(self, replica):
        return 0.0
