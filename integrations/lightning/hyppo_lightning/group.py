"""The ranks that train one replica together: that these have met, and no others."""

import functools
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hyppo.errors import StudyError
from hyppo.training.replica import Replica


def watch_launchers(package: str, replica_of: Callable[[Any], Replica | None]) -> None:
    """Have Lightning's launchers check a Trainer before they start a process.

    They run before any hook of a callback. What they start for a Trainer of more devices than its replica has are
    further runs of the user's script, for which the first waits half an hour, or copies of this process, from which
    no result comes back.

    Parameters
    ----------
    package : str
        "lightning.pytorch" or "pytorch_lightning".
    replica_of : callable
        The replica that a Trainer trains, or None.
    """
    launchers = import_module(f"{package}.strategies.launchers")
    for name in ("_SubprocessScriptLauncher", "_MultiProcessingLauncher"):
        launcher = getattr(launchers, name, None)  # another version may call them otherwise
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
                    'that start by spawn or fork, and no result comes back from them: leave strategy= out, or say "ddp"'
                )
        return launch(self, function, *args, trainer=trainer, **kwargs)

    return checked


def check_size(trainer: Any, replica: Replica) -> None:
    """Make sure that the Trainer means to train on as many ranks as the replica has.

    Raises
    ------
    StudyError
        It does not.
    """
    if trainer.world_size == replica.world_size:
        return
    told = f"({type(trainer.strategy).__name__}, devices={trainer.num_devices}, num_nodes={trainer.num_nodes})"
    if replica.world_size == 1:
        raise StudyError(
            f"this replica trains on one rank, but the Trainer on {trainer.world_size} {told}: leave out devices=, "
            "num_nodes= and strategy= of the Trainer, and have each replica trained on several ranks by "
            "mpirun and study.run(..., data_parallel=2), or hyppo run --data-parallel 2"
        )
    raise StudyError(
        f"this replica trains on {replica.world_size} ranks together, but the Trainer on {trainer.world_size} {told}: "
        "leave out devices=, num_nodes= and strategy= of the Trainer, which takes what fits the group from its "
        "environment, or give it what fits"
    )


def check_group(trainer: Any, replica: Replica) -> None:
    """Make sure that the Trainer trains on the ranks of this replica; a collective call where these are several.

    Two groups that meet on one port train each other's weights without a word, and a Trainer that was told other
    devices or another strategy trains a network of its own on each rank. Called once the process group stands.

    Parameters
    ----------
    trainer : lightning.pytorch.Trainer
    replica : hyppo.Replica

    Raises
    ------
    StudyError
        An argument of the Trainer's that does not fit the group, or ranks of another training in the process group.
    """
    check_size(trainer, replica)
    if replica.world_size == 1:
        return
    from torch import distributed

    tokens: list[Any] = [None] * replica.world_size
    distributed.all_gather_object(tokens, os.environ.get("TORCHELASTIC_RUN_ID"))
    if len(set(tokens)) > 1:
        raise StudyError(
            f"the process group holds ranks of {len(set(tokens))} trainings (TORCHELASTIC_RUN_ID {tokens}): a script "
            "that sets MASTER_PORT or initialises torch.distributed itself must leave both to the Trainer"
        )
