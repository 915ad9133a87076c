"""Save trained networks, and load them as an ensemble that predicts new data."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyppo import Study
from hyppo.errors import StudyError
from hyppo.training.predictions import (
    Batch,
    Ensemble,
    call_with,
    flatten,
    network_does_not_load,
    networks_of,
    possible_passes,
)
from hyppo_lightning.predict import FUNCTIONAL, dropout_layers, mode_kept, passes_through

WEIGHTS = "weights.ckpt"
ROWS = 256  # of an array that are predicted at a time


COMPILED = "_orig_mod."  # torch.compile adds this to the names of a module's weights


def save_weights(state: dict[str, Any], form: int | None, path: Path) -> None:
    """Write a checkpoint of tensors and numbers, which `LightningModule.load_from_checkpoint` accepts too."""
    plain = {name.replace(COMPILED, ""): tensor for name, tensor in state.items()}
    # a state dict has the same form in all Lightning 2.x; the number keeps its loader from migrating it
    torch.save({"state_dict": plain, "pytorch-lightning_version": "2.4.0", "hyppo": {"batch": form}}, path)


def gathered(state: dict[str, Any]) -> dict[str, Any]:
    """The weights with the shards of all ranks put together; every rank has to call this."""
    return {name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in state.items()}


def form_of(batch: Any) -> int | None:
    """Form of a batch: length of a tuple or list, 0 for a bare tensor, None for anything else."""
    if isinstance(batch, torch.Tensor):
        return 0
    return len(batch) if isinstance(batch, tuple | list) else None


def load_ensemble(study: Study, build: Callable[..., Any], number: int | None = None) -> Ensemble:
    """The trained networks of a trial, for mean and standard deviation on new data.

    Parameters
    ----------
    study : hyppo.Study
        Also one from `hyppo.load`.
    build : callable
        Makes the network as the training did: the LightningModule's class, or a function. Called with those parameters
        of the trial that it takes.
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
    trial, paths = networks_of(study, number, "HyppoCallback(replica, weights=True)")
    params = dict(trial.params)
    networks, form = [], None
    for path in paths:
        module = call_with(build, params)
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            _load(module, checkpoint["state_dict"])
        except Exception as error:  # torch lets errors of its unpickler and of the zip reader through
            made = ", ".join(f"{key}={value!r}" for key, value in params.items())
            raise network_does_not_load(
                path, error, "build must make the network as the training did", f" into build({made})"
            ) from error
        form = checkpoint.get("hyppo", {}).get("batch", form)
        networks.append(module.eval())
    return Ensemble(tuple(networks), partial(forward, form=form), trial.number, params)


def _load(module: Any, state: dict[str, Any]) -> None:
    """Load weights, after `configure_model` and `setup` if these create the layers."""
    for make in (None, "configure_model", "setup"):
        names = {name.replace(COMPILED, ""): name for name in module.state_dict()}
        if names.keys() == state.keys():
            break
        if make == "configure_model":
            module.configure_model()
        elif make == "setup":
            module.setup("fit")
    names = {name.replace(COMPILED, ""): name for name in module.state_dict()}
    module.load_state_dict({names.get(name, name): tensor for name, tensor in state.items()})


def forward(module: Any, data: Any, passes: int, form: int | None = None) -> Iterator[Batch]:
    """(prediction, passes, targets) of each batch of a loader, or of rows of an array of inputs.

    `form` is that of the validation batches: rows of an array go to `predict_step` as first element of such a batch.
    """
    layers = dropout_layers(module) if passes else []
    passes = possible_passes(passes, layers, type(module).__name__, FUNCTIONAL)
    default = type(module).predict_step.__module__.endswith("core.module")
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    rows = isinstance(data, torch.Tensor)
    with torch.no_grad(), mode_kept(module):
        for index, raw in enumerate(_rows(module, data, form) if rows else data):
            batch = module.transfer_batch_to_device(raw, module.device, 0)
            pair = isinstance(batch, tuple | list) and len(batch) > 1
            targets = batch[1] if pair else None
            if default and isinstance(batch, tuple | list):
                batch = batch[0]
            prediction = _predicted(module, batch, index) if rows else module.predict_step(batch, index)
            yield prediction, passes_through(module, (batch, index), layers, passes), targets


def _rows(module: Any, data: torch.Tensor, form: int | None) -> Iterator[Any]:
    data = data.to(module.dtype) if data.is_floating_point() else data
    for start in range(0, len(data), ROWS):
        part = data[start : start + ROWS]
        yield [part, *[None] * (form - 1)] if form else part


def _predicted(module: Any, batch: Any, index: int) -> Any:
    """The prediction of rows of an array: as many as there are rows.

    Raises
    ------
    StudyError
        predict_step fails, or returns another number of predictions: it needs more of a batch than its inputs.
    """
    rows = len(batch[0] if isinstance(batch, list) else batch)
    advice = "give a loader whose batches are those of the validation, or a predict_step that takes the inputs alone"
    try:
        prediction = module.predict_step(batch, index)
    except Exception as error:  # any error of the user's method
        raise StudyError(
            f"{type(module).__name__}.predict_step does not take an array of inputs as the first element of a batch "
            f"({type(error).__name__}); {advice}"
        ) from error
    found = {len(leaf) for leaf in flatten(prediction).values()}
    if found - {rows}:
        raise StudyError(
            f"{type(module).__name__}.predict_step returned {sorted(found)} predictions for {rows} rows; {advice}"
        )
    return prediction
