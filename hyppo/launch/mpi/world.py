"""Whether this process is a rank of an MPI job. mpi4py is imported only if a launcher says so."""

import contextlib
import importlib.metadata
import linecache
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from hyppo.errors import LaunchError

# Variables that mpiexec (MPICH, Intel, Open MPI) and srun set for a rank: its number, and the number of ranks.
RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID")
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")

# mpiexec of MPICH, Intel, Open MPI and Cray sets one of these; srun sets none of them.
MPIEXEC = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_SIZE", "PALS_RANKID")

FORWARDED = 0.5  # s for mpiexec to pass an error message on before the job is aborted, which drops buffered output


def expected_size() -> int | None:
    """Number of ranks that the launcher started; None if it does not tell.

    `srun` without a matching MPI starts worlds of size one, so its own count is the expected one. In a batch script
    `SLURM_NTASKS` is the number that the job may start, not the number it started: only the count of a step is.
    """
    sizes = [os.environ.get(name, "") for name in SIZES]
    if "SLURM_STEP_ID" in os.environ or "SLURM_STEPID" in os.environ:
        sizes.append(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS", ""))
    return max((int(text) for text in sizes if text.isdigit()), default=None)


def pool_of_mpi4py() -> bool:
    """Whether this is `python -m mpi4py.futures script.py`: all ranks but the first are then a pool's workers.

    `MPIPoolExecutor` has them, and takes them out of the script before it begins.
    """
    arguments = iter(sys.orig_argv[1:])
    for argument in arguments:
        if argument in ("-W", "-X"):
            next(arguments, None)
        elif argument == "-m":
            return next(arguments, "").startswith("mpi4py.futures")
        elif argument == "-c" or not argument.startswith("-"):
            break
    return False


def launched_by_mpi() -> bool:
    """Whether a launcher started this process as one of several ranks that run the same script."""
    if pool_of_mpi4py():
        return False
    expected = expected_size()
    if expected is not None:
        return expected > 1
    return any(name in os.environ for name in RANKS)


def reads_script_from_stdin() -> bool:
    """Whether the script of this process comes from its standard input, as in `python - < tune.py`.

    >>> reads_script_from_stdin()
    False
    """
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path in (None, "<stdin>"):
        return path is not None
    try:
        return os.path.samestat(os.stat(path), os.fstat(0))
    except OSError:  # in an archive, or without a standard input
        return False


def keep_first_messages_short() -> None:
    """Have the MPICH wheel talk over libfabric if `srun` starts it on several nodes and the user chose nothing else.

    Measured with MPICH 5.0.2: over UCX, its default, a rank first sends 4,096 bytes of memory around its address, in
    lines as long as the content of that memory makes them; over libfabric it sends 95 characters. Slurm's plugin
    (22.05) reads at most 1,024 characters of a line. It misreads a longer one, and all ranks wait for ever.
    """
    started_by_srun = {"PMI_FD", "SLURM_STEP_ID"} <= os.environ.keys() and not any(
        name in os.environ for name in MPIEXEC
    )
    if started_by_srun and os.environ.get("SLURM_STEP_NUM_NODES", "1") != "1":
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.distribution("mpich")  # another MPICH may lack libfabric
            os.environ.setdefault("MPIR_CVAR_CH4_NETMOD", "ofi")


def join_world() -> Any:
    """Initialise MPI; its `COMM_WORLD`.

    Raises
    ------
    LaunchError
        Only the first rank has the script, mpi4py is missing, or the ranks do not form one world.
    """
    if reads_script_from_stdin() and any(name in os.environ for name in MPIEXEC):
        raise LaunchError(
            "the script comes from standard input, which mpiexec gives to the first rank only: write it to a file and "
            "start that (mpiexec -n 9 python tune.py)"
        )
    keep_first_messages_short()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"an MPI launcher started this process, but mpi4py cannot be used ({error}); pip install "
            "'hyppo-uq[mpi]', or build mpi4py against this machine's MPI, or start without mpiexec/srun"
        ) from error
    world = MPI.COMM_WORLD
    expected = expected_size()
    if expected is not None and expected > 1 and world.size == 1:
        raise LaunchError(
            f"{expected} ranks were started, but each is alone in its MPI world: {_library(MPI)} does not work with "
            "this launcher. Use the mpiexec that belongs to it, or under Slurm another `srun --mpi=` (pmi2 for MPICH); "
            "or start a single task"
        )
    return world


def abort_without_mpi() -> None:
    """Ask mpiexec of MPICH or Intel to end the job: it waits for ranks that have not started MPI, whatever they do.

    Others end the job once a rank has failed; srun does with --kill-on-bad-exit.
    """
    if "MPI_LOCALNRANKS" in os.environ:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        time.sleep(FORWARDED)
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.write(int(os.environ["PMI_FD"]), b"cmd=abort exitcode=1\n")  # the PMI-1 of their ranks


def before_finalize(call: Callable[[], None]) -> None:
    """Call `call` when `MPI.Finalize` begins; MPI still works then: it deletes the attributes of `COMM_SELF` first."""
    from mpi4py import MPI

    key = MPI.Comm.Create_keyval(delete_fn=lambda *_: call())
    MPI.COMM_SELF.Set_attr(key, None)


def _library(mpi: Any) -> str:
    return str(mpi.Get_library_version()).splitlines()[0].strip(" \0")


class Launcher:
    """The process that started this rank: MPICH's proxy, srun's step daemon.

    If it is killed, no process is left to end the job.
    """

    def __init__(self) -> None:
        self._pid = os.getppid()

    def is_gone(self) -> bool:
        return os.getppid() != self._pid


STUCK_AFTER = 10.0  # s that the script may spend in one call of MPI until a notice says why it waits
# Calls that wait for other ranks.
WAITING = re.compile(
    r"\b(barrier|bcast|i?gatherv?|i?allgatherv?|i?scatterv?|i?reduce|i?allreduce|i?alltoallv?|scan|exscan|split|dup"
    r"|create_group|recv|sendrecv|m?probe)\s*\(",
    re.IGNORECASE,
)


def watch_for_waiting_calls(say: Callable[[str], None]) -> None:
    """Print a notice if the user's script waits in an MPI call on rank 0 for other ranks: they never take part."""
    main = threading.main_thread().ident

    def watch() -> None:
        before, since = None, time.monotonic()
        while True:
            time.sleep(1.0)
            frame = sys._current_frames().get(main or 0)
            if frame is None:
                return
            place = (id(frame), frame.f_lasti)
            if place != before:
                before, since = place, time.monotonic()
                continue
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if WAITING.search(line) and time.monotonic() - since >= STUCK_AFTER:
                say(
                    f"rank 0 has waited {STUCK_AFTER:g} s in `{line}` ({frame.f_code.co_filename}:{frame.f_lineno}). "
                    "If this is a call of MPI that waits for other ranks, it does not return: after study.run they "
                    "serve trainings until this script ends. Make such calls before study.run, or leave them out"
                )
                return

    threading.Thread(target=watch, daemon=True, name="hyppo-waiting-calls").start()
