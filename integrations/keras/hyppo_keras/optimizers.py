"""The optimisers of Keras that a network holds: the compiled one, and others of its own training step, as in a GAN."""

from collections.abc import Iterator
from typing import Any

import keras

from hyppo.errors import StudyError


def optimizers(model: Any) -> list[Any]:
    """The optimisers among the attributes of a network and its layers, also in lists, tuples and dicts."""
    held = [value for layer in model._flatten_layers() for value in vars(layer).values()]
    return list({id(optimizer): optimizer for optimizer in _among(held)}.values())


def _among(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _among(part)


def trained_weights(model: Any) -> list[list[int] | None]:
    """For each optimiser the positions of its weights among those of the network; None before its first step.

    Raises
    ------
    StudyError
        An optimiser trains something else than weights of the network.
    """
    positions = {id(weight): position for position, weight in enumerate(model.weights)}
    trained: list[list[int] | None] = []
    for optimizer in optimizers(model):
        weights = [positions.get(id(weight)) for weight in optimizer._trainable_variables]
        if None in weights:
            raise StudyError(f"the optimiser {optimizer.name} trains variables that are no weights of {model.name}")
        trained.append([at for at in weights if at is not None] if optimizer.built else None)
    return trained


def build_for(model: Any, trained: list[list[int] | None]) -> None:
    """Build each optimiser for the weights that it trained, as its first step does: Keras loads no other state."""
    weights = model.weights
    for optimizer, positions in zip(optimizers(model), trained, strict=True):
        if positions is not None and not optimizer.built:
            optimizer.build([weights[position] for position in positions])
