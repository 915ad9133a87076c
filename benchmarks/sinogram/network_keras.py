"""The same network in Keras, functional API: layers, initial values, schedule and loss as in `network_lightning`.

Runs on every backend that Keras has (tried: TensorFlow, PyTorch); channels are last here.
"""

import math
from pathlib import Path
from typing import Any

import hyppo_keras
import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

import hyppo
from benchmarks.sinogram.data import SCALE, Float32Array, Scans, Setting, scans
from benchmarks.sinogram.phantoms import half_turn

WEIGHTS = "model.weights.h5"


def convolution(channels: int, kernel: int) -> layers.Conv2D:
    """Convolution with PyTorch's initial weights: uniform within 1 / sqrt(inputs of a channel)."""
    uniform = keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_in", distribution="uniform")
    return layers.Conv2D(channels, kernel, padding="same", kernel_initializer=uniform)


def level(x: Any, channels: int, kernel: int, dropout: float, activation: str) -> Any:
    """Two convolutions, each normalised and activated, then dropout of whole channels."""
    for _ in range(2):
        x = convolution(channels, kernel)(x)
        x = layers.GroupNormalization(math.gcd(4, channels), epsilon=1e-5)(x)
        x = layers.Activation(activation)(x)
    return layers.SpatialDropout2D(dropout)(x)


def inpainter(
    setting: Setting, depth: int, width: int, kernel: int, dropout: float, activation: str = "silu"
) -> keras.Model:
    """U-Net from (n, A, N, 2) inputs to (n, A, N) scaled sinograms; parameters as in `network_lightning.Inpainter`."""
    channels = [width * 2**k for k in range(depth + 1)]
    inputs = layers.Input((setting.angles, setting.detectors, 2))
    x: Any = inputs
    skips = []
    for k in range(depth + 1):
        x = level(x if k == 0 else layers.AveragePooling2D(2)(x), channels[k], kernel, dropout, activation)
        skips.append(x)
    skips.pop()
    for k in reversed(range(depth)):
        x = convolution(channels[k], 1)(layers.UpSampling2D(2)(x))
        x = level(layers.Concatenate()([x, skips.pop()]), channels[k], kernel, dropout, activation)
    correction = layers.Conv2D(1, 1, kernel_initializer="zeros")(x)
    linear, kept = inputs[..., :1], inputs[..., 1:]
    outputs = linear + (1.0 - kept) * correction
    return keras.Model(inputs, layers.Reshape((setting.angles, setting.detectors))(outputs))


def missing_views_loss(kept: npt.NDArray[np.bool_]) -> Any:
    """Mean squared error over the views that were not measured."""
    missing = np.flatnonzero(~kept)

    def loss(targets: Any, predictions: Any) -> Any:
        error = ops.square(ops.take(predictions, missing, axis=1) - ops.take(targets, missing, axis=1))
        return ops.mean(error, axis=(1, 2))

    return loss


class LogRelativeError(keras.metrics.Mean):  # type: ignore[misc]
    """log10 of the error over the missing views, relative to linear interpolation's on the same data."""

    def __init__(self, kept: npt.NDArray[np.bool_], linear_error: float) -> None:
        super().__init__(name="log_nmse")
        self.error = missing_views_loss(kept)
        self.linear_error = linear_error

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(self.error(y_true, y_pred), sample_weight)

    def result(self) -> Any:
        return ops.log10(ops.maximum(super().result() / self.linear_error, 1e-12))


class HalfTurns(keras.utils.PyDataset):  # type: ignore[misc]
    """Training batches, shuffled anew each epoch; each scan as it is or turned by 180 degrees."""

    def __init__(self, part: Scans, batch: int, seed: int) -> None:
        super().__init__()
        self.inputs, self.targets = channels_last(part), part.targets
        self.batch = batch
        self.rng = np.random.default_rng(seed)
        self.order = self.rng.permutation(len(part))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[Float32Array, Float32Array]:
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        inputs, targets = self.inputs[chosen], self.targets[chosen]
        turned = self.rng.random(len(chosen)) < 0.5
        inputs[turned] = np.moveaxis(half_turn(np.moveaxis(inputs[turned], -1, 1)), 1, -1)
        targets[turned] = half_turn(targets[turned])
        return inputs, targets

    def on_epoch_end(self) -> None:
        self.order = self.rng.permutation(len(self.order))


def channels_last(part: Scans) -> Float32Array:
    """Inputs of scans as Keras wants them, (n, A, N, 2)."""
    return np.ascontiguousarray(np.moveaxis(part.inputs, 1, -1))


def linear_error(part: Scans) -> float:
    """Squared error of linear interpolation over the missing views, in the network's units."""
    missing = ~part.kept
    return float(np.mean((part.linear[:, missing] - part.truth[:, missing]) ** 2)) * SCALE**2


def train(replica: hyppo.Replica, setting: Setting) -> None:
    """Train one replica; its validation loss is handed over by `fit`, and the weights stay in its directory."""
    training, validation = scans(setting, "train"), scans(setting, "validation")
    params = dict(replica.params)
    batch, peak = params.pop("batch"), params.pop("lr")
    steps = math.ceil(setting.train / batch) * (setting.samples // setting.train)
    warm_up = round(0.3 * steps)
    model = inpainter(setting, **params)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                peak / 25, steps - warm_up, warmup_target=peak, warmup_steps=warm_up
            ),
            epsilon=1e-8,
        ),
        loss=missing_views_loss(setting.kept),
        metrics=[LogRelativeError(setting.kept, linear_error(validation))],
    )
    hyppo_keras.fit(
        replica,
        model,
        HalfTurns(training, batch, replica.seed),
        validation_data=(channels_last(validation), validation.targets),
        validation_batch_size=64,
        epochs=setting.samples // setting.train,
        monitor="val_log_nmse",
        verbose=0,
    )
    model.save_weights(Path(replica.directory) / WEIGHTS)


def fill(params: dict[str, Any], directory: Path, part: Scans, setting: Setting) -> Float32Array:
    """Fill scans with the network that a replica left in its directory, (n, A, N), line integrals over image width."""
    network = {name: value for name, value in params.items() if name not in ("batch", "lr")}
    model = inpainter(setting, **network)
    model.load_weights(directory / WEIGHTS)
    filled: Float32Array = ops.convert_to_numpy(model(channels_last(part), training=False)) / np.float32(SCALE)
    return filled
