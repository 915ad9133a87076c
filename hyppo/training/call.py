"""One training: the user's function called once, and how it ended.

A process that only trains needs no other module of `hyppo`, so this one imports little.
"""

import gc
import itertools
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from hyppo.arguments import quoted
from hyppo.config import ENSEMBLE_LOSS
from hyppo.errors import LaunchError, ObjectiveError, notify
from hyppo.text import error_line
from hyppo.training.frameworks import clear
from hyppo.training.generators import noticed_draws
from hyppo.training.memory import PeakMemory
from hyppo.training.predictions import discard, keep
from hyppo.training.replica import Failure, Outcome, Replica, Result
from hyppo.training.seeding import restored_switches, seed_everything

COLLECT_EVERY = 20  # trainings; a collection takes 0.1 s with torch loaded, too long after each short training
_short_trainings = itertools.count(1)
_one_at_a_time = threading.RLock()  # reentrant, because a training may run a study of its own with isolate=False


def _settle(objective_name: str, returned: Any, replica: Replica) -> Result | None:
    """The result of a training, from the returned value of its function and the result of a callback.

    A returned loss overrides that of the callback, because the user computed it last. Beside a callback with
    mode="max", a returned number may be the metric or the loss, its negative. Only the first of data-parallel ranks
    needs a result.
    """
    handed = replica.result
    if returned is None:
        if handed is None and replica.rank == 0:
            raise ObjectiveError(
                f"{objective_name} returned None, and no callback stored a result; return the loss as a float, "
                "or a hyppo.Result, or give HyppoCallback(replica, ...) to the trainer"
            )
        return handed
    if isinstance(returned, Result):
        result = returned
    else:
        try:
            result = Result(returned)
        except ObjectiveError:
            raise ObjectiveError(
                f"{objective_name} returned {quoted(returned)} of type {type(returned).__name__}; "
                "return the loss as a float, or a hyppo.Result"
            ) from None
    for name, value in (result.metrics or {}).items():
        replica.log(name, value)
    if handed is None:
        _notice_reports(objective_name, result.loss, replica)
        return result
    losses = [handed.loss, *(loss for _, loss in replica.curve)]
    if replica.goal is not None and not isinstance(returned, Result) and not _is_loss(result.loss, losses):
        result = replace(result, loss=replica.goal.sign * result.loss)
    if _same(result.loss, handed.loss):
        return replace(result, loss=handed.loss)
    notify(
        f"{objective_name} returned a loss that is not the one of the weights at the end of "
        f"{'the last fit' if replica.fits > 1 else 'fit'}. The returned loss counts, but metrics, kept predictions and "
        "networks belong to these weights"
        + (
            ""
            if replica.fits > 1
            else ". With monitor_best=True in the callback they and the loss belong to the best epoch, and the "
            "function need not return a loss"
        ),
        stacklevel=2,
    )
    return result


def _is_loss(number: float, losses: Sequence[float]) -> bool:
    """Whether a number is one of the known losses of its training, or has the sign of all of them.

    >>> [_is_loss(number, [-0.6, -0.7]) for number in (-0.6, -0.9, 0.6)]
    [True, True, False]
    >>> [_is_loss(number, [0.5, -0.3]) for number in (-0.3, 0.3, -0.4)]
    [True, False, False]
    """
    signs = {math.copysign(1.0, loss) for loss in losses if loss}
    return any(_same(number, loss) for loss in losses) or signs == {math.copysign(1.0, number)}


def _notice_reports(objective_name: str, loss: float, replica: Replica) -> None:
    """Tell if the training has reported a metric that is better when higher, and returned the loss made of it."""
    reported = np.array([one for _, one in replica.curve])
    if not loss or np.isclose(reported, loss, rtol=1e-6, atol=0.0).any():
        return
    for made in (-reported, 1.0 - reported):
        found = np.flatnonzero(np.isclose(made, loss, rtol=1e-6, atol=0.0))
        if found.size:
            metric = float(reported[found[-1]])
            notify(
                f"{objective_name} reported {metric:.6g} and returned {loss:.6g}. Reports are losses too: stopping= "
                "stops the trials whose reports are higher. Report the number that the function returns",
                stacklevel=2,
            )
            return


def _same(loss: float, handed: float) -> bool:
    return bool(np.isclose(handed, loss, rtol=1e-6, atol=0.0, equal_nan=True))


def name_of(objective: Callable[..., Any]) -> str:
    """The name of the user's function in messages."""
    return str(getattr(objective, "__qualname__", None) or type(objective).__name__) + "(replica)"


def train(objective: Callable[[Replica], Any], replica: Replica) -> Outcome:
    """Seed, call the user's function once, and return how it ended.

    Every exception of the function becomes a failure, also `SystemExit` (Lightning raises it after an interrupt). Only
    `KeyboardInterrupt` is raised again. At the end, the working directory, the environment and the global
    switches of frameworks are restored.

    Raises
    ------
    LaunchError
        Another thread of this process is training, or a framework can no longer be used in it.
    """
    return train_and_free(objective, replica)[0]


def train_and_free(objective: Callable[[Replica], Any], replica: Replica) -> tuple[Outcome, bool]:
    """The outcome of `train`, and whether this process can train again."""
    with _only_training():
        try:
            clear()
        except Exception as error:
            raise LaunchError(
                "this process can train no more, since an earlier training has left its GPU unusable "
                f"({error_line(error)}). Start it again: the study goes on where it is"
            ) from error
        with _restored_surroundings(), restored_switches():
            seed_everything(replica.seed)
            with noticed_draws(objective, name_of(objective)):
                outcome = _train(objective, replica)
        on_gpu = "gpu_memory" in outcome.metrics or replica.world_size > 1
        if outcome.end - outcome.start > 1.0 or on_gpu or next(_short_trainings) % COLLECT_EVERY == 0:
            gc.collect()  # after a short training on a CPU only now and then
        return outcome, free()


def free() -> bool:
    """Free the memory on GPUs that a training has left; False if a framework can no longer be used in this process."""
    try:
        clear()
    except Exception:  # the training is done all the same
        return False
    return True


@contextmanager
def _only_training() -> Iterator[None]:
    if not _one_at_a_time.acquire(blocking=False):
        raise LaunchError(
            "two trainings run at a time in one process, where each would change the seeds, the working directory and "
            "the environment of the other: train in processes, for example with run(workers=n), ProcessPoolExecutor, "
            "or threads_per_worker=1 under dask"
        )
    try:
        yield
    finally:
        _one_at_a_time.release()


@contextmanager
def _restored_surroundings() -> Iterator[None]:
    """Restore the working directory and the environment, so that a training does not change those of the next."""
    here, environ = os.getcwd(), dict(os.environ)
    try:
        yield
    finally:
        os.chdir(here)
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)


def _train(objective: Callable[[Replica], Any], replica: Replica) -> Outcome:
    start = time.time()
    loss: float | None = None
    failure: Failure | None = None
    criterion: bytes | None = None
    memory = PeakMemory()
    try:
        if replica.rank == 0:
            discard(replica.location)
        result = _settle(name_of(objective), objective(replica), replica)
        if result is not None and result.prediction is not None and replica.rank == 0:
            keep(replica, [(result.prediction, result.passes or (), result.targets)], asked=True)
        if replica.target == ENSEMBLE_LOSS and replica.rank == 0:
            if replica.losses is None:
                raise replica.no_losses or ObjectiveError(
                    f'{name_of(objective)} left no predictions, which target="ensemble_loss" needs: use HyppoCallback '
                    "or hyppo_keras.fit, or return hyppo.Result(loss, prediction=..., targets=...)"
                )
            criterion = replica.own_criterion
        if result is not None:
            if math.isfinite(result.loss):
                loss = result.loss
            else:
                failure = Failure.of_loss(result.loss)
    except (Exception, SystemExit) as error:
        failure = Failure.of(error)
    end = time.time()
    metrics = {"seconds": end - start, **memory.measured(), **replica.metrics}
    return Outcome(
        loss,
        failure,
        start,
        end,
        tuple(replica.curve),
        socket.gethostname(),
        replica.losses,
        criterion,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        goal=replica.goal,
        whole=replica.whole and failure is None,
        rows=replica.rows,
    )
