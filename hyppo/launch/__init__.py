"""Where trainings run: in this process, in child processes, on MPI ranks, or on an executor of the user's.

A training process and every rank except the first run the user's script too. They leave it in `serve_if_worker`: at the
first access to a study's history they start to serve, and never return.
"""

import os
import sys

from hyppo.errors import LaunchError

spawned = False  # whether multiprocessing spawned this process inside a training, see `hyppo.launch.spawned_main`


class ScriptEnds(BaseException):
    """Raised by `study.run` in a process that a training spawned, to end the user's script there."""


def in_training_process() -> bool:
    """Whether this process was started to train, and is not inside a training now."""
    child = sys.modules.get("hyppo.launch.child")
    return child is not None and child.server is not None and not child.server.training


def guard() -> None:
    """End the whole MPI job if this rank's script fails, so that no other rank waits for it for ever.

    Does nothing unless an MPI launcher started this process. Called at the first use of `hyppo.Space` or `hyppo.Study`.

    >>> guard()  # an ordinary process
    """
    from hyppo.launch.mpi.world import launched_by_mpi

    if launched_by_mpi():
        from hyppo.launch.mpi.job import current_job

        current_job().guard()


def refuse_ranks_of_torchrun() -> None:
    """Called by `study.run` in the process that runs the study.

    Raises
    ------
    LaunchError
        torchrun started this process as one of several, each of which would run the whole study.
    """
    from hyppo.launch.surroundings import torchrun_ranks

    rank, size = os.environ.get("RANK", ""), torchrun_ranks()
    child = sys.modules.get("hyppo.launch.child")
    in_training = child is not None and child.server is not None
    if not in_training and rank.isdigit() and int(rank) > 0 and size > 1:
        raise LaunchError(
            f"RANK={rank} and WORLD_SIZE={size}: torchrun, or a launcher like it, started {size} processes, and each "
            f"would run the whole study. Start the script with mpiexec or srun instead: with {size + 1} ranks and "
            f"data_parallel={size}, {size} of them train each replica together, as workers of torchrun do"
        )


def serve_if_worker() -> None:
    """Return at once in the process that runs the study; in all others serve trainings, and never return.

    Called at the start of `study.run`, and wherever else a study with an objective first opens its log.

    >>> serve_if_worker()  # an ordinary process runs the study itself
    """
    if spawned:
        raise ScriptEnds
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and getattr(multiprocessing.current_process(), "_inheriting", False):
        raise LaunchError(
            "a process that multiprocessing spawned has run the script and reached study.run; put study.run under "
            'if __name__ == "__main__":, as multiprocessing asks for'
        )
    if in_training_process():
        from hyppo.launch import child

        assert child.server is not None
        child.server.serve()
    else:
        from hyppo.launch.mpi.world import launched_by_mpi

        if launched_by_mpi():
            from hyppo.launch.mpi.job import current_job

            if current_job().size > 1:
                current_job().serve_if_worker()
