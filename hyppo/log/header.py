"""The header of a study file: its study, without the events."""

import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hyppo._version import __version__
from hyppo.errors import LogError
from hyppo.space import Space


@dataclass(frozen=True)
class Header:
    """Description of a study in its file.

    Attributes
    ----------
    uuid : str
    space : str
        `Space.to_json()`.
    seed : int
        Root seed.
    config : dict
        JSON values: replicas, risk, surrogate, target and others that may change from one session to the next.
    created : float
        Unix seconds.
    version : str
        Version of hyppo that created the file.
    """

    uuid: str
    space: str
    seed: int
    config: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    version: str = __version__

    @staticmethod
    def new(space: Space, seed: int, config: dict[str, Any] | None = None) -> "Header":
        """Header of a study that begins now.

        >>> from hyppo.space import Real
        >>> Header.new(Space(lr=Real(0, 1)), seed=3).seed
        3
        """
        return Header(str(uuid.uuid4()), space.to_json(), seed, dict(config or {}), time.time())

    def refuse(self, other: "Header", path: Path, *, extend: bool = False) -> None:
        """Raise an error if `other`, which wants to go on with this header's file, is another study.

        Parameters
        ----------
        extend : bool
            Accept a space that differs in the ranges and values of its parameters.

        Raises
        ------
        LogError
            Another space (the message names the difference) or another root seed.
        """
        mine, wanted = Space.from_json(self.space), Space.from_json(other.space)
        difference = wanted.difference(mine)
        if difference and _kinds(mine) != _kinds(wanted):
            raise LogError(
                f"{path} is the log of another space ({difference}); a study keeps its parameters, their kinds and "
                "their order, and only ranges and values may change: give this study another file, and add the results "
                "that still hold with study.add(params, losses)"
            )
        if difference and not extend:
            raise LogError(
                f"{path} is the log of another space ({difference}); Study(..., extend=True) goes on with this space "
                "and keeps all trials, or give this study another file and add single results with "
                "study.add(params, losses)"
            )
        if self.seed != other.seed:
            raise LogError(
                f"{path} is the log of a study with seed={self.seed}, not {other.seed}; give this study another file"
            )
        folds, theirs = self.config.get("folds"), other.config.get("folds")
        if folds != theirs:
            raise LogError(
                f"{path} is the log of a study with folds={folds}, not {theirs}: its replicas had other folds; give "
                "this study another file"
            )

    def to_json(self) -> str:
        try:
            return json.dumps(asdict(self))
        except (TypeError, ValueError) as error:
            raise LogError(f"the study's configuration must be JSON values, got {self.config!r}: {error}") from None

    @staticmethod
    def from_json(text: str) -> "Header":
        return Header(**json.loads(text))


def _kinds(space: Space) -> list[tuple[str, type]]:
    """Name and kind of each parameter."""
    return [(name, type(parameter)) for name, parameter in space.parameters.items()]


def changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Differences between two configurations, in words; empty if they are equal."""
    return "; ".join(
        f"{name}: {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}"
        for name in dict.fromkeys((*old, *new))
        if name not in old or name not in new or old[name] != new[name]
    )
