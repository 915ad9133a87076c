"""Validation batches through the trained network, and through it again with its dropout layers alone active."""

import functools
from collections.abc import Iterator
from itertools import islice
from typing import Any

import keras

from hyppo.training.predictions import Batch, possible_passes


def dropout_layers(model: Any) -> list[Any]:
    """Layers that drop: Keras' own, recurrent and attention layers that drop inside, and others that are called so.

    A multi-head attention uses its own Dropout layer, which is among the model's layers.
    """
    layers = []
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN):
            drops = any(_rate(cell) for cell in getattr(layer.cell, "cells", [layer.cell]))
        elif isinstance(layer, keras.layers.Attention):  # AdditiveAttention too
            drops = layer.dropout > 0
        else:
            drops = "Dropout" in type(layer).__name__ or isinstance(layer, keras.layers.Dropout)
            drops = drops and getattr(layer, "rate", 1.0) > 0
        if drops and layer._call_has_training_arg:
            layers.append(layer)
    return layers


def _rate(cell: Any) -> float:
    return float(getattr(cell, "dropout", 0.0) or getattr(cell, "recurrent_dropout", 0.0))


class Passes:
    """The predictions of a network batch by batch, and passes with only `layers` in training mode: each call is one.

    During a pass, the `call` of these layers is replaced, and so is the function that Keras traces of the network.
    Stateful recurrent layers are reset first; their state goes on from prediction to prediction, and every pass starts
    from the state with which the prediction of its batch started.
    """

    def __init__(self, model: Any, layers: list[Any]) -> None:
        self.model = model
        self.layers = layers
        self.traced: Any = None
        recurrent = [
            layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN) and layer.stateful
        ]
        for layer in recurrent:
            layer.reset_state()
        self._states = [state for layer in recurrent for state in keras.tree.flatten(layer.states)]
        self._start = self._states_now()

    def _states_now(self) -> list[Any]:
        return [keras.ops.convert_to_numpy(state).copy() for state in self._states]

    def _set_states(self, values: list[Any]) -> None:
        for state, value in zip(self._states, values, strict=True):
            state.assign(value)

    def prediction(self, x: Any) -> Any:
        """The output for a batch, without dropout."""
        self._start = self._states_now()
        return self.model.predict_on_batch(x)

    def __call__(self, x: Any) -> Any:
        model, states = self.model, self._states_now()
        self._set_states(self._start)
        own, model.predict_function = model.predict_function, self.traced
        for layer in self.layers:
            layer.__dict__["call"] = functools.partial(_call_in_training, layer.call)
        try:
            output = model.predict_on_batch(x)
            self.traced = model.predict_function
        finally:
            for layer in self.layers:
                del layer.__dict__["call"]
            model.predict_function = own
            self._set_states(states)
        return output


def _call_in_training(call: Any, *args: Any, **kwargs: Any) -> Any:
    return call(*args, **kwargs | {"training": True})


def batches(model: Any, validation: Any, passes: int) -> Iterator[Batch]:
    """(prediction, passes, targets) of each batch of `validation`, Keras' iterator over the validation data or None."""
    if validation is None:
        return
    layers = dropout_layers(model) if passes else []
    passes = possible_passes(passes, layers, model.name)
    one_pass = Passes(model, layers)
    data = validation.data_adapter
    for batch in islice(data.get_numpy_iterator(), validation.steps_per_epoch or data.num_batches):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
        yield one_pass.prediction(x), (one_pass(x) for _ in range(passes)), y
