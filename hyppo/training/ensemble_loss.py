"""The criterion of a trial's mean prediction, over the replicas that have ended: an objective for a separate process.

It reads whole predictions and imports whatever the criterion needs, a framework for example, so the process that asks
does not evaluate it.
"""

from collections.abc import Sequence

from hyppo.training.criterion import loss_of, unpack
from hyppo.training.predictions import combine
from hyppo.training.replica import Replica

DIRECTORIES, CRITERION = "directories", "criterion"


def ensemble_loss(directories: Sequence[str], criterion: bytes) -> float:
    """The packed `criterion` of the mean prediction of the replicas in `directories`.

    Raises
    ------
    StudyError
        The predictions are missing, or differ in shape.
    ObjectiveError
        The criterion cannot be loaded here, raises, or returns no number.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from hyppo.training.criterion import pack
    >>> from hyppo.training.predictions import Collection
    >>> folders = [tempfile.mkdtemp() for _ in range(2)]
    >>> for folder, value in zip(folders, (1.0, 3.0)):
    ...     kept = Collection()
    ...     kept.add([value], targets=[0.0])
    ...     _ = kept.save(Path(folder))
    >>> ensemble_loss(folders, pack(lambda prediction, targets: abs(prediction - targets).sum()))
    2.0
    """
    combined = combine(directories)
    return loss_of(unpack(criterion), combined.mean, combined.targets)


def evaluate(replica: Replica) -> float:
    """The same as a training: the arguments are the replica's parameters."""
    return ensemble_loss(replica.params[DIRECTORIES], replica.params[CRITERION])
