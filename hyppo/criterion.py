"""The criterion: a loss of whole predictions, so of the replicas' mean prediction too.

symbol  meaning
l       criterion(mu, y): loss of the mean prediction
l_s     single losses: criterion(f_j, y) of every trained network, criterion(f_jn, y) of every dropout pass
u       sample standard deviation of the single losses, T (N + 1) of them; the interval is [l - 2u, l + 2u]

mu, f_j, f_jn, T and N are those of `hyppo.predictions`. A criterion is any callable of (prediction, targets), numpy
arrays over all validation examples, that returns a number; it need not be a mean over examples.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyppo.errors import ObjectiveError, StudyError

Criterion = Callable[[Any, Any], Any]

MEAN_LOSS, ENSEMBLE_LOSS = TARGETS = ("mean_loss", "ensemble_loss")


def pack(criterion: Criterion) -> bytes:
    """The criterion as it travels to a training process.

    Raises
    ------
    StudyError
        It holds something that cannot be pickled.

    Examples
    --------
    >>> unpack(pack(lambda prediction, targets: prediction - targets))(3.0, 1.0)
    2.0
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(criterion))
    except Exception as error:  # whatever an object's own pickling raises
        raise StudyError(
            f"criterion: {criterion!r} cannot be sent to a training process ({type(error).__name__}: {error}); "
            "define it as a function at the top level, and load inside it what cannot be pickled"
        ) from error


def unpack(packed: bytes) -> Criterion:
    """The criterion again.

    Raises
    ------
    ObjectiveError
        This process lacks something that it needs.
    """
    try:
        return pickle.loads(packed)  # type: ignore[no-any-return]
    except Exception as error:
        raise ObjectiveError(f"criterion= cannot be had in this process: {type(error).__name__}: {error}") from error


def loss_of(criterion: Criterion, prediction: Any, targets: Any) -> float:
    """criterion(prediction, targets) as a float.

    Raises
    ------
    ObjectiveError
        It raises, or returns no number.

    Examples
    --------
    >>> loss_of(lambda f, y: np.mean((f - y) ** 2), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    2.0
    """
    try:
        return float(criterion(prediction, targets))
    except Exception as error:
        shapes = [getattr(array, "shape", type(array).__name__) for array in (prediction, targets)]
        raise ObjectiveError(
            f"criterion(prediction, targets) with shapes {shapes[0]} and {shapes[1]} raised {type(error).__name__}: "
            f"{error}; it gets numpy arrays over all validation examples and returns one number"
        ) from error


class Spool:
    """Dropout passes on disk until they are whole: they come a batch at a time, all passes of it in turn.

    Memory is one batch while they come and one pass when they are read; the file has no name, and its blocks are free
    once it is closed.

    Examples
    --------
    >>> spool = Spool(Path(tempfile.gettempdir()))
    >>> for batch in ([[1.0], [5.0]], [[2.0], [6.0]]):
    ...     _ = list(spool.through(batch, lambda one: {"": np.array(one)}))
    >>> [one[""].tolist() for one in spool]
    [[1.0, 2.0], [5.0, 6.0]]
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as this object
        self._batches: list[list[tuple[int, tuple[str, ...]]]] = []  # pass -> (offset, paths) of its batches

    def through(self, passes: Iterable[Any], flatten: Callable[[Any], dict[str, Any]]) -> Iterator[Any]:
        """The same passes, each kept as it goes by."""
        for number, one in enumerate(passes):
            leaves = flatten(one)
            if number == len(self._batches):
                self._batches.append([])
            self._batches[number].append((self._file.seek(0, 2), tuple(leaves)))
            for leaf in leaves.values():
                np.save(self._file, leaf, allow_pickle=False)
            yield one

    def __iter__(self) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """Arrays of every pass, whole, by their path."""
        for batches in self._batches:
            parts: dict[str, list[np.ndarray[Any, Any]]] = {}
            for offset, paths in batches:
                self._file.seek(offset)
                for path in paths:
                    parts.setdefault(path, []).append(np.load(self._file, allow_pickle=False))
            yield {path: np.concatenate(leaves) for path, leaves in parts.items()}

    def close(self) -> None:
        self._file.close()
