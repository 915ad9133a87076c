"""The network in PyTorch, trained by Lightning, as one would write it without a search.

A U-Net finds the error of the interpolation: its output is added to the linearly interpolated sinogram, on the missing
views only, and its last convolution starts at zero, so that training starts exactly at linear interpolation.

Loss that the search sees: log10 of the squared error over the missing validation views, relative to linear
interpolation's. The logarithm because seeds scatter the error by a percentage rather than by an amount, and because a
diverged training is then a bad value and not a flood.

References
----------
Ronneberger, Fischer & Brox (2015). U-Net: convolutional networks for biomedical image segmentation.
Lee, Lee, Kim, Cho & Cho (2019). Deep-neural-network-based sinogram synthesis for sparse-view CT image reconstruction.
"""

import logging
import math
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from hyppo_lightning import HyppoCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import hyppo
from benchmarks.sinogram.data import SCALE, Float32Array, Scans, Setting, scans

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}
WEIGHTS = "weights.pt"

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # hundreds of trainings need not say "no GPU" each


class Level(nn.Sequential):
    """Two convolutions, each normalised and activated, then dropout of whole channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dropout: float, activation: str) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, kernel, padding="same"),
                # Without normalisation some configurations never leave their start.
                nn.GroupNorm(math.gcd(4, outputs), outputs),
                ACTIVATIONS[activation](),
            ]
        super().__init__(*layers, nn.Dropout2d(dropout))


class Inpainter(lightning.LightningModule):
    """U-Net for (n, 2, A, N) inputs of `Scans.inputs`, giving (n, A, N) scaled sinograms.

    Parameters
    ----------
    depth : int
        Times that the resolution is halved; A and N must be multiples of 2^depth.
    width : int
        Channels at full resolution; they double with each level.
    kernel : int
        Size of the convolutions.
    lr : float
        Peak learning rate of one warm-up and cosine decay over the whole training.
    dropout : float
        Probability of dropping a channel.
    activation : str
        One of `ACTIVATIONS`.
    linear_error : float
        Validation error of linear interpolation, in scaled units: the unit of the loss that is logged.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        kernel: int,
        lr: float,
        dropout: float,
        activation: str = "silu",
        linear_error: float = 1.0,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.linear_error = linear_error
        channels = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            Level(2 if level == 0 else channels[level - 1], channels[level], kernel, dropout, activation)
            for level in range(depth + 1)
        )
        self.rise = nn.ModuleList(nn.Conv2d(channels[k + 1], channels[k], 1) for k in range(depth))
        self.up = nn.ModuleList(Level(2 * channels[k], channels[k], kernel, dropout, activation) for k in range(depth))
        self.last = nn.Conv2d(channels[0], 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.validation_errors: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        skips = []
        x = inputs
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.avg_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for rise, block in zip(reversed(self.rise), reversed(self.up), strict=True):
            x = rise(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
            x = block(torch.cat([x, skips.pop()], dim=1))
        linear, kept = inputs[:, 0], inputs[:, 1]
        filled: Tensor = linear + (1.0 - kept) * self.last(x)[:, 0]
        return filled

    @staticmethod
    def missing_error(prediction: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error over the missing views."""
        inputs, targets = batch
        missing = 1.0 - inputs[:, 1]
        error: Tensor = ((prediction - targets) ** 2 * missing).sum() / missing.sum()
        return error

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self.missing_error(self(batch[0]), batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.validation_errors.append(self.missing_error(self(batch[0]), batch))

    def predict_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        prediction: Tensor = self(batch[0])
        return prediction

    def on_validation_epoch_end(self) -> None:
        error = torch.stack(self.validation_errors).mean()
        self.validation_errors.clear()
        self.log("val_loss", torch.log10(error / self.linear_error))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        warm_up = round(0.3 * steps)
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 25, 1.0, warm_up),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm_up),
            ],
            milestones=[warm_up],
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class HalfTurns(Dataset[tuple[Tensor, Tensor]]):
    """Training scans, each drawn as it is or turned by 180 degrees: as likely an object, and exact on the grid."""

    def __init__(self, part: Scans) -> None:
        self.inputs = torch.from_numpy(part.inputs)
        self.targets = torch.from_numpy(part.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.inputs[index], self.targets[index]
        if torch.rand(()) < 0.5:
            return inputs.flip(-1).roll(1, -1), targets.flip(-1).roll(1, -1)
        return inputs, targets


def linear_error(part: Scans) -> float:
    """Squared error of linear interpolation over the missing views, in the network's units."""
    missing = ~part.kept
    return float(np.mean((part.linear[:, missing] - part.truth[:, missing]) ** 2)) * SCALE**2


def train(replica: hyppo.Replica, setting: Setting) -> None:
    """Train one replica; the callback hands its validation loss over, and the weights stay in its directory."""
    torch.set_num_threads(1)
    training, validation = scans(setting, "train"), scans(setting, "validation")
    batch = replica.params["batch"]
    network = {name: value for name, value in replica.params.items() if name != "batch"}
    model = Inpainter(**network, linear_error=linear_error(validation))
    trainer = lightning.Trainer(
        max_epochs=setting.samples // setting.train,
        accelerator="cpu",
        callbacks=[HyppoCallback(replica, monitor="val_loss")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        model,
        DataLoader(HalfTurns(training), batch_size=batch, shuffle=True),
        DataLoader(
            TensorDataset(torch.from_numpy(validation.inputs), torch.from_numpy(validation.targets)), batch_size=64
        ),
    )
    torch.save(model.state_dict(), Path(replica.directory) / WEIGHTS)


def fill(params: dict[str, Any], directory: Path, part: Scans, setting: Setting) -> Float32Array:
    """Fill scans with the network that a replica left in its directory, (n, A, N), line integrals over image width."""
    network = {name: value for name, value in params.items() if name != "batch"}
    torch.set_num_threads(1)
    model = Inpainter(**network)
    model.load_state_dict(torch.load(directory / WEIGHTS, weights_only=True))
    model.eval()
    with torch.inference_mode():
        filled: Float32Array = model(torch.from_numpy(part.inputs)).numpy() / np.float32(SCALE)
    return filled
