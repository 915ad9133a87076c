"""The U-Net of `benchmarks.sinogram` at 16 x 16; loss: log10 of its error over that of linear interpolation.

The network, its dropout and its loss are the benchmark's own; the rate is constant, so that one training passes through
all numbers of epochs.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch.func import functional_call, stack_module_state, vmap

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, step
from benchmarks.optimizers.tabulate.table import Table
from benchmarks.sinogram.data import Setting

SEEDS = 10
BATCH = 16
EPOCHS = (1, 2, 4)
SETTING = Setting(detectors=16, angles=16, keep_every=4, train=64, validation=32)
SPACE = hyppo.Space(
    depth=hyppo.Integer(1, 2),
    width=hyppo.Ordinal([2, 4]),
    rate=hyppo.Ordinal([1e-3, 3e-3, 1e-2, 3e-2]),
    dropout=hyppo.Ordinal([0.0, 0.15]),
    epochs=hyppo.Ordinal(EPOCHS),
)


@cache
def _data() -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    from benchmarks.sinogram.data import scans
    from benchmarks.sinogram.network_lightning import linear_error

    training, validation = scans(SETTING, "train"), scans(SETTING, "validation")
    tensors = [torch.from_numpy(a) for part in (training, validation) for a in (part.inputs, part.targets)]
    return tensors[0], tensors[1], tensors[2], tensors[3], linear_error(validation)


def _train(params: Mapping[str, Any]) -> Any:
    from benchmarks.sinogram.network_lightning import Inpainter

    x, y, x_valid, y_valid, linear = _data()
    stack = Stack(SEEDS)
    networks = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        networks.append(Inpainter(params["depth"], params["width"], 3, params["rate"], params["dropout"]))
    weights, _ = stack_module_state(networks)
    network = networks[0]
    optimizer = torch.optim.Adam(weights.values(), params["rate"])

    def error(own: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return Inpainter.missing_error(functional_call(network, own, (inputs,)), (inputs, targets))

    errors = vmap(error, randomness="different")
    curve = []
    for epoch in range(1, max(EPOCHS) + 1):
        network.train()
        for rows in stack.batches(len(x), BATCH):
            step(optimizer, errors(weights, x[rows], y[rows]))
        if epoch in EPOCHS:
            network.eval()
            with torch.no_grad():
                both = (a.expand(SEEDS, *a.shape) for a in (x_valid, y_valid))
                curve.append(torch.log10(errors(weights, *both) / linear))
    return columns(curve)


TABLE = Table(SPACE, _train)
