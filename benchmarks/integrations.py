"""Cost of the integrations: time in each epoch, and memory over many trainings in one process.

    python -m benchmarks.integrations            # both, on Lightning and on Keras with each backend that is installed
    python -m benchmarks.integrations overhead
    python -m benchmarks.integrations memory

Everything runs as in a study: in a training process, with reports over its pipe.
"""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hyppo
from hyppo.launch.wire import resident_memory
from hyppo.loop import Session

FRAMEWORKS = ("lightning", "tensorflow", "torch", "jax")  # the last three are Keras on that backend
EPOCHS, PAIRS = 3, 3
TRAININGS, TENTH = 200, 10
EPOCH = ("on_train_epoch_start", "on_validation_start", "on_validation_end", "on_train_epoch_end", "on_epoch_end")


def data(n: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 128)).astype("float32")
    return x, np.sin(x.sum(1, keepdims=True)).astype("float32")


class Stopwatch:
    """Seconds spent in the methods of an object that are called once an epoch."""

    def __init__(self, watched: Any) -> None:
        self.seconds = 0.0
        for name in EPOCH:
            if hasattr(watched, name):
                setattr(watched, name, partial(self._timed, getattr(watched, name)))

    def _timed(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - start


def lightning_fit(x: Any, y: Any, width: int, epochs: int, callbacks: list[Any]) -> None:
    import lightning
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(128, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 1))

        def training_step(self, batch: Any, index: int) -> Any:
            return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    rows = TensorDataset(torch.tensor(x), torch.tensor(y))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(Net(), DataLoader(rows, batch_size=64), DataLoader(rows, batch_size=256))


def keras_fit(x: Any, y: Any, width: int, epochs: int, callbacks: list[Any]) -> None:
    import keras

    layers = [keras.layers.Dense(width, "relu"), keras.layers.Dense(width), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((128,)), *layers])
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=64, epochs=epochs, validation_data=(x, y), callbacks=callbacks, verbose=0)


def fit_of(framework: str) -> Callable[..., None]:
    return lightning_fit if framework == "lightning" else keras_fit


def callback_of(framework: str, replica: hyppo.Replica) -> Any:
    if framework == "lightning":
        from hyppo_lightning import HyppoCallback as ForLightning

        return ForLightning(replica, predict=False)
    from hyppo_keras import HyppoCallback as ForKeras

    return ForKeras(replica, predict=False)


def one_result_each(replica: hyppo.Replica) -> hyppo.Replica:
    """The same replica, for a further fit in this training."""
    replica.result = None
    return replica


def overhead(replica: hyppo.Replica) -> float:
    """Fits with and without the callback in turn, on a network of 1.2 million weights and epochs of about a second."""
    fit = fit_of(os.environ["FRAMEWORK"])
    width, n = 1024, 4096
    x, y = data(n)
    fit(x, y, width, 1, [])  # whatever comes once a process
    seconds = []
    for epochs in (1, 3):  # the cost of a whole fit is in both
        start = time.perf_counter()
        fit(x, y, width, epochs, [])
        seconds.append(time.perf_counter() - start)
    n = int(n * min(10.0, max(0.25, 2.0 / max(seconds[1] - seconds[0], 0.1)))) // 64 * 64
    x, y = data(n)
    rows = []
    for _ in range(PAIRS):
        start = time.perf_counter()
        fit(x, y, width, EPOCHS, [])
        without = (time.perf_counter() - start) / EPOCHS
        callback = callback_of(os.environ["FRAMEWORK"], one_result_each(replica))
        watch = Stopwatch(callback)
        start = time.perf_counter()
        fit(x, y, width, EPOCHS, [callback])
        rows.append((without, (time.perf_counter() - start) / EPOCHS, watch.seconds / EPOCHS))
    (replica.directory / "rows.json").write_text(json.dumps(rows))
    return 0.0 if replica.result is None else replica.result.loss


def small(replica: hyppo.Replica) -> None:
    """A small training of two epochs; how much memory its process holds then is appended to a file."""
    framework = os.environ["FRAMEWORK"]
    x, y = data(256)
    fit_of(framework)(x, y, replica.params["width"], 2, [callback_of(framework, replica)])
    with open(os.environ["RESIDENT"], "a", encoding="ascii") as file:
        file.write(f"{os.getpid()} {resident_memory(os.getpid())}\n")


def installed() -> list[str]:
    there = [name for name in FRAMEWORKS if importlib.util.find_spec(name)]
    return there if importlib.util.find_spec("keras") else [name for name in there if name == "lightning"]


def _prepare(framework: str) -> None:
    os.environ["FRAMEWORK"] = framework
    os.environ["KERAS_BACKEND"] = framework if framework != "lightning" else "tensorflow"


def name_of(framework: str) -> str:
    return "Lightning" if framework == "lightning" else f"Keras, {framework}"


def print_overhead(frameworks: list[str], folder: Path) -> None:
    print("| framework | epoch without, s | with, s | in the callback, ms an epoch | share |\n|---|---|---|---|---|")
    for framework in frameworks:
        _prepare(framework)
        study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), overhead, log=folder / f"{framework}.h5", replicas=1)
        study.run(trainings=1, progress=False, threads=1, output="file")
        (record,) = study.trials[0].replicas
        if record.failure is not None:
            raise SystemExit(record.failure.traceback)
        rows = json.loads((Session(study).directory(0, 0) / "rows.json").read_text())
        without, using, inside = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"| {name_of(framework)} | {without:.3f} | {using:.3f} | {1e3 * inside:.2f} | {inside / without:.2%} |",
            flush=True,
        )


def print_memory(frameworks: list[str], folder: Path) -> None:
    print(
        f"| framework | after the {TENTH}th, MB | most of {TRAININGS}, MB | ratio | processes |\n|---|---|---|---|---|"
    )
    for framework in frameworks:
        _prepare(framework)
        resident = folder / f"{framework}.txt"
        os.environ["RESIDENT"] = str(resident)
        study = hyppo.Study(hyppo.Space(width=hyppo.Integer(8, 64)), small, replicas=1, surrogate="random")
        study.run(trainings=TRAININGS, progress=False, threads=1, output="file")
        failures = [r.failure for t in study.trials for r in t.replicas if r.failure is not None]
        if failures:
            raise SystemExit(failures[0].traceback)
        lines = [line.split() for line in resident.read_text().splitlines()]
        held = [int(size) / 1e6 for _, size in lines]
        most = max(held)
        print(
            f"| {name_of(framework)} | {held[TENTH - 1]:.0f} | {most:.0f} | {most / held[TENTH - 1]:.2f} "
            f"| {len({pid for pid, _ in lines})} |",
            flush=True,
        )


def main(wanted: list[str]) -> None:
    frameworks = [name for name in installed() if name in wanted] or installed()
    with tempfile.TemporaryDirectory() as folder:
        if "memory" not in wanted:
            print_overhead(frameworks, Path(folder))
        if "overhead" not in wanted:
            print_memory(frameworks, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
