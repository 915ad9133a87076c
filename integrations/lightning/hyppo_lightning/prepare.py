"""Preparation of data: one training of a node at a time calls `prepare_data`."""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hyppo.training.replica import Replica


def lock_preparation(package: str, replica_of: Callable[[Any], Replica | None]) -> None:
    """Let one training per node at a time run `prepare_data`, so that none reads unfinished files of another.

    Within one training Lightning calls it on one rank while the others wait, but not for other trainings. A
    training that spans nodes takes no lock: two of them could wait for each other.

    Parameters
    ----------
    package : str
        "lightning.pytorch" or "pytorch_lightning".
    replica_of : callable
        The replica that a trainer trains, or None.
    """
    connector = import_module(f"{package}.trainer.connectors.data_connector")._DataConnector
    if hasattr(connector.prepare_data, "_hyppo"):
        return
    prepare = connector.prepare_data

    @functools.wraps(prepare)
    def locked(self: Any) -> None:
        replica = replica_of(self.trainer)
        if replica is None or self.trainer.local_rank != 0 or self.trainer.num_nodes > 1:
            prepare(self)
            return
        with replica.node_lock("prepare_data"):
            prepare(self)

    locked._hyppo = True  # type: ignore[attr-defined]
    connector.prepare_data = locked
