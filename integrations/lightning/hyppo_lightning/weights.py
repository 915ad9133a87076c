"""Trained networks on disk, and back as an ensemble that predicts new data."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyppo import Study
from hyppo.errors import HyppoWarning, StudyError
from hyppo.training.predictions import Batch, Ensemble
from hyppo_lightning.predict import dropout_layers, mode_kept, passes_through

WEIGHTS = "weights.ckpt"
ROWS = 256  # of an array that are predicted at a time


def save_weights(state: dict[str, Any], path: Path) -> None:
    """A checkpoint that `LightningModule.load_from_checkpoint` takes too; it holds tensors and no other objects."""
    # a state dict has the same form in all Lightning 2.x; the number keeps its loader from migrating it
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, path)


def load_ensemble(study: Study, build: Callable[..., Any], number: int | None = None) -> Ensemble:
    """The trained networks of a trial, for mean and standard deviation on new data.

    Parameters
    ----------
    study : hyppo.Study
        Also one from `hyppo.load`.
    build : callable
        build(**params) -> LightningModule, made as in the training; the class itself where it takes the parameters.
    number : int, optional
        Trial; by default the recommended one.

    Raises
    ------
    StudyError
        No checkpoints were kept, or one does not load.

    Examples
    --------
    ::

        ensemble = hyppo_lightning.load_ensemble(hyppo.load("study.h5"), Net)
        new = ensemble.predict(x, mc_dropout=20)        # x: an array of inputs, or a loader
        new.mean, new.std
    """
    number = study.best.number if number is None else number
    params = dict(study.trials[number].params)
    paths = study.checkpoints(number)
    if not paths:
        raise StudyError(
            f"trial {number} has no checkpoints beside the study file: train with HyppoCallback(replica, weights=True) "
            "(by default they are kept up to 16 MiB), and keep the folder study.h5.d with the file"
        )
    networks = []
    for path in paths:
        module = build(**params)
        try:
            module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
        except Exception as error:  # torch raises what its unpickler and the zip reader do
            raise StudyError(
                f"{path} does not load into build(**{params}) ({type(error).__name__}: {error}); build must make the "
                "network as the training did; a damaged file has to be deleted, and the ensemble goes without it"
            ) from error
        networks.append(module.eval())
    return Ensemble(tuple(networks), forward, number, params)


def forward(module: Any, data: Any, passes: int) -> Iterator[Batch]:
    """(prediction, passes, targets) of each batch of a loader, or of rows of an array of inputs."""
    layers = dropout_layers(module) if passes else []
    if passes and not layers:
        warnings.warn(
            f"{type(module).__name__} has no active dropout layer: mc_dropout={passes} gives no passes",
            category=HyppoWarning,
            stacklevel=2,
        )
        passes = 0
    default = type(module).predict_step.__module__.endswith("core.module")
    with torch.no_grad(), mode_kept(module):
        for index, raw in enumerate(_batches(module, data)):
            batch = module.transfer_batch_to_device(raw, module.device, 0)
            pair = isinstance(batch, tuple | list) and len(batch) > 1
            targets = batch[1] if pair else None
            if default and isinstance(batch, tuple | list):
                batch = batch[0]
            yield module.predict_step(batch, index), passes_through(module, (batch, index), layers, passes), targets


def _batches(module: Any, data: Any) -> Iterator[Any]:
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if not isinstance(data, torch.Tensor):
        yield from data
        return
    data = data.to(module.dtype) if data.is_floating_point() else data
    for start in range(0, len(data), ROWS):
        yield data[start : start + ROWS]
