"""Which workers a run gets: an executor's, this process, its children, or the ranks of an MPI job."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyppo.errors import LaunchError, StudyError
from hyppo.launch.evaluator import InOwnProcess, InThisProcess
from hyppo.launch.executor import OnExecutor
from hyppo.launch.local import InProcess, LocalProcesses
from hyppo.launch.mpi.world import launched_by_mpi
from hyppo.launch.output import OUTPUT, RelayOnce, relay
from hyppo.launch.process import GIGABYTE, Limits
from hyppo.loop import Evaluator, Options, Workers
from hyppo.text import counted
from hyppo.training.replica import Replica


def workers_for(
    objective: Callable[[Replica], Any],
    isolate: bool,
    replicas: int,
    options: Options,
    say: Callable[[str], None],
    root: int = 0,
    log: Path | None = None,
) -> tuple[Workers, str]:
    """Workers as `options` and this process's surroundings ask for, and a sentence that says which.

    `log` is the study file. Without one, the folders of the replicas are in a temporary folder.

    Raises
    ------
    StudyError
        Options that do not go together.
    LaunchError
        Ranks that cannot be arranged as asked, or an MPI that does not work.
    """
    memory = None if options.memory_limit is None else int(options.memory_limit * GIGABYTE)
    limits = Limits(options.replica_timeout, options.stall_timeout, memory)
    if options.executor is not None:
        _say_if_groups_are_not_made(options, say)
        _refuse_limits(limits, "an executor's trainings")
        workers = OnExecutor(objective, options.executor, options.workers)
        return workers, f"{counted(len(workers.groups), 'training')} at a time on {type(options.executor).__name__}"
    if _ranks() > 1:
        if not isolate:
            raise LaunchError(
                "isolate=False is for a process alone: under MPI a crash would end the whole job; leave it out"
            )
        from hyppo.launch.mpi import workers as mpi

        return mpi.workers(objective, options, limits, replicas, say, root, log)
    _say_if_groups_are_not_made(options, say)
    if not isolate:
        _refuse_limits(limits, "trainings in this process (isolate=False)")
        if options.workers is not None and options.workers > 1:
            say(f"workers={options.workers} has no effect: with isolate=False one training at a time runs, here")
        return InProcess(objective), "trainings in this process"
    count = options.workers or 1
    output = None if options.output == "relay" else OUTPUT
    on_line = {"file": None, "relay": relay, None: RelayOnce()}[options.output]
    local = LocalProcesses(objective, count, limits, options.threads, output, on_line, say, root)
    return local, f"{count} training process{'es' if count > 1 else ''}"


def evaluator_for(isolate: bool) -> Evaluator:
    """The evaluator of the criterion: in a separate process if trainings are isolated, else in this process."""
    return InOwnProcess() if isolate else InThisProcess()


def _say_if_groups_are_not_made(options: Options, say: Callable[[str], None]) -> None:
    """Only MPI ranks form groups: a script made for them may run without, but then a training is another one."""
    asked = {name: getattr(options, name) for name in ("trial_groups", "replica_groups", "data_parallel")}
    groups = [f"{name}={value}" for name, value in asked.items() if value is not None and value > 1]
    if groups:
        say(
            f"{', '.join(groups)}: no effect without MPI, each training has one rank; start "
            f"{math.prod(value or 1 for value in asked.values()) + 1} or more ranks with mpiexec or srun"
        )


def _ranks() -> int:
    if not launched_by_mpi():
        return 1
    from hyppo.launch.mpi.job import current_job

    return current_job().size


def _refuse_limits(limits: Limits, what: str) -> None:
    if limits != Limits():
        raise StudyError(f"replica_timeout, stall_timeout and memory_limit: {what} cannot be killed; leave them out")
