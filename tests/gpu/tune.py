"""A study for the tests on a GPU: `python tune.py FRAMEWORK DEVICE LOG EPOCHS`.

FRAMEWORK is one of `OBJECTIVES`. With DEVICE "cpu" the same script runs on any machine.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import hyppo

FRAMEWORK, DEVICE, LOG, EPOCHS = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])


def note(replica, **facts):
    """Append what this training saw to a file beside the study."""
    with open(f"{LOG}.facts", "a") as file:
        file.write(json.dumps({"trial": replica.trial, "pid": os.getpid(), **facts}) + "\n")


def data():
    import torch

    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    return x, x.sum(1, keepdim=True)


def train_lightning(replica, precision="32-true"):
    """A network with dropout, whose masks are drawn on the device."""
    import lightning
    import torch
    from hyppo_lightning import HyppoCallback
    from torch.utils.data import DataLoader, TensorDataset

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(
                torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(32, 1)
            )

        def forward(self, x):
            return self.body(x)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val_loss", torch.nn.functional.mse_loss(self(batch[0]), batch[1]))

        def predict_step(self, batch, index):
            return self(batch[0])

        def on_train_epoch_start(self):
            note(replica, epoch=self.current_epoch, device=str(self.device), began=time.time())
            time.sleep(0.2)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=replica.params["lr"])

    rows = TensorDataset(*data())
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    callback = HyppoCallback(replica, mc_dropout=3)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator=DEVICE, precision=precision, callbacks=[callback], **quiet
    )
    trainer.fit(Net(), DataLoader(rows, 64, shuffle=True), DataLoader(rows, 256))
    note(replica, devices=list(replica.devices), visible=os.environ.get("CUDA_VISIBLE_DEVICES"))


def train_mixed(replica):
    """In mixed precision, on a GPU with a scale of the loss that a checkpoint must keep."""
    train_lightning(replica, "16-mixed" if DEVICE == "gpu" else "bf16-mixed")


def train_keras(replica):
    import hyppo_keras
    import keras

    x, y = (part.numpy() for part in data())
    with keras.device(f"gpu:{replica.devices[0]}") if replica.devices else contextlib.nullcontext():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(replica.params["lr"]), "mse")
        hyppo_keras.fit(replica, model, x, y, batch_size=64, epochs=EPOCHS, validation_split=0.25, verbose=0)
    weight = model.trainable_weights[0].value
    note(replica, device=str(getattr(weight, "device", "")), devices=list(replica.devices))


def train_nccl(replica):
    """A process group of one rank on the GPU; the run clears it before the next training."""
    import torch
    import torch.distributed as distributed

    device = "cuda" if DEVICE == "gpu" else "cpu"
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    store = distributed.TCPStore("127.0.0.1", 0, 1, True)
    distributed.init_process_group("nccl" if DEVICE == "gpu" else "gloo", store=store, rank=0, world_size=1)
    value = torch.full((2,), replica.params["lr"], device=device)
    distributed.all_reduce(value)
    note(replica, device=str(value.device), backend=distributed.get_backend())
    return float(value.sum())


def train_broken(replica):
    """The first training breaks its process' GPU, as a label out of range does, and hides the error."""
    import torch

    device = "cuda" if DEVICE == "gpu" else "cpu"
    values = torch.arange(4.0, device=device)
    if replica.trial == 0:
        try:
            values[torch.tensor([7], device=device)].sum().item()
        except (RuntimeError, IndexError) as error:
            note(replica, error=str(error))
            return 1.0
    return float(values.sum())


def train_memory(replica):
    """Each training takes more than half of the GPU; the second wants more than there is."""
    import torch

    device = "cuda" if DEVICE == "gpu" else "cpu"
    whole = torch.cuda.get_device_properties(0).total_memory if DEVICE == "gpu" else 1 << 20
    holder = [torch.ones(int(0.6 * whole), dtype=torch.uint8, device=device)]
    holder.append(holder)  # a cycle, as in a Trainer: only a collection frees it
    if replica.trial == 1:
        if DEVICE == "gpu":
            torch.empty(whole, dtype=torch.uint8, device=device)
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return float(holder[0][:8].sum())


OBJECTIVES = {
    "lightning": train_lightning,
    "keras": train_keras,
    "nccl": train_nccl,
    "broken": train_broken,
    "memory": train_memory,
    "mixed": train_mixed,
}
study = hyppo.Study(
    hyppo.Space(lr=hyppo.Real(1e-3, 1e-1, log=True)),
    OBJECTIVES[FRAMEWORK],
    log=LOG,
    replicas=1,
    surrogate="random",
    isolate="HERE" not in os.environ,
)

if __name__ == "__main__":
    at_a_time = {name.lower(): int(os.environ[name]) for name in ("WORKERS", "DATA_PARALLEL") if name in os.environ}
    study.run(trials=int(os.environ.get("TRIALS", "2")), **at_a_time, progress=False)
    torch = sys.modules.get("torch")
    print(json.dumps({"manager": os.getpid(), "cuda": torch is not None and torch.cuda.is_initialized()}))
