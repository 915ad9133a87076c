"""One training: the user's function called once, and how it ended.

This module is all that a process which only trains needs of `hyppo`, so it imports little.
"""

import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hyppo.arguments import quoted
from hyppo.config import ENSEMBLE_LOSS
from hyppo.errors import ObjectiveError
from hyppo.training.predictions import discard, keep
from hyppo.training.replica import Failure, Outcome, Replica, Result
from hyppo.training.seeding import restored_switches, seed_everything


def _settle(objective_name: str, returned: Any, replica: Replica) -> Result:
    """The result of a training from what its function returned and what was handed over; they must agree."""
    handed = replica.result
    if returned is None:
        if handed is None:
            raise ObjectiveError(
                f"{objective_name} returned None and no callback handed a result over; return the loss as a float, "
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
    if handed is not None:
        if not np.isclose(handed.loss, result.loss, rtol=1e-6, atol=0.0, equal_nan=True):
            raise ObjectiveError(
                f"{objective_name} returned the loss {result.loss!r}, but a callback handed over {handed.loss!r}; "
                "return nothing, or the same value"
            )
        return handed if result.prediction is None else result
    return result


def name_of(objective: Callable[..., Any]) -> str:
    """How messages call the user's function."""
    return str(getattr(objective, "__qualname__", None) or type(objective).__name__) + "(replica)"


def train(objective: Callable[[Replica], Any], replica: Replica) -> Outcome:
    """Seed, call the user's function once, and return how it ended.

    Whatever the function raises becomes a failure, `SystemExit` included (Lightning's answer to an interrupt);
    `KeyboardInterrupt` goes through. The working directory, the environment and the global switches of frameworks are
    as before when it ends.
    """
    here, environ = os.getcwd(), dict(os.environ)
    try:
        with restored_switches():
            seed_everything(replica.seed)
            return _train(objective, replica)
    finally:
        os.chdir(here)  # a function that changes directory does not move the next one
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)


def _train(objective: Callable[[Replica], Any], replica: Replica) -> Outcome:
    start = time.time()
    loss: float | None = None
    failure: Failure | None = None
    criterion: bytes | None = None
    try:
        if replica.rank == 0:
            discard(replica.location)
        result = _settle(name_of(objective), objective(replica), replica)
        if result.prediction is not None and replica.rank == 0:
            keep(replica, [(result.prediction, result.passes or (), result.targets)], asked=True)
        if replica.target == ENSEMBLE_LOSS and replica.rank == 0:
            if replica.losses is None:
                raise ObjectiveError(
                    f'{name_of(objective)} left no predictions, which target="ensemble_loss" needs: use HyppoCallback '
                    "or hyppo_keras.fit, or return hyppo.Result(loss, prediction=..., targets=...)"
                )
            criterion = replica.own_criterion
        if math.isfinite(result.loss):
            loss = result.loss
        else:
            failure = Failure.of_loss(result.loss)
    except (Exception, SystemExit) as error:
        failure = Failure.of(error)
    end = time.time()
    return Outcome(loss, failure, start, end, tuple(replica.curve), socket.gethostname(), replica.losses, criterion)
