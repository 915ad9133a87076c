"""One objective that does what its point says, well-behaved or not: for the tests of whatever trains."""

import atexit
import concurrent.futures
import ctypes
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np

from hyppo import HyppoWarning, ObjectiveError
from hyppo.training.frameworks import FRAMEWORKS, Framework


class Diverged(RuntimeError):
    """An exception of the user's own."""


def perform(replica):
    return DEEDS[replica.params["do"]](replica)


def _square(replica):
    replica.report(0, 1.0)
    replica.report(1, 0.5)
    return replica.params["x"] ** 2


def _reseed(replica):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    return 1.0


def _draw(replica):
    return random.random() + np.random.rand()  # noqa: NPY002 - what users' code draws from


def _raise(replica):
    raise Diverged("gradient is a NaN")


def _nan(replica):
    return float("nan")


def _text(replica):
    return "0.5"


def _exit(replica):
    print("about to leave")
    sys.stdout.flush()
    os._exit(7)


def _segfault(replica):
    ctypes.string_at(0)


def _kill(replica):
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(replica):
    replica.report(0, 1.0)
    while True:
        pass


def _sleep(replica):
    time.sleep(replica.params.get("x", 0.1))
    return 0.0


def _patient(replica):
    for step in range(1000):
        replica.report(step, 1.0)
        if replica.should_stop:
            return float(step)
        time.sleep(0.02)
    return -1.0


def _print(replica):
    for _ in range(40):
        print("x" * 100_000)
        print("y" * 100_000, file=sys.stderr)
    return 1.0


def _bar(replica):
    print("start", end="\r\n")
    for percent in range(0, 101, 5):
        print(f"\r{percent} %", end="", flush=True)
        time.sleep(0.005)
    print()
    print("end without newline", end="")
    return 1.0


def _fork(replica):
    if os.fork() == 0:
        return 99.0  # a copy that comes back as well
    return 1.0


def _chdir(replica):
    os.chdir("/")
    return 1.0


def _where(replica):
    return float(os.getcwd() == "/")


def _daemon(replica):
    replica.directory.joinpath("pid").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
    return 1.0


def _huge(replica):
    return np.zeros(50_000_000, dtype=np.uint8)


def _long_message(replica):
    raise Diverged("z" * 5_000_000)


def _mpi(replica):
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    return float(MPI.COMM_WORLD.size)


def _environment(replica):
    ranks = ("PMI", "OMPI_", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP", "HYDRA", "MPI_LOCAL", "RANK", "TORCHELASTIC")
    ranks += ("MV2_COMM", "JSM_")
    left = [name for name in os.environ if name.startswith(ranks)]
    assert not left, left
    assert os.environ["SLURM_JOB_ID"] == os.environ["SLURM_CPUS_PER_TASK"] == os.environ["MPI_HOME"] == "1"
    return float(os.environ["OMP_NUM_THREADS"])


def _order_of_a_set(replica):
    return float("".join(str(ord(letter)) for letter in next(iter({"alpha", "beta", "gamma", "delta"}))))


_OPEN_RUNS: list = []


def _raise_in_a_run(replica):
    _OPEN_RUNS.append("a tracker's run")
    raise Diverged("a bad batch")


def _start_a_run(replica):
    assert not _OPEN_RUNS, "a run is active already"
    return 1.0


def _stop_as_frameworks_do(replica):
    """What Lightning does on SIGTERM: a handler of its own, and an exception some time later."""
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    replica.report(0, 1.0)
    for _ in range(1000):
        time.sleep(0.01)
        if seen:
            raise Diverged("stopped by a signal")
    return 0.0


def _default_signals(replica):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    replica.report(0, 1.0)
    time.sleep(30)


def _warned_by_slurm(replica):
    """The number of processes it started, forked and executed, that live on after the warning to each of the step."""
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30.0,))
    forked.start()
    program = "import time; print('up', flush=True); time.sleep(30)"
    executed = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    executed.stdout.readline()
    for pid in (os.getpid(), forked.pid, executed.pid):
        os.kill(pid, signal.SIGUSR1)
    time.sleep(0.3)
    alive = float(forked.is_alive() + (executed.poll() is None))
    forked.terminate()
    executed.terminate()
    ended = forked.join(), executed.communicate(), forked.exitcode, executed.returncode
    return alive if ended[2:] == (-signal.SIGTERM, -signal.SIGTERM) else -1.0


def _workers_hold(replica):
    workers = [multiprocessing.get_context("fork").Process(target=_hold_for_a_second, args=(replica,)) for _ in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 1.0


def _hold_for_a_second(replica):
    held = np.ones(int(replica.params["x"]) * 131_072)  # x MB
    time.sleep(2.0)
    return held


def _workers_share(replica):
    held = np.ones(int(replica.params["x"]) * 131_072)  # x MB, that its workers see without a copy
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(1.0,)) for _ in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return float(held[-1])


def _at_exit(replica):
    folder = replica.directory
    atexit.register(lambda: (time.sleep(0.5), folder.joinpath("done").write_text("by the training")))
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(0.8); open({str(folder / 'sent')!r}, 'w')"])
    return 1.0


def _pools_at_exit(replica):
    finished = replica.directory.joinpath("uploaded")
    _left_open.append(concurrent.futures.ThreadPoolExecutor(1))
    _left_open[-1].submit(lambda: (time.sleep(0.5), finished.write_text("by a thread")))
    _left_open.append(concurrent.futures.ProcessPoolExecutor(1))
    return float(_left_open[-1].submit(abs, -1).result())


_left_open: list[concurrent.futures.Executor] = []


def _garbage(replica):
    for fd in range(3, 256):
        try:
            os.write(fd, b"\x80\x04garbage" * 100)
        except OSError:
            continue
    time.sleep(30)


def _notice(replica):
    import warnings

    warnings.warn("mode= was left out", HyppoWarning, stacklevel=1)
    warnings.warn(f"shapes ({replica.trial}, 2) do not fit", HyppoWarning, stacklevel=1)
    warnings.warn("of another package", stacklevel=1)
    return 1.0


def _from_threads(replica):
    import threading

    threads = [threading.Thread(target=lambda: [replica.report(n, 0.5) for n in range(500)]) for _ in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(len(replica.curve))


def _gpu(replica):
    assert replica.devices == (0,)
    return float(os.environ["CUDA_VISIBLE_DEVICES"])


def _pid(replica):
    return float(os.getpid())


def _interrupt(replica):
    raise KeyboardInterrupt


def _leave(replica):
    sys.exit("as Lightning does after an interrupt")


def _close_output(replica):
    os.close(1)
    os.close(2)
    return 1.0


def _close_all(replica):
    os.closerange(3, 100)
    time.sleep(60)


def _grow(replica):
    _HELD.append(np.ones(int(replica.params["x"]) * 131_072))  # x MB
    return float(os.getpid())


def _leak(replica):
    while True:
        _HELD.append(np.ones(4 * 131_072))  # 4 MB
        time.sleep(0.002)


def _hold(replica):
    held = np.ones(int(replica.params["x"]) * 131_072)  # x MB
    time.sleep(1.0)
    return float(held[-1])


class Clearing(Framework):
    """A framework that counts how often its memory is freed."""

    name = "this"
    times = 0

    def clear(self, module):
        self.times += 1
        if self.times == 3:
            raise RuntimeError("an illegal memory access was encountered")


def _cleared(replica):
    sys.modules.setdefault("this", os)
    return float(FRAMEWORKS.setdefault("this", Clearing()).times)


def _ill_typed(replica):
    raise ObjectiveError("no loss")


_HELD: list = []
DEEDS = {
    name.removeprefix("_"): deed for name, deed in list(globals().items()) if name.startswith("_") and callable(deed)
}
