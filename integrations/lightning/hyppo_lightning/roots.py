"""The default folder of a Trainer: the directory of the replica that it trains."""

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hyppo.training.replica import Replica


def redirect_roots(package: str, replica_among: Callable[[Any], Replica | None]) -> None:
    """Give each Trainer of a replica the replica's directory as `default_root_dir`, unless the user gives one.

    Lightning's default is the working directory, which parallel trainings share: loggers, checkpoints and
    LightningCLI's config.yaml of several trainings would mix.

    Parameters
    ----------
    package : str
        "lightning.pytorch" or "pytorch_lightning".
    replica_among : callable
        The replica of the HyppoCallback among callbacks, or None.
    """
    trainer = import_module(package).Trainer
    if hasattr(trainer.__init__, "_hyppo"):
        return
    init = trainer.__init__

    @functools.wraps(init)
    def redirected(self: Any, *args: Any, **kwargs: Any) -> None:
        replica = replica_among(kwargs.get("callbacks"))
        if replica is not None and kwargs.get("default_root_dir") is None:
            kwargs["default_root_dir"] = str(root_of(replica.directory))
        init(self, *args, **kwargs)

    redirected._hyppo = True  # type: ignore[attr-defined]
    trainer.__init__ = redirected


def root_of(directory: Path) -> Path:
    """`directory`, or a new folder in it: LightningCLI rejects a folder with the config.yaml of an earlier attempt."""
    root, count = directory, 1
    while (root / "config.yaml").exists():
        count += 1
        root = directory / f"attempt-{count}"
    return root
