"""Save trained networks, and load them as an ensemble that predicts new data."""

import itertools
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from hyppo import Study
from hyppo.errors import StudyError
from hyppo.training.predictions import Batch, Ensemble, call_with, network_does_not_load, networks_of, possible_passes
from hyppo_keras.build import Build
from hyppo_keras.predict import Passes, dropout_layers

WHOLE = "weights.keras"  # the network with its configuration
WEIGHTS = "weights.weights.h5"  # only its weights
ROWS = 256  # of an array that are predicted at a time, if the network's batches have no size of their own


def load_ensemble(
    study: Study,
    number: int | None = None,
    *,
    build: Callable[..., Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Ensemble:
    """The trained networks of a trial, for mean and standard deviation on new data.

    Parameters
    ----------
    study : hyppo.Study
        Also one from `hyppo.load`.
    number : int, optional
        Trial; by default the recommended one.
    build : callable, optional
        Makes the network as the training did: a function, called with those parameters of the trial that it takes, or
        the result of `from_build`. Needed only if Keras cannot save or load the network whole.
    custom_objects : dict, optional
        As for `keras.models.load_model`.

    Raises
    ------
    StudyError
        No checkpoints were kept, or one does not load.

    Examples
    --------
    ::

        ensemble = hyppo_keras.load_ensemble(hyppo.load("study.h5"))
        new = ensemble.predict(x, mc_dropout=20)        # x: an array of inputs, or a data set of batches
        new.mean, new.std
    """
    trial, paths = networks_of(study, number, "hyppo_keras.fit(..., weights=True)")
    params = dict(trial.params)
    networks = []
    for path in paths:
        alone = path.name == WEIGHTS
        if alone and build is None:
            raise StudyError(
                f"{path} holds weights alone, since Keras could not save this network whole; give build=, a function "
                "that makes the network from the trial's parameters as the training did"
            )
        try:
            if build is None:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
                    model = keras.models.load_model(path, custom_objects=dict(custom_objects or {}), compile=False)
            else:
                model = build(trial) if isinstance(build, Build) else call_with(build, params)
                if model.built:
                    model.load_weights(path)
                else:
                    model = Unbuilt(model, path)
        except StudyError:
            raise
        except Exception as error:  # Keras raises nearly anything here
            raise _does_not_load(path, error) from error
        networks.append(model)
    return Ensemble(tuple(networks), forward, trial.number, params)


def _does_not_load(path: Path, error: Exception) -> StudyError:
    saved = _keras_of(path)
    other = "" if saved in ("", keras.__version__) else f" in Keras {keras.__version__}, and Keras {saved} saved it"
    remedy = "give build=, which makes the network from its parameters as the training did, or custom_objects="
    return network_does_not_load(path, error, remedy, other)


def _keras_of(path: Path) -> str:
    """The version of Keras that saved a whole network; empty if that is unknown."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as metadata:
            version = json.loads(metadata.read(10_000))["keras_version"]
            return version if re.fullmatch(r"[\w.+-]+", version) else ""
    except Exception:  # weights alone, or a damaged file
        return ""


@dataclass
class Unbuilt:
    """A network that gets its weights at its first call, and the file with the trained weights."""

    model: Any
    path: Path

    def built_for(self, x: Any) -> Any:
        """The network with its weights, after a call with inputs like `x`."""
        if not self.model.built:
            self.model(keras.tree.map_structure(lambda array: keras.ops.convert_to_tensor(array[:1]), x))
            try:
                self.model.load_weights(self.path)
            except Exception as error:  # Keras raises nearly anything here
                raise _does_not_load(self.path, error) from error
        return self.model


def forward(model: Any, data: Any, passes: int) -> Iterator[Batch]:
    """(prediction, passes, targets) of each batch of a data set, or of rows of inputs."""
    one_pass: Passes | None = None
    inputs = getattr(model, "inputs", None)
    for x, y in _batches(data, (inputs[0].shape[0] if inputs else None) or ROWS):
        if one_pass is None:
            model = model.built_for(x) if isinstance(model, Unbuilt) else model
            layers = dropout_layers(model) if passes else []
            passes = possible_passes(passes, layers, model.name)
            one_pass = Passes(model, layers)
        yield one_pass.prediction(x), map(one_pass, itertools.repeat(x, passes)), y


def _batches(data: Any, rows: int) -> Iterator[tuple[Any, Any]]:
    listed = isinstance(data, list) and not any(isinstance(one, tuple) for one in data)  # inputs, not [(x, y), ...]
    if hasattr(data, "shape") or isinstance(data, Mapping) or listed:
        for start in range(0, len(keras.tree.flatten(data)[0]), rows):
            yield keras.tree.map_structure(lambda array, start=start: array[start : start + rows], data), None
        return
    for batch in map(data.__getitem__, range(len(data))) if isinstance(data, keras.utils.PyDataset) else data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
        yield x, y
