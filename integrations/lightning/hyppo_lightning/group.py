"""The ranks that train one replica together: that these have met, and no others."""

import os
from typing import Any

from hyppo.errors import StudyError
from hyppo.replica import Replica


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
    if replica.world_size == 1:
        return
    if trainer.world_size != replica.world_size:
        raise StudyError(
            f"this replica trains on {replica.world_size} ranks together, but the Trainer on {trainer.world_size} "
            f"({type(trainer.strategy).__name__}, devices={trainer.num_devices}, num_nodes={trainer.num_nodes}): leave "
            "out devices=, num_nodes= and strategy= of the Trainer, which takes what fits the group from its "
            "environment, or give it what fits"
        )
    from torch import distributed

    tokens: list[Any] = [None] * replica.world_size
    distributed.all_gather_object(tokens, os.environ.get("TORCHELASTIC_RUN_ID"))
    if len(set(tokens)) > 1:
        raise StudyError(
            f"the process group holds ranks of {len(set(tokens))} trainings (TORCHELASTIC_RUN_ID {tokens}): a script "
            "that sets MASTER_PORT or initialises torch.distributed itself must leave both to the Trainer"
        )
