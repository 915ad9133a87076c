"""Validation batches through the trained network, and through it again with its dropout layers alone active."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, Subset, SubsetRandomSampler

from hyppo.errors import notify
from hyppo.training.predictions import Batch, possible_passes

FUNCTIONAL = " (functional dropout is not detected: use nn.Dropout)"


def dropout_layers(module: nn.Module) -> list[nn.Module]:
    """Layers that drop: torch's own, those inside recurrent and attention layers, and others that are called so."""
    layers = []
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            drops = layer.dropout > 0 and layer.num_layers > 1
        elif isinstance(layer, nn.MultiheadAttention):
            drops = layer.dropout > 0
        else:
            named = isinstance(layer, nn.modules.dropout._DropoutNd) or "Dropout" in type(layer).__name__
            drops = named and getattr(layer, "p", 1.0) > 0
        if drops:
            layers.append(layer)
    return layers


@contextmanager
def mode_kept(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and every layer's own mode again after."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@contextmanager
def dropping(layers: list[nn.Module]) -> Iterator[None]:
    """Only `layers` in training mode. The fused transformer kernels of evaluation mode, which skip dropout, are off."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for layer in layers:
            layer.training = False


def in_order(loader: Any) -> Any:
    """The whole data set in its own order: replicas predict the same rows, also those that other ranks validate."""
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, SubsetRandomSampler) and loader.batch_size:
        return _reloaded(loader, Subset(loader.dataset, list(sampler.indices)))
    if isinstance(sampler, RandomSampler | DistributedSampler) and loader.batch_size:
        return _reloaded(loader, loader.dataset)
    return loader


def _reloaded(loader: Any, dataset: Any) -> Any:
    """A loader like `loader`, of `dataset` in its order."""
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        worker_init_fn=loader.worker_init_fn,
    )


def _loaders(trainer: Any) -> list[tuple[Any, float]]:
    """Validation loaders with the number of their batches that the Trainer uses, on all ranks together."""
    found = trainer.val_dataloaders
    if found is None:
        return []
    loaders = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list | tuple) else [found]
    return [
        (in_order(loader), count * getattr(getattr(loader, "sampler", None), "num_replicas", 1))
        for loader, count in zip(loaders, trainer.num_val_batches, strict=False)
    ]


def batches(trainer: Any, module: Any, passes: int) -> Iterator[Batch]:
    """(prediction, passes, targets) of each validation batch, by the user's `predict_step`.

    The default `predict_step` passes the whole batch to `forward`; here it gets only the inputs of a batch that is a
    tuple (inputs, targets, ...).
    """
    layers = dropout_layers(module) if passes else []
    passes = possible_passes(passes, layers, type(module).__name__, FUNCTIONAL)
    default = type(module).predict_step.__module__.endswith("core.module")
    loaders = _loaders(trainer)
    noticed = not default

    with torch.no_grad(), trainer.precision_plugin.predict_step_context(), mode_kept(module):
        for position, (loader, count) in enumerate(loaders):
            for index, raw in enumerate(loader):
                if index >= count:
                    break
                batch = trainer.strategy.batch_to_device(raw, dataloader_idx=position)
                batch = trainer.precision_plugin.convert_input(batch)
                pair = isinstance(batch, tuple | list) and len(batch) > 1
                targets = batch[1] if pair else None
                if default and isinstance(batch, tuple | list):
                    if not noticed:
                        noticed = True
                        notify(
                            f"{type(module).__name__} does not define predict_step: predictions are those of the "
                            "first element of each validation batch",
                            stacklevel=2,
                        )
                    batch = batch[0]
                arguments = (batch, index) if len(loaders) == 1 else (batch, index, position)
                yield module.predict_step(*arguments), passes_through(module, arguments, layers, passes), targets


def passes_through(module: Any, arguments: tuple[Any, ...], layers: list[nn.Module], passes: int) -> Iterator[Any]:
    """The network's output with only `layers` as in training, `passes` times."""
    for _ in range(passes):
        with dropping(layers):
            output = module.predict_step(*arguments)
        yield output
