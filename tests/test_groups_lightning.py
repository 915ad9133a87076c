"""Ranks that train together with Lightning: the right ones, or an error that says why not."""

import os
import subprocess
import sys

import pytest

import hyppo

from .torchrun import free_ports, two_ranks

pytest.importorskip("torch")

# (arguments of the Trainer, TORCHELASTIC_RUN_ID of each of two ranks, what each says)
CASES = [
    ("{}", ("one", "one"), "trained on 2"),
    ("{}", ("one", "two"), "StudyError the process group holds ranks of 2 trainings"),
    ("dict(devices=2, strategy='ddp_find_unused_parameters_true')", ("one", "one"), "trained on 2"),
    ("dict(devices=1, strategy='auto')", ("one", "one"), "leave out devices=, num_nodes= and strategy= of the Trainer"),
    ("dict(strategy=SingleDeviceStrategy('cpu'))", ("one", "one"), "(SingleDeviceStrategy, devices=1, num_nodes=1)"),
    ("dict(devices=1)", ("one", "one"), "You set `devices=1`"),  # an error of Lightning's own
]
RANK = """
import os, sys, torch, lightning as L
from pathlib import Path
from lightning.pytorch.strategies import SingleDeviceStrategy
sys.path.insert(0, sys.argv[1])
import test_callback_lightning as here
from hyppo import StudyError
rank = int(sys.argv[2])
for port, (arguments, tokens, _) in zip(sys.argv[4:], CASES):
    os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_RUN_ID": tokens[rank]}
    callback = here.HyppoCallback(here.replica(Path(sys.argv[3]), rank=rank, world_size=2))
    try:
        trainer = L.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu",
                            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                            **eval(arguments))
        trainer.fit(here.Net(), here.data(27), here.data(27, 2))
        print("says: trained on", trainer.world_size)
    except (StudyError, ValueError) as error:
        print("says:", type(error).__name__, error)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ranks_meet_their_own_or_say_why_not(tmp_path):
    code = RANK.replace("CASES", repr(CASES))
    for _, out, errors in two_ranks(code, str(tmp_path), *free_ports(len(CASES)), PL_TRAINER_NUM_NODES="1"):
        said = [line for line in out.splitlines() if line.startswith("says: ")]
        assert len(said) == len(CASES), errors
        for (_, _, words), line in zip(CASES, said, strict=True):
            assert words in line


SHARDED = """
import sys, warnings, torch, lightning as L
from pathlib import Path
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
sys.path.insert(0, sys.argv[1])
import test_callback_lightning as here
warnings.simplefilter("always")


class Net(here.Net):
    def configure_model(self):
        fully_shard(self, mesh=self.device_mesh["data_parallel"])


replica = here.replica(Path(sys.argv[3]), rank=int(sys.argv[2]), world_size=2)
callback = here.HyppoCallback(replica)
callback._saves.due = lambda: True
strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo")
trainer = L.Trainer(max_epochs=3, callbacks=[callback], logger=False, accelerator="cpu", strategy=strategy, devices=2,
                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Net(), here.data(27), here.data(27, 2))
print("says:", replica.result.loss)
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_network_that_is_sharded_over_the_ranks_is_kept_whole(tmp_path):
    """No predictions and no state to go on from, with a notice each, and a network that loads on one rank."""
    import torch
    import torch.distributed.fsdp

    from . import test_callback_lightning as here

    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("an older torch")
    said = two_ranks(SHARDED, str(tmp_path), MASTER_PORT=free_ports(1)[0], PL_TRAINER_NUM_NODES="1")
    assert all("says: " in out for _, out, _ in said), said
    errors = said[0][2]
    assert errors.count("no predictions are kept: ModelParallelStrategy shards the network") == 1
    assert errors.count("the state of this training is not saved") == 1
    directory = here.replica(tmp_path).directory
    assert not list(directory.glob("resume.*"))
    here.Net().load_state_dict(torch.load(directory / "weights.ckpt", weights_only=True)["state_dict"])


ALONE = """
import sys
import hyppo, torch, lightning, pytorch_lightning
from hyppo_lightning import HyppoCallback
from torch.utils.data import DataLoader, TensorDataset

quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


def net(package):
    class Net(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self.body(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val_loss", self.training_step(batch, index))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return Net()


def fit(replica, package, arguments):
    rows = TensorDataset(torch.randn(32, 4), torch.randn(32, 1))
    trainer = package.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[HyppoCallback(replica)], **arguments, **quiet
    )
    trainer.fit(net(package), DataLoader(rows, batch_size=8), DataLoader(rows, batch_size=8))


def train(replica):
    if replica.trial == 1:
        return fit(replica, lightning, CASES[0])
    for package in (lightning, pytorch_lightning):
        for arguments in CASES:
            try:
                fit(replica, package, arguments)
                print(f"says: trained with a loss of {replica.result.loss:.3f}")
            except hyppo.StudyError as error:
                print("says:", error)


study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=sys.argv[1], replicas=1, surrogate="random")
if __name__ == "__main__":
    study.run(trials=2, progress=False, workers=1)
"""
TWO = "this replica trains on one rank, but the Trainer on 2"
CASES_ALONE = [
    ({"devices": 2}, f"{TWO} (DDPStrategy, devices=2, num_nodes=1)"),
    ({"devices": 2, "strategy": "ddp_spawn"}, TWO),
    ({"devices": 2, "strategy": "ddp_fork"}, TWO),
    ({"num_nodes": 2}, f"{TWO} (DDPStrategy, devices=1, num_nodes=2)"),
    ({"devices": 1, "strategy": "ddp_spawn"}, 'leave strategy= out, or set it to "ddp"'),
    ({"devices": 1, "strategy": "ddp"}, "says: trained with a loss of "),
]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_trainer_that_would_start_processes_of_its_own(tmp_path):
    """Of both packages, in a training process with one rank: an error before any of them starts."""
    pytest.importorskip("pytorch_lightning")
    script = tmp_path / "tune.py"
    script.write_text(ALONE.replace("CASES", repr([arguments for arguments, _ in CASES_ALONE])))
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "s.h5")]
    run = subprocess.run(command, timeout=90, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stdout.splitlines() if "says: " in line]
    assert len(said) == 2 * len(CASES_ALONE), run.stdout + run.stderr
    for (_, words), line in zip(2 * CASES_ALONE, said, strict=True):
        assert words in line
    alone, refused = (trial.replicas[0] for trial in hyppo.load(tmp_path / "s.h5").trials)
    assert alone.loss is not None
    assert TWO in str(refused.failure)
