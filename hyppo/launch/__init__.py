"""Where trainings run: in this process, in child processes, on MPI ranks, or on an executor of the user's.

A training process and every rank but the first run the user's script too. `attend` is where they leave it: at the
first touch of a study's history they start to serve, and never come back.
"""

import sys


def in_training_process() -> bool:
    """Whether this process was started to train, and is not inside a training now."""
    child = sys.modules.get("hyppo.launch.child")
    return child is not None and child.server is not None and not child.server.training


def guard() -> None:
    """End the whole MPI job if this rank's script fails, so that no other rank waits for it for ever.

    Does nothing unless an MPI launcher started this process. Called when a study with an objective is made.

    >>> guard()  # an ordinary process
    """
    from hyppo.launch.mpi import world

    world.guard()


def attend() -> None:
    """Serve trainings from here on where this process is not the one that asks; return at once where it is.

    Called at the start of `study.run`, and wherever else a study with an objective first opens its log.

    >>> attend()  # an ordinary process asks for itself
    """
    if in_training_process():
        from hyppo.launch import child

        assert child.server is not None
        child.server.serve()
    else:
        from hyppo.launch.mpi import world

        if world.launched_by_mpi() and world.size() > 1:
            from hyppo.launch.mpi import workers as mpi

            mpi.attend()
