"""The trained networks of a trial: what `load_ensemble` of every framework shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyppo.errors import StudyError, notify
from hyppo.text import error_line

if TYPE_CHECKING:
    from hyppo.trial import Trial


def networks_of(study: Any, number: int | None, keep: str) -> tuple["Trial", tuple[Path, ...]]:
    """A trial, by default the recommended one, and the files of its networks.

    Parameters
    ----------
    study : hyppo.Study
    number : int or None
    keep : str
        The call that keeps the networks of a training.

    Raises
    ------
    StudyError
        Not a study, no such trial, or one that left no networks.
    """
    from hyppo.study import Study

    if not isinstance(study, Study):
        raise StudyError(f"load_ensemble(study): expected a hyppo.Study, for example hyppo.load(path), got {study!r}")
    number = study.best.number if number is None else number
    paths = study.checkpoints(number)
    trial = study.trials[number]
    if trial.stats is None:
        raise StudyError(f"trial {number} has no loss and left no networks; it is {trial.state}")
    if not paths:
        raise StudyError(
            f"trial {number} has no checkpoints beside the study file: train with {keep} (by default they are kept up "
            "to 16 MiB), and keep the folder study.h5.d with the file"
        )
    return trial, paths


def network_does_not_load(path: Path, error: BaseException, remedy: str, into: str = "") -> StudyError:
    """The error of an ensemble that cannot load the network in `path`.

    >>> print(network_does_not_load(Path("weights.1"), ValueError("no\\nsuch layer"), "give build=", " in Keras 3.9"))
    weights.1 does not load in Keras 3.9: give build=; a damaged file has to be deleted, and the ensemble goes without \
it (ValueError: no such layer)
    """
    return StudyError(
        f"{path} does not load{into}: {remedy}; a damaged file has to be deleted, and the ensemble goes without it "
        f"({error_line(error)})"
    )


def possible_passes(passes: int, layers: Sequence[Any], network: str, hint: str = "") -> int:
    """`passes`, or none with a notice if a network has no layers that drop; the user's network is never changed.

    >>> possible_passes(20, ["dropout"], "Net"), possible_passes(0, [], "Net")
    (20, 0)
    """
    if not passes or layers:
        return passes
    notify(
        f"{network} has no active dropout layer: mc_dropout={passes} gives no passes, and the uncertainty comes from "
        f"the replicas alone{hint}",
        stacklevel=3,
    )
    return 0
