"""Check that exactly the ranks of one replica train together."""

import functools
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from hyppo.errors import StudyError
from hyppo.training.replica import Replica


def watch_launchers(package: str, replica_of: Callable[[Any], Replica | None]) -> None:
    """Make Lightning's launchers check a Trainer before they start a process.

    Launchers run before any hook of a callback. If a Trainer has more devices than its replica, they start further runs
    of the user's script, and the first run waits for these for half an hour, or copies of this process, which cannot
    return a result.

    Parameters
    ----------
    package : str
        "lightning.pytorch" or "pytorch_lightning".
    replica_of : callable
        The replica that a Trainer trains, or None.
    """
    launchers = import_module(f"{package}.strategies.launchers")
    for name in ("_SubprocessScriptLauncher", "_MultiProcessingLauncher"):
        launcher = getattr(launchers, name, None)  # another version may have other names
        if launcher is not None and not hasattr(launcher.launch, "__wrapped__"):
            launcher.launch = _checked(launcher.launch, replica_of)


def _checked(launch: Any, replica_of: Callable[[Any], Replica | None]) -> Any:
    @functools.wraps(launch)
    def checked(self: Any, function: Any, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        replica = None if trainer is None else replica_of(trainer)
        if replica is not None:
            check_size(trainer, replica)
            if "MultiProcessing" in type(self).__name__:
                raise StudyError(
                    f"strategy= of the Trainer ({type(trainer.strategy).__name__}) trains in copies of this process "
                    'that start by spawn or fork and cannot return a result: leave strategy= out, or set it to "ddp"'
                )
        return launch(self, function, *args, trainer=trainer, **kwargs)

    return checked


def check_size(trainer: Any, replica: Replica) -> None:
    """Check that the Trainer will train on as many ranks as the replica has, each on a GPU of its own if on any.

    Raises
    ------
    StudyError
        The numbers of ranks differ, or ranks would share a GPU.
    """
    if trainer.world_size == replica.world_size:
        devices = getattr(trainer.strategy, "parallel_devices", None) or ()
        gpus = torch.cuda.device_count()
        if any(device.type == "cuda" and (device.index or 0) >= gpus for device in devices):
            raise StudyError(
                f"{replica.world_size} ranks train this replica together, each on a GPU of its own, and this node has "
                f"{gpus} for them: reduce data_parallel, or set Trainer(accelerator='cpu')"
            )
        return
    told = f"({type(trainer.strategy).__name__}, devices={trainer.num_devices}, num_nodes={trainer.num_nodes})"
    if replica.world_size == 1:
        raise StudyError(
            f"this replica trains on one rank, but the Trainer on {trainer.world_size} {told}: leave out devices=, "
            "num_nodes= and strategy= of the Trainer; to train each replica on several ranks, use "
            "mpirun and study.run(..., data_parallel=2), or hyppo run --data-parallel 2"
        )
    raise StudyError(
        f"this replica trains on {replica.world_size} ranks together, but the Trainer on {trainer.world_size} {told}: "
        "leave out devices=, num_nodes= and strategy= of the Trainer, which reads the right values from its "
        "environment, or set values that match the ranks"
    )


def check_group(trainer: Any, replica: Replica) -> None:
    """Check that the Trainer trains on the ranks of this replica; a collective call if there are several.

    Two groups that share a port would silently train each other's weights, and a Trainer with other devices or another
    strategy would train a separate network on each rank. Call it after the process group is initialised.

    Parameters
    ----------
    trainer : lightning.pytorch.Trainer
    replica : hyppo.Replica

    Raises
    ------
    StudyError
        An argument of the Trainer does not match the group, or the process group has ranks of another training.
    """
    check_size(trainer, replica)
    if replica.world_size == 1:
        return
    tokens: list[Any] = [None] * replica.world_size
    torch.distributed.all_gather_object(tokens, os.environ.get("TORCHELASTIC_RUN_ID"))
    if len(set(tokens)) > 1:
        raise StudyError(
            f"the process group holds ranks of {len(set(tokens))} trainings (TORCHELASTIC_RUN_ID {tokens}): a script "
            "that sets MASTER_PORT or initialises torch.distributed itself must leave both to the Trainer"
        )
