"""Dropout passes on disk: they come a batch at a time, all passes of it in turn, and are read whole."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyppo.training.predictions.output import Leaves, flatten


class Spool:
    """Dropout passes on disk until they are complete: they arrive batch by batch, all passes of a batch in turn.

    Writing needs the memory of one batch, reading that of one pass. The file has no name, and closing it frees its
    space.

    Examples
    --------
    >>> spool = Spool(Path(tempfile.gettempdir()))
    >>> for batch in ([[1.0], [5.0]], [[2.0], [6.0]]):
    ...     _ = list(spool.through(batch))
    >>> [one[""].tolist() for one in spool]
    [[1.0, 2.0], [5.0, 6.0]]
    >>> spool.close()
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as this object
        self._batches: list[list[tuple[int, tuple[str, ...]]]] = []  # pass -> (offset, paths) of its batches

    def through(self, passes: Iterable[Any]) -> Iterator[Any]:
        """Iterate over the passes of a batch, and store each one."""
        for number, one in enumerate(passes):
            leaves = flatten(one)
            if number == len(self._batches):
                self._batches.append([])
            self._batches[number].append((self._file.seek(0, 2), tuple(leaves)))
            for leaf in leaves.values():
                np.save(self._file, leaf, allow_pickle=False)
            yield one

    def __iter__(self) -> Iterator[Leaves]:
        """The complete arrays of each pass, by their path."""
        for batches in self._batches:
            parts: dict[str, list[np.ndarray[Any, Any]]] = {}
            for offset, paths in batches:
                self._file.seek(offset)
                for path in paths:
                    parts.setdefault(path, []).append(np.load(self._file, allow_pickle=False))
            yield {path: np.concatenate(leaves) for path, leaves in parts.items()}

    def close(self) -> None:
        self._file.close()
