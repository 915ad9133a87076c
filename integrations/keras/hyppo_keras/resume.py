"""State of a Keras training on disk: weights and optimisers by Keras, the rest as JSON beside them."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import keras

from hyppo.training.metric import Monitor
from hyppo.training.resume import does_not_load, random_state, set_random_state, state_name
from hyppo_keras.optimizers import build_for, trained_weights


def seeds(model: Any) -> list[Any]:
    """The states of the network's random generators (`keras.random.SeedGenerator`), which are none of its weights."""
    return [generator.state for layer in model._flatten_layers() for generator in layer._seed_generators]


def shapes(model: Any) -> list[Any]:
    """The input shapes for which a network and its layers were built, as Keras saves them; None if unknown."""
    return [part.get_build_config() for part in (model, *model.layers)]


def build(model: Any, shapes: list[Any]) -> None:
    """Build a network that its first call builds, which TensorFlow makes later than the start of a fit."""
    _build(model, shapes[0])
    for layer, shape in zip(model.layers, shapes[1:], strict=True):
        _build(layer, shape)


def _build(layer: Any, shape: Any) -> None:
    if shape and not layer.built:
        layer.build_from_config(shape)
        layer.built = True  # as when Keras loads a whole network


def save_state(model: Any, monitor: Monitor, epoch: int, best: Any = None) -> None:
    """Save the state after `epoch`; `best` are the weights of the best epoch, if these are used."""
    replica = monitor.replica
    name = state_name(replica)
    weights = f"{name}.{epoch}.weights.h5"
    model.save_weights(replica.directory / weights, overwrite=True)
    state: dict[str, Any] = {"epoch": epoch, "weights": weights, "curve": monitor.curve, "random": random_state()}
    state |= {"loss": monitor.loss, "beside": monitor.beside, "best": None}
    state["shapes"] = shapes(model)
    state["optimizers"] = trained_weights(model)
    state["seeds"] = [keras.ops.convert_to_numpy(seed).tolist() for seed in seeds(model)]
    if best is not None:
        state["best"] = f"{name}.{epoch}.best.weights.h5"
        now = [weight.copy() for weight in model.get_weights()]
        model.set_weights(best)
        model.save_weights(replica.directory / state["best"], overwrite=True)
        model.set_weights(now)
    part = replica.directory / f"{name}.part"
    part.write_text(json.dumps(state, default=int))  # shapes may be integers of numpy
    os.replace(part, replica.directory / f"{name}.json")  # last: the file that it names is complete
    for other in replica.directory.glob(f"{name}.*.weights.h5"):
        if other.name not in (weights, state["best"]):
            other.unlink()


def restore_state(model: Any, monitor: Monitor) -> Any:
    """Make `model.fit` continue after the saved epoch, if there is one; return the weights of the best epoch, if kept.

    Raises
    ------
    StudyError
        The state does not load.
    """
    folder = monitor.replica.location
    path = folder / f"{state_name(monitor.replica)}.json"
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_bytes())
        build(model, state["shapes"])
        build_for(model, state["optimizers"])
        best = None
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Skipping variable loading for optimizer")
            if state["best"] is not None:
                model.load_weights(folder / Path(state["best"]).name)
                best = [weight.copy() for weight in model.get_weights()]
            model.load_weights(folder / Path(state["weights"]).name)
        for seed, value in zip(seeds(model), state["seeds"], strict=True):
            seed.assign(value)
    except Exception as error:  # Keras raises nearly anything here
        raise does_not_load(path, error) from error
    monitor.go_on(state["curve"])
    if state["loss"] is not None:
        monitor.take(state["loss"], state["beside"])
    set_random_state(state["random"])
    model._initial_epoch = state["epoch"] + 1  # as Keras' own BackupAndRestore does
    return best
