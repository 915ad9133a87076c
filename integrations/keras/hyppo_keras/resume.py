"""State of a Keras training on disk: weights and optimiser by Keras, the rest as JSON beside them."""

import json
import os
from pathlib import Path
from typing import Any

from hyppo.errors import StudyError
from hyppo.training.metric import Monitor
from hyppo.training.replica import Replica
from hyppo.training.resume import random_state, set_random_state, state_name


def save_state(model: Any, replica: Replica, epoch: int) -> None:
    """Save that `epoch` is trained."""
    name = state_name(replica)
    weights = f"{name}.{epoch}.weights.h5"
    model.save_weights(replica.directory / weights, overwrite=True)
    state = {"epoch": epoch, "weights": weights, "curve": list(replica.curve), "random": random_state()}
    part = replica.directory / f"{name}.part"
    part.write_text(json.dumps(state))
    os.replace(part, replica.directory / f"{name}.json")  # last: the file that it names is complete
    for other in replica.directory.glob(f"{name}.*.weights.h5"):
        if other.name != weights:
            other.unlink()


def restore_state(model: Any, monitor: Monitor) -> bool:
    """Make `model.fit` continue after the saved epoch; return whether there is one.

    Raises
    ------
    StudyError
        The state does not load.
    """
    folder = monitor.replica.location
    path = folder / f"{state_name(monitor.replica)}.json"
    if not path.is_file():
        return False
    try:
        state = json.loads(path.read_bytes())
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)  # else Keras leaves out its state
        model.load_weights(folder / Path(state["weights"]).name)
    except Exception as error:  # Keras raises nearly anything here
        raise StudyError(
            f"{path} of an interrupted training does not load ({type(error).__name__}: {error}): the network or the "
            "optimiser has changed, or a file is damaged; delete it to train from the beginning"
        ) from error
    monitor.go_on(state["curve"])
    set_random_state(state["random"])
    model._initial_epoch = state["epoch"] + 1  # as Keras' own BackupAndRestore does
    return True
